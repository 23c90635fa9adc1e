"""Checkpoints from and to a hub on loopback, through huggingface_hub's own code; strict loading and deltas as ever."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from groot_tiny import tiny_config
from hub_stand_in import TOKEN, HubStandIn, Repository, hub_on_loopback
from huggingface_hub import ModelCard, ModelHubMixin

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.groot.checkpoint.delta import read_delta
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.policy import Policy

BASE = Path(__file__).parents[3] / "src" / "svms_gr00t" / "assets" / "tiny_base"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with hub_on_loopback(monkeypatch) as hub:
        yield hub


@pytest.fixture
def cache(tmp_path: Path) -> dict[str, Path]:
    return {"cache_dir": tmp_path / "cache"}


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def moved(folder: Path, by: float) -> Gr00tN1d6:
    model = Gr00tN1d6.from_pretrained(folder)
    with torch.no_grad():
        model.action_head.vlln.weight.add_(by)
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Gr00tN1d6(tiny_config()).save_pretrained(tmp_path / "base")


def test_a_model_goes_to_the_hub_and_comes_back_to_the_bit(hub, cache, folder):
    model = Gr00tN1d6.from_pretrained(folder)
    assert isinstance(model, ModelHubMixin)
    commit = model.push_to_hub("me/robot", token=TOKEN, private=True, commit_message="First")
    pushed = hub.repositories["me/robot"]
    assert pushed.private
    assert commit.oid == list(pushed.commits)[-1]
    held = pushed.commits[commit.oid]
    assert held.keys() == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    assert held["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    again = Gr00tN1d6.from_pretrained("me/robot", token=TOKEN, **cache)
    assert same(again, model)
    assert again.base == "me/robot"
    assert not again.training


def test_the_card_claims_no_result_unless_one_is_given(hub, folder, tmp_path):
    model = Gr00tN1d6.from_pretrained(folder)
    model.push_to_hub("me/robot", token=TOKEN)
    text = list(hub.repositories["me/robot"].commits.values())[-1]["README.md"].decode()
    card = ModelCard(text)
    assert "Not measured." in text
    assert 'Gr00tN1d6.from_pretrained("me/robot")' in text
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in text
    assert (card.data.license, card.data.library_name, card.data.base_model) == ("other", "svms-gr00t", None)
    assert str(tmp_path) not in text  # the folder that it was loaded from is nobody's business
    (tmp_path / "card.md").write_text("---\nlicense: mit\n---\n\n# Measured\n")
    model.push_to_hub("me/robot", token=TOKEN, card=tmp_path / "card.md")
    assert b"# Measured" in list(hub.repositories["me/robot"].commits.values())[-1]["README.md"]
    assert not (model.save_pretrained(tmp_path / "plain") / "README.md").exists()


def test_a_revision_is_the_one_asked_for(hub, cache, folder, tmp_path):
    robot = hub.repositories["me/robot"] = Repository()
    first = robot.commit(files_of(folder))
    robot.commit(files_of(moved(folder, 1.0).save_pretrained(tmp_path / "second")))
    newest = Gr00tN1d6.from_pretrained("me/robot", **cache)
    older = Gr00tN1d6.from_pretrained("me/robot", revision=first, **cache)
    assert torch.equal(newest.action_head.vlln.weight, older.action_head.vlln.weight + 1)
    assert same(older, Gr00tN1d6.from_pretrained(folder))
    with pytest.raises(CheckpointError, match="no revision 'v9'"):
        Gr00tN1d6.from_pretrained("me/robot", revision="v9", **cache)


def test_local_files_only_never_asks_the_network(hub, cache, folder):
    hub.repositories["me/robot"] = Repository()
    hub.repositories["me/robot"].commit(files_of(folder))
    with pytest.raises(CheckpointError, match="cache_dir holds no copy"):
        Gr00tN1d6.from_pretrained("me/robot", local_files_only=True, **cache)
    assert hub.asked == []
    model = Gr00tN1d6.from_pretrained("me/robot", **cache)
    del hub.asked[:]
    assert same(Gr00tN1d6.from_pretrained("me/robot", local_files_only=True, **cache), model)
    assert hub.asked == []


@pytest.mark.parametrize(("token", "fine"), [(TOKEN, True), ("hf_reader", False), (False, False)])
def test_a_private_repository_needs_its_token(hub, cache, folder, token, fine):
    hub.repositories["me/robot"] = Repository(private=True)
    hub.repositories["me/robot"].commit(files_of(folder))
    if fine:
        assert same(Gr00tN1d6.from_pretrained("me/robot", token=token, **cache), Gr00tN1d6.from_pretrained(folder))
        return
    with pytest.raises(CheckpointError, match="no repository to download") as caught:
        Gr00tN1d6.from_pretrained("me/robot", token=token, **cache)
    assert "hf_" not in str(caught.value)


@pytest.mark.parametrize("token", ["hf_reader", False])
def test_a_refused_upload_is_one_sentence(hub, folder, token):
    with pytest.raises(CheckpointError, match=r"me/robot: found no way to write there .*pass token="):
        Gr00tN1d6.from_pretrained(folder).push_to_hub("me/robot", token=token)
    assert hub.repositories == {}
    with pytest.raises(CheckpointError, match="no way to write there"):
        Gr00tN1d6.from_pretrained(folder).push_to_hub("not a/name/at all", token=TOKEN)


def test_loading_from_the_hub_is_as_strict_as_from_a_folder(hub, cache, folder):
    files = files_of(folder)
    config = json.loads(files["config.json"])
    hub.repositories["me/robot"] = Repository()
    hub.repositories["me/robot"].commit(files | {"config.json": json.dumps(config | {"select_layer": 4}).encode()})
    with pytest.raises(CheckpointError, match="11 missing"):
        Gr00tN1d6.from_pretrained("me/robot", **cache)


def test_a_delta_on_the_hub_finds_the_state_of_its_base_that_it_was_trained_on(hub, cache, folder, tmp_path):
    base = hub.repositories["nvidia/base"] = Repository()
    first = base.commit(files_of(folder))
    model = Gr00tN1d6.from_pretrained("nvidia/base", **cache)
    with torch.no_grad():
        model.action_head.vlln.weight.add_(0.5)
    model.save_delta(tmp_path / "delta")
    assert read_delta(tmp_path / "delta").revision == first
    assert (read_delta(tmp_path / "delta").source, read_delta(tmp_path / "delta").relative) == ("nvidia/base", None)
    base.commit(files_of(moved(folder, 1.0).save_pretrained(tmp_path / "moved")))  # the base goes on
    hub.repositories["me/delta"] = Repository()
    hub.repositories["me/delta"].commit(files_of(tmp_path / "delta"))
    shutil.rmtree(cache["cache_dir"])
    again = Gr00tN1d6.from_pretrained("me/delta", **cache)
    assert same(again, model)
    assert again.base == "nvidia/base"
    again.save_delta(tmp_path / "second")
    assert read_delta(tmp_path / "second").digests == read_delta(tmp_path / "delta").digests
    newer = Gr00tN1d6.from_pretrained("nvidia/base", **cache)
    assert torch.equal(newer.action_head.vlln.weight, model.action_head.vlln.weight + 0.5)
    with pytest.raises(CheckpointError, match="1 different"):
        Gr00tN1d6.from_pretrained("me/delta", base="nvidia/base", **cache)  # the newest, as asked


def test_a_policy_goes_with_its_processor_and_acts_the_same(hub, cache):
    policy = Policy.from_pretrained(BASE)
    policy.push_to_hub("me/policy", token=TOKEN)
    held = list(hub.repositories["me/policy"].commits.values())[-1]
    assert {"processor_config.json", "statistics.json", "embodiment_id.json", "README.md"} <= held.keys()
    assert 'Policy.from_pretrained("me/policy")' in held["README.md"].decode()
    again = Policy.from_pretrained("me/policy", **cache)
    assert same(again.model, policy.model)
    assert again.model.base == "me/policy"
    assert again.processor.config == policy.processor.config
