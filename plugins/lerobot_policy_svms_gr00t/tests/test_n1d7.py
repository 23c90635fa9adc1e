"""SVMS behind the backbone of LeRobot's own GR00T N1.7 (tiny, random weights), against the plain policy."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("lerobot")
pytest.importorskip("diffusers", reason="LeRobot's N1.7 needs diffusers and dm-tree: pip install 'lerobot[groot]'")
pytest.importorskip("tree", reason="LeRobot's N1.7 needs diffusers and dm-tree: pip install 'lerobot[groot]'")
from lerobot.datasets.factory import resolve_delta_timestamps
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies import make_policy, make_pre_post_processors
from lerobot.policies.groot.configuration_groot import GrootConfig
from lerobot.policies.groot.modeling_groot import GrootPolicy
from lerobot_policy_svms_gr00t import SvmsGr00tN1d7Config
from lerobot_policy_svms_gr00t.n1d7.modeling_n1d7 import SvmsGr00tN1d7Policy
from tiny_n1d7 import BLOCKS, CHUNK, LAYERS, tokenizer, write_base

from svms_gr00t import Labeler
from svms_gr00t.core.errors import CheckpointError, ConfigError, DataError
from svms_gr00t.data.labels.tokens import label_tokens
from svms_gr00t.data.loading.samples import negatives_over_positives

SMALL = {"d_stream": 16, "d_overlap": 8, "adapter_rank": 4, "aux_warmup_steps": 0}
Batch = dict[str, Any]
pytestmark = pytest.mark.usefixtures("tiny_processor")


def settings(n1d7: Path, **changes: Any) -> dict[str, Any]:
    fixed = {"base_model_path": str(n1d7), "device": "cpu", "push_to_hub": False, "use_bf16": False}
    return fixed | {"max_state_dim": 6, "max_action_dim": 6, "chunk_size": CHUNK, "n_action_steps": 4} | changes


def config(n1d7: Path, **changes: Any) -> SvmsGr00tN1d7Config:
    return SvmsGr00tN1d7Config(**settings(n1d7, **({"svms": SMALL} | changes)))


def opened(data: Path, chosen: GrootConfig) -> LeRobotDataset:
    meta = LeRobotDataset("local/toy", root=data, video_backend="pyav").meta
    times = resolve_delta_timestamps(chosen, meta)
    return LeRobotDataset("local/toy", root=data, video_backend="pyav", delta_timestamps=times)


def made(data: Path, chosen: GrootConfig) -> Any:
    return make_policy(chosen, ds_meta=opened(data, chosen).meta).eval()


def batch_of(data: Path, policy: GrootPolicy, *places: int, acting: bool = False) -> Batch:
    items = opened(data, policy.config)
    before, _ = make_pre_post_processors(policy.config, dataset_stats=items.meta.stats)
    batch = torch.utils.data.default_collate([items[i] for i in places])
    if acting:
        batch.pop("action")
    return before(batch)


def moved(policy: SvmsGr00tN1d7Policy) -> SvmsGr00tN1d7Policy:
    """What starts at zero moved, so that the streams count."""
    torch.manual_seed(1)
    policy.train()
    with torch.no_grad():
        for parameter in policy.svms.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return policy.eval()


@pytest.fixture
def policy(n1d7: Path, data: Path) -> SvmsGr00tN1d7Policy:
    return moved(made(data, config(n1d7)))


def seeded(call: Any) -> Any:
    torch.manual_seed(3)
    return call()


@pytest.mark.parametrize("bf16", [False, True])
def test_a_fresh_svms_is_the_plain_policy_to_the_bit(n1d7: Path, data: Path, bf16: bool) -> None:
    """Chunk and loss, with the same noise; in training too, where phase 3 trains the head with its dropout."""
    plain = made(data, GrootConfig(**settings(n1d7, use_bf16=bf16)))
    ours = made(data, config(n1d7, use_bf16=bf16, phase=3))
    batch, seen = batch_of(data, ours, 1, 9), batch_of(data, ours, 1, 9, acting=True)
    chunk = seeded(lambda: plain.predict_action_chunk(seen))
    assert chunk.shape == (2, 4, 4)
    assert torch.equal(chunk, seeded(lambda: ours.predict_action_chunk(seen)))
    for mode in (False, True):
        plain.train(mode)
        ours.train(mode)
        assert seeded(lambda: plain.forward(batch))[0].item() == seeded(lambda: ours.forward(batch))[1]["flow"]
    moved(ours)
    assert not torch.equal(chunk, seeded(lambda: ours.predict_action_chunk(seen)))


def test_plain_weights_load_with_only_svms_missing(n1d7: Path, data: Path, tmp_path: Path) -> None:
    plain = made(data, GrootConfig(**settings(n1d7)))
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(0.01)
    ours = made(data, config(n1d7))
    missing, unknown = ours.load_state_dict(plain.state_dict(), strict=False)
    assert (set(missing), unknown) == ({name for name in ours.state_dict() if name.startswith("svms.")}, [])
    plain.save_pretrained(tmp_path / "plain")
    again = SvmsGr00tN1d7Policy.from_pretrained(tmp_path / "plain")
    assert again.svms.streams.is_fresh
    batch = batch_of(data, ours, 2, acting=True)
    assert torch.equal(*(seeded(lambda p=p: p.predict_action_chunk(batch)) for p in (plain, again)))


def test_losses_are_those_of_the_streams_on_the_backbone_s_tokens(
    policy: SvmsGr00tN1d7Policy, n1d7: Path, data: Path
) -> None:
    plain, batch = made(data, GrootConfig(**settings(n1d7))), batch_of(data, policy, 1, 9)
    with torch.no_grad():
        seen = plain._groot_model.backbone(
            plain._groot_model.prepare_input(plain._filter_groot_inputs(batch, include_action=True))[0]
        )
        given = {"labels": batch["svms.labels"], "label_mask": batch["svms.label_mask"]}
        given["label_weight"] = batch["svms.label_weight"]
        tokens, mask, pictures = (
            seen[f"{name}"] for name in ("backbone_features", "backbone_attention_mask", "image_mask")
        )
        want = policy.svms.streams(tokens, mask, image_mask=pictures, **given)
    loss, told = policy.forward(batch)
    assert set(want.terms) == {"sheaf", "collapse", "balance", "aux"}
    for name, term in want.terms.items():
        assert told[name] == float(term), name
    weighed = sum(told[f"weight.{name}"] * told[name] for name in ("flow", *want.terms))
    assert loss.item() == pytest.approx(weighed, rel=1e-6)
    assert told["weight.aux"] > 0
    swapped = batch | {"svms.labels": 1 - batch["svms.labels"]}
    assert policy.forward(swapped)[1]["aux"] != told["aux"]
    with pytest.raises(DataError, match=r"batch: found no svms\.labels"):
        policy.forward({name: value for name, value in batch.items() if name != "svms.labels"})


def test_labels_lie_on_the_tokens_of_their_words(policy: SvmsGr00tN1d7Policy, data: Path) -> None:
    """As our own labels of the same tokenizer, though Qwen's prompt says pictures first; padding has none."""
    batch, words = batch_of(data, policy, 1, 14), tokenizer()
    for row, text in enumerate(("open the drawer", "open the door")):
        ids, mask = batch["input_ids"][row], batch["svms.label_mask"][row]
        found = [words.decode([int(i)]).strip() for i in ids[mask]]
        own = label_tokens(text, Ours(words), Labeler())[1]
        assert found == [token.piece.strip() for token in own]
        assert batch["svms.labels"][row][mask].tolist() == [list(map(float, token.labels.values())) for token in own]
        assert "".join(found) == text.replace(" ", "")
    assert batch["svms.label_weight"].tolist() == pytest.approx(policy_weight(words), rel=1e-6)
    assert "svms.labels" not in batch_of(data, policy, 1, acting=True)


