"""`checkpoint verify` on cases of many shapes: recorded from the plain form in float64, run lean in float32."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from groot_tiny import IMAGE, tiny_config
from safetensors.torch import load_file, save_file

from svms_gr00t.cli.main import main
from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.groot.action_head import PLAIN
from svms_gr00t.groot.checkpoint.golden import PlainGr00t, compare, run_case
from svms_gr00t.groot.checkpoint.saving import save_checkpoint

Sizes = list[list[tuple[int, int]]]
SHAPES: dict[str, tuple[Sizes, dict[str, Any]]] = {
    "one row, one view": ([[(28, 28)]], {}),
    "four rows, up to five views": (
        [[(28, 28)] * 5, [(56, 84)], [(84, 56), (28, 140)], [(56, 56), (28, 28), (56, 56)]],
        {"max_num_embodiments": 7},
    ),
    "larger than the position grid": ([[(252, 336)], [(252, 28)]], {"action_horizon": 8}),
    "long chunk, wide numbers": (
        [[(56, 56)], [(56, 56)]],
        {"action_horizon": 50, "max_seq_len": 64, "max_action_dim": 40},
    ),
    "eight steps, coarse time": ([[(28, 56)]], {"num_inference_timesteps": 8, "num_timestep_buckets": 100}),
    "text every third block": ([[(28, 56)], [(28, 28)]], {"attend_text_every_n_blocks": 3, "dit": {"num_layers": 12}}),
    "no vlln, no positions": ([[(28, 56)]], {"use_vlln": False, "add_pos_embed": False}),
    "mask token": ([[(28, 56)]], {"state_dropout_prob": 0.3}),
    "plain DiT": ([[(28, 56)], [(56, 28)]], {"use_alternate_vl_dit": False}),
    "cross blocks only": (
        [[(28, 56)]],
        {"use_alternate_vl_dit": False, "dit": {"interleave_self_attention": False, "num_layers": 3}},
    ),
    "text alone in one row": ([[(28, 56)], []], {}),
    "a kept layer more": ([[(28, 28)]], {"select_layer": 4}),
}


def make_case(folder: Path, sizes: Sizes, changes: dict[str, Any]) -> Path:
    """Record what our plain form computes in float64 as a golden case in float32."""
    config, gen = tiny_config(**changes), torch.Generator().manual_seed(len(sizes))
    rows = [[7, *(x for h, w in row for x in [8, *[IMAGE] * (h * w // 784)]), 9, 5] for row in sizes]
    width = max(map(len, rows)) + (0 if "use_alternate_vl_dit" in changes else 2)
    ids = torch.tensor([[3] * (width - len(row)) + row for row in rows])
    batch, h, a = len(rows), config.action_horizon, config.max_action_dim
    flat = [size for row in sizes for size in row]
    inputs = {f"pixel_values.{i}": torch.rand(1, 3, *size, generator=gen) * 2 - 1 for i, size in enumerate(flat)}
    inputs |= {"input_ids": ids, "attention_mask": (ids != 3).long()}
    inputs["state"] = torch.randn(batch, 1, config.max_state_dim, generator=gen)
    inputs |= {name: torch.randn(batch, h, a, generator=gen) for name in ("action", "noise", "sample_noise")}
    inputs["action_mask"] = (torch.rand(batch, h, a, generator=gen) > 0.3).float()
    inputs["embodiment_id"] = torch.arange(batch) % config.max_num_embodiments
    inputs["time"] = torch.rand(batch, generator=gen) * 0.999
    model = PlainGr00t(config).eval()
    save_checkpoint(model, config, folder)
    model.double().action_head.shortcuts = PLAIN
    model.action_head.model.mask_padding = False
    exact = {n: v.double() if v.is_floating_point() and n != "time" else v for n, v in inputs.items()}
    with torch.no_grad():
        outputs = run_case(model, exact)
    save_file(inputs, folder / "inputs.safetensors")
    kept = {n: (v.float() if v.is_floating_point() else v).clone().contiguous() for n, v in outputs.items()}
    save_file(kept, folder / "outputs.safetensors")
    return folder


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_agrees(tmp_path, shape):
    """To 1e-5 of an output's largest number, or of 1: what float32 rounds off follows the size of the numbers.

    The weights are random, and transformers 5.5 draws others from the same seed than 5.23. In six draws each of "long
    chunk, wide numbers", whose DiT states reach 8, the largest gap was 1.7e-5, and 3.8e-6 of the output's largest.
    """
    case = make_case(tmp_path / "case", *SHAPES[shape])
    gaps = compare(case)
    largest = {
        name: float(value.double().abs().max()) for name, value in load_file(case / "outputs.safetensors").items()
    }
    assert {name: gap for name, gap in gaps.items() if gap > 1e-5 * max(1.0, largest[name])} == {}
    assert {"sampled_actions", "loss", "backbone_features"} <= gaps.keys()


def run(*args: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["checkpoint", "verify", *(str(arg) for arg in args)])
    return int(stopped.value.code or 0)


def rewrite(file: Path, **changes: torch.Tensor | None) -> None:
    tensors = load_file(file) | {name: value for name, value in changes.items() if value is not None}
    save_file({n: v.clone() for n, v in tensors.items() if changes.get(n, v) is not None}, file)


def test_a_moved_or_absent_tensor_fails_and_the_json_stays_json(tmp_path, capsys):
    good = make_case(tmp_path / "good", *SHAPES["one row, one view"])
    bad = make_case(tmp_path / "bad", *SHAPES["one row, one view"])
    assert run(good, bad, "--json") == 0
    capsys.readouterr()
    loss = load_file(bad / "outputs.safetensors")["loss"]
    rewrite(bad / "outputs.safetensors", loss=loss + 1e-3, surprise=torch.ones(2), state_features=torch.ones(5))
    assert run(good, bad, "--json") == 1
    said = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert not said["passed"]
    assert said["cases"][str(bad)]["loss"] == pytest.approx(1e-3, rel=0.1)
    assert said["cases"][str(bad)]["surprise"] is None
    assert said["cases"][str(bad)]["state_features"] is None
    assert max(said["cases"][str(good)].values()) <= 1e-5
    assert run(bad) == 1
    assert "FAIL at tolerance 1e-05" in capsys.readouterr().out


def spoil(name: str) -> Any:
    return lambda case: (case / name).unlink()


BROKEN = {
    "config": (spoil("config.json"), r"config\.json: found no such file"),
    "model": (spoil("model.safetensors"), "no weights"),
    "inputs": (spoil("inputs.safetensors"), r"inputs\.safetensors: found no such file"),
    "outputs": (spoil("outputs.safetensors"), r"outputs\.safetensors: found no such file"),
    "cut inputs": (lambda c: (c / "inputs.safetensors").write_bytes(b"\x05"), "broken file"),
    "an input": (
        lambda c: rewrite(c / "inputs.safetensors", noise=None, state=None),
        "found no state, noise, but need",
    ),
    "an image": (
        lambda c: rewrite(c / "inputs.safetensors", **{"pixel_values.0": None}),
        "0 image tokens from 0 images",
    ),
    "a weight": (
        lambda c: rewrite(c / "model.safetensors", **{"action_head.vlln.weight": None}),
        r"1 missing: action_head\.vlln\.weight",
    ),
    "every output": (lambda c: save_file({}, c / "outputs.safetensors"), "nothing to compare"),
}


@pytest.mark.parametrize("part", BROKEN)
def test_a_case_that_lacks_something_says_what(tmp_path, part, capsys):
    case = make_case(tmp_path / "case", *SHAPES["one row, one view"])
    change, message = BROKEN[part]
    change(case)
    with pytest.raises(Exception, match=message):
        compare(case)
    assert run(case) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_no_case_is_no_pass(tmp_path):
    assert run() == 2
    with pytest.raises(CheckpointError, match=r"config\.json"):
        compare(tmp_path / "nowhere")
