"""Delta checkpoints: only what changed is stored, the base is known by its bytes, and nothing half-written is left."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from groot_tiny import ragged_batch, tiny_config
from safetensors.torch import load_file, save_file

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.groot.checkpoint.delta import digests, find_base, fingerprint, read_delta, save_delta, used_tensors
from svms_gr00t.groot.checkpoint.saving import save_checkpoint
from svms_gr00t.groot.checkpoint.tensors import header
from svms_gr00t.model import Gr00tN1d6

SVMS = {"use_sheaf_streams": True, "d_stream": 16, "d_overlap": 8, "adapter_rank": 4}
BANK = "action_head.state_encoder.layer1.W"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return Gr00tN1d6(tiny_config()).save_pretrained(tmp_path / "base")


@pytest.fixture
def trained(base: Path) -> Gr00tN1d6:
    """SVMS, one DiT block and one embodiment row moved away from the base."""
    model = Gr00tN1d6.from_pretrained(base, config=tiny_config(**SVMS))
    with torch.no_grad():
        for p in [*model.svms.parameters(), *model.action_head.model.transformer_blocks[1].parameters()]:
            p.add_(0.01 * torch.randn_like(p))
        for bank in model.action_head.banks():
            bank.W[1] += 0.01
    return model.train().eval()  # as training ends: the spectral bound follows the final maps


def same(a: Gr00tN1d6, b: Gr00tN1d6) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(v, theirs[n]) for n, v in ours.items())


def change(base: Path, name: str = "backbone.model.mlp1.1.bias") -> None:
    tensors = load_file(base / "model.safetensors")
    tensors[name].view(-1)[-1] += 1e-3
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})


def test_a_delta_on_its_base_is_the_trained_model_to_the_bit(trained, base, tmp_path):
    trained.save_delta(tmp_path / "delta")
    again = Gr00tN1d6.from_pretrained(tmp_path / "delta")
    assert same(again, trained)
    assert again.config == trained.config
    batch, noise = ragged_batch(torch.float32), torch.ones(3, 4, 5)
    assert torch.equal(again.sample(batch, noise=noise).action, trained.sample(batch, noise=noise).action)
    assert not same(Gr00tN1d6.from_pretrained(base, config=trained.config), trained)


@pytest.mark.parametrize("kind", ["whole", "delta"])
def test_lambda_follows_the_maps_of_a_file_that_was_saved_in_training(base, tmp_path, kind):
    """The optimiser steps after λ was measured: the saved λ is that of smaller maps."""
    model = Gr00tN1d6.from_pretrained(base, config=tiny_config(**SVMS)).train()
    with torch.no_grad():
        model.svms.delta.up.mul_(5)
    if kind == "whole":
        model.save_pretrained(tmp_path / "saved")
    else:
        model.save_delta(tmp_path / "saved")
    loaded = Gr00tN1d6.from_pretrained(tmp_path / "saved").svms
    assert loaded.diffusion.lambda_max.item() == pytest.approx(25 * model.svms.diffusion.lambda_max.item(), rel=1e-4)


def test_only_what_changed_is_stored(trained, base, tmp_path):
    delta = trained.save_delta(tmp_path / "delta")
    stored = load_file(tmp_path / "delta" / "delta.safetensors")
    plain = {name for name in stored if not name.startswith("svms.")}
    banks = {f"action_head.{n}.W" for n, m in trained.action_head.named_modules() if m in trained.action_head.banks()}
    assert plain - banks == {n for n in trained.state_dict() if n.startswith("action_head.model.transformer_blocks.1.")}
    assert banks <= plain
    assert delta.rows == dict.fromkeys(sorted(banks), (1,)) | {k: v for k, v in delta.rows.items() if k not in banks}
    assert stored[BANK].shape == (1, *trained.state_dict()[BANK].shape[1:])
    assert not (tmp_path / "delta" / "model.safetensors").exists()  # other loaders must not take it for a model


def test_an_untrained_model_has_an_empty_delta(base, tmp_path):
    Gr00tN1d6.from_pretrained(base).save_delta(tmp_path / "delta")
    assert load_file(tmp_path / "delta" / "delta.safetensors") == {}
    assert same(Gr00tN1d6.from_pretrained(tmp_path / "delta"), Gr00tN1d6.from_pretrained(base))


@pytest.mark.parametrize(
    "name", ["backbone.model.mlp1.1.bias", BANK, "action_head.model.transformer_blocks.1.attn1.to_q.weight"]
)
def test_a_base_with_one_other_number_is_refused(trained, base, tmp_path, name):
    trained.save_delta(tmp_path / "delta")
    change(base, name)
    with pytest.raises(CheckpointError, match=f"1 different: {name}.*trained on"):
        Gr00tN1d6.from_pretrained(tmp_path / "delta")


def test_a_base_of_other_sizes_or_another_type_is_refused(trained, base, tmp_path):
    trained.save_delta(tmp_path / "delta")
    other = Gr00tN1d6(tiny_config(max_action_dim=7)).save_pretrained(tmp_path / "other")
    low = Gr00tN1d6.from_pretrained(base).bfloat16().save_pretrained(tmp_path / "low")
    for wrong in (other, low):
        with pytest.raises(CheckpointError, match="different") as refused:
            Gr00tN1d6.from_pretrained(tmp_path / "delta", base=wrong)
        assert "\n" not in str(refused.value)


def test_shards_metadata_and_unused_tensors_do_not_make_another_base(trained, base, tmp_path):
    trained.save_delta(tmp_path / "delta")
    copy = tmp_path / "copy"
    save_checkpoint(Gr00tN1d6.from_pretrained(base), tiny_config(), copy, shard_bytes=20_000)
    index = json.loads((copy / "model.safetensors.index.json").read_text())
    save_file({"backbone.model.language_model.lm_head.weight": torch.ones(3)}, copy / "more.safetensors")
    index["weight_map"]["backbone.model.language_model.lm_head.weight"] = "more.safetensors"
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    shutil.rmtree(base)
    assert same(Gr00tN1d6.from_pretrained(tmp_path / "delta", base=copy), trained)


def test_a_moved_pair_finds_its_base_and_a_lone_delta_asks_for_it(trained, base, tmp_path):
    trained.save_delta(tmp_path / "delta")
    (tmp_path / "elsewhere").mkdir()
    for name in ("base", "delta"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    delta = read_delta(tmp_path / "elsewhere" / "delta")
    assert find_base(delta).resolve() == (tmp_path / "elsewhere" / "base").resolve()
    shutil.rmtree(tmp_path / "elsewhere" / "base")
    with pytest.raises(CheckpointError, match=r"not here.*base="):
        Gr00tN1d6.from_pretrained(tmp_path / "elsewhere" / "delta")


def test_a_delta_takes_the_type_of_its_base(base, tmp_path):
    low = Gr00tN1d6.from_pretrained(base).bfloat16().save_pretrained(tmp_path / "low")
    model = Gr00tN1d6.from_pretrained(low, config=tiny_config(**SVMS), dtype=torch.float32)
    with torch.no_grad():
        model.action_head.vlln.weight.mul_(1 + 2**-20)  # below bfloat16's resolution, and still a change
    model.save_delta(tmp_path / "delta")
    stored = header(tmp_path / "delta" / "delta.safetensors")
    assert {n for n in stored if not n.startswith("svms.")} == {"action_head.vlln.weight"}
    assert stored["action_head.vlln.weight"].dtype == torch.float32
    again = Gr00tN1d6.from_pretrained(tmp_path / "delta")
    assert {p.dtype for p in again.parameters()} == {torch.bfloat16}
    assert same(Gr00tN1d6.from_pretrained(tmp_path / "delta", dtype=torch.float32), model)


def test_a_broken_delta_is_named(trained, tmp_path):
    trained.save_delta(tmp_path / "delta")
    file = tmp_path / "delta" / "delta.json"
    whole = json.loads(file.read_text())
    name = next(iter(whole["base"]["tensors"]))
    broken = {
        "broken JSON": "{",
        "update svms-gr00t": whole | {"version": 2},
        "fingerprint": whole | {"base": whole["base"] | {"tensors": whole["base"]["tensors"] | {name: "0" * 16}}},
        "rows of": whole | {"rows": {BANK: [0, 1]}},
    }
    for message, content in broken.items():
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(CheckpointError, match=message):
            Gr00tN1d6.from_pretrained(tmp_path / "delta")


def test_deltas_do_not_stack_and_need_a_base(trained, tmp_path):
    delta = tmp_path / "delta"
    trained.save_delta(delta)
    with pytest.raises(CheckpointError, match="merge it first"):
        trained.save_delta(tmp_path / "second", base=delta)
    with pytest.raises(CheckpointError, match="not loaded from a checkpoint"):
        Gr00tN1d6(tiny_config()).save_delta(tmp_path / "third")
    with pytest.raises(CheckpointError, match="a delta to put on a base"):
        Gr00tN1d6.from_pretrained(tmp_path / "base", base=tmp_path / "base")
    with pytest.raises(CheckpointError, match="the model has otherwise"):
        save_delta(Gr00tN1d6(tiny_config(max_action_dim=7)).state_dict(), tiny_config(), delta, base=tmp_path / "base")
    assert same(Gr00tN1d6.from_pretrained(delta), trained)  # the refused save has not touched the old one


def test_an_interrupted_save_leaves_the_old_delta(trained, tmp_path, monkeypatch):
    trained.save_delta(tmp_path / "delta")
    before = (tmp_path / "delta" / "delta.safetensors").read_bytes()

    def fail(tensors, file, metadata):
        raise OSError("disk full")

    monkeypatch.setattr("svms_gr00t.groot.checkpoint.saving.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        trained.save_delta(tmp_path / "delta")
    assert (tmp_path / "delta" / "delta.safetensors").read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"base", "delta"}


def test_a_merged_delta_is_a_delta_of_nothing(trained, base, tmp_path):
    trained.save_delta(tmp_path / "delta")
    merged = Gr00tN1d6.from_pretrained(tmp_path / "delta").save_pretrained(tmp_path / "merged")
    shutil.rmtree(base)
    assert same(Gr00tN1d6.from_pretrained(merged), trained)


def test_the_fingerprint_sees_names_types_shapes_and_bytes(tmp_path):
    def of(**tensors) -> str:
        save_file({name: value.clone() for name, value in tensors.items()}, tmp_path / "x.safetensors")
        return fingerprint(digests(header(tmp_path / "x.safetensors")))

    values = torch.arange(4.0)
    first = of(a=values, b=values)
    assert of(b=values, a=values) == first
    variants = [of(a=values, c=values), of(a=values, b=values.int()), of(a=values, b=values.view(2, 2))]
    variants.append(of(a=values, b=values.flip(0)))
    assert len({first, *variants}) == 5


def test_large_tensors_are_compared_in_pieces(trained, base, tmp_path, monkeypatch):
    trained.save_delta(tmp_path / "whole")
    monkeypatch.setattr("svms_gr00t.groot.checkpoint.tensors.CHUNK_BYTES", 56)  # 14 numbers: pieces end inside rows
    trained.save_delta(tmp_path / "delta")
    assert read_delta(tmp_path / "delta").digests == read_delta(tmp_path / "whole").digests
    assert read_delta(tmp_path / "delta").rows == read_delta(tmp_path / "whole").rows
    assert same(Gr00tN1d6.from_pretrained(tmp_path / "delta", dtype=torch.float32), trained)
    assert used_tensors(base).keys() == Gr00tN1d6(tiny_config()).state_dict().keys()


def test_a_base_from_the_hub_is_remembered_by_its_id(base, tmp_path, monkeypatch):
    """The cache stands in for the network: `snapshot_download` is asked for the id and answers with a folder."""
    asked = []

    def download(name: str, **options) -> str:
        asked.append((name, options["local_files_only"]))
        return str(base)

    monkeypatch.setattr("svms_gr00t.groot.checkpoint.hub.snapshot_download", download)
    model = Gr00tN1d6.from_pretrained("someone/robot")
    delta = model.save_delta(tmp_path / "delta")
    assert (delta.source, delta.relative) == ("someone/robot", None)
    again = Gr00tN1d6.from_pretrained(tmp_path / "delta")
    assert again.base == "someone/robot"
    assert asked[-1] == ("someone/robot", True)  # what is here already is not downloaded again
    assert same(again, model)