class Ours:
    """Our protocol around a tokenizer of the tokenizers library."""

    def __init__(self, words: Any) -> None:
        self.encode = words.encode


def policy_weight(words: Any) -> list[float]:
    """Negatives over positives by hand: two drawers of 12 and 9 steps, a door of 7."""
    rows = []
    for text, steps in (("open the drawer", 21), ("open the door", 7)):
        rows += [list(token.labels.values()) for token in label_tokens(text, Ours(words), Labeler())[1]] * steps
    total = torch.tensor(rows, dtype=torch.float32)
    return negatives_over_positives(total.sum(0), float(len(total))).tolist()


@pytest.mark.parametrize("phase", [1, 2, 3])
def test_gradients_reach_exactly_what_the_phase_trains(n1d7: Path, data: Path, phase: int) -> None:
    ours = moved(made(data, config(n1d7, phase=phase))).train()
    ours.forward(batch_of(data, ours, 1, 9))[0].backward()
    reached = {name for name, p in ours.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    head, layer = "_groot_model.action_head.", "_groot_model.backbone.model.model.language_model.layers."
    first = tuple(f"{head}model.transformer_blocks.{i}." for i in range(BLOCKS // 4))
    parts = {1: ("svms.",), 2: ("svms.", *first), 3: ("svms.", head, f"{layer}{LAYERS - 1}.")}[phase]
    assert reached <= {name for name, _ in ours.named_parameters() if name.startswith(parts)}
    unread = {name for name, p in ours.named_parameters() if name.startswith(parts)} - reached
    assert unread == set(), unread
    assert {id(p) for group in ours.get_optim_params() for p in group["params"]} == {
        id(p) for name, p in ours.named_parameters() if name.startswith(parts)
    }
    assert not ours._groot_model.backbone.visual.training
    assert ours._groot_model.action_head.training == (phase > 1)


def test_a_delta_holds_svms_alone_and_comes_back_to_the_bit(
    policy: SvmsGr00tN1d7Policy, n1d7: Path, data: Path, tmp_path: Path
) -> None:
    policy.config.delta = True
    policy.save_pretrained(tmp_path / "delta")
    files = {file.name for file in (tmp_path / "delta").iterdir()}
    assert files == {"config.json", "svms.json", "svms.safetensors"}
    held = load_file(tmp_path / "delta" / "svms.safetensors")
    assert held.keys() == {name for name in policy.state_dict() if name.startswith("svms.")}
    again = SvmsGr00tN1d7Policy.from_pretrained(tmp_path / "delta")
    mine, its = policy.state_dict(), again.state_dict()
    assert [name for name, value in mine.items() if not torch.equal(value.nan_to_num(), its[name].nan_to_num())] == []
    batch = batch_of(data, policy, 5, acting=True)
    assert torch.equal(*(seeded(lambda p=p: p.predict_action_chunk(batch)) for p in (policy, again)))


def test_a_delta_refuses_another_base_and_a_policy_that_left_its_own(
    policy: SvmsGr00tN1d7Policy, tmp_path: Path
) -> None:
    policy.config.delta = True
    policy.save_pretrained(tmp_path / "delta")
    other = replace(policy.config, base_model_path=str(write_base(tmp_path / "other", seed=1)))
    with pytest.raises(
        CheckpointError, match=r"different: .*, but need the base that this delta was trained on"
    ) as told:
        SvmsGr00tN1d7Policy.from_pretrained(tmp_path / "delta", config=other)
    assert "\n" not in str(told.value)
    wide = replace(policy.config, svms=SMALL | {"d_stream": 24})
    with pytest.raises(CheckpointError, match=r"\d+ of another shape: .*, but need the tensors of this policy"):
        SvmsGr00tN1d7Policy.from_pretrained(tmp_path / "delta", config=wide)
    with torch.no_grad():
        policy._groot_model.action_head.vlln.weight[0] += 1e-3
    with pytest.raises(CheckpointError, match=r"1 tensors that are not the base's: action_head\.vlln\.weight"):
        policy.save_pretrained(tmp_path / "again")
    policy.config.delta = False
    with pytest.raises(CheckpointError, match="a delta, but need a new folder"):
        policy.save_pretrained(tmp_path / "delta")


def test_what_does_not_fit_is_one_sentence(n1d7: Path) -> None:
    for changes, sentence in (
        ({"phase": 4}, r"policy\.phase = 4, but need 1, 2 or 3"),
        ({"phase": 2, "delta": True}, "but need phase 1"),
        ({"tune_llm": True}, r"policy\.tune_llm = True, but need False"),
        ({"svms": {"d_steam": 3}}, "d_steam = 3, but need a key of SVMS. did you mean d_stream"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            config(n1d7, **changes)
    with pytest.raises(CheckpointError, match="NVIDIA's own files, but need a policy that LeRobot saved"):
        SvmsGr00tN1d7Policy.from_pretrained(n1d7)
