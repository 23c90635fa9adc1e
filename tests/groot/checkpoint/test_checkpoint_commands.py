"""`checkpoint inspect`, `delta` and `merge`: what a user sees and gets, and the exit codes."""

import json
import math
import shutil
import struct
from pathlib import Path

import pytest
import torch
from groot_tiny import tiny_config
from huggingface_hub.utils import SafetensorsFileMetadata, SafetensorsRepoMetadata, TensorInfo
from safetensors.torch import load_file, save_file

from svms_gr00t.cli.main import main
from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.groot.checkpoint.delta import base_and_delta
from svms_gr00t.groot.checkpoint.loading import weight_files
from svms_gr00t.groot.checkpoint.rounding import rounding
from svms_gr00t.groot.checkpoint.summary import summarise
from svms_gr00t.groot.checkpoint.tensors import header
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6, tensor_shapes

ASSETS = Path(__file__).parents[3] / "src" / "svms_gr00t" / "assets"
SVMS = {"use_sheaf_streams": True, "d_stream": 16, "d_overlap": 8, "adapter_rank": 4}


def run(*args: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["checkpoint", *(str(arg) for arg in args)])
    return int(stopped.value.code or 0)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return Gr00tN1d6(tiny_config()).save_pretrained(tmp_path / "base")


def write_hollow(file: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A bfloat16 file with a header and a hole where the values would be."""
    entries, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    head = json.dumps(entries).encode()
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", len(head)) + head)
        opened.truncate(8 + len(head) + end)


def test_inspect_counts_the_released_model_without_its_weights(tmp_path, capsys):
    """6.6 GB of weights that are a hole in a sparse file: nothing but the header can have been read."""
    config = Gr00tN1d6Config.from_dict(Gr00tN1d6Config(use_sheaf_streams=False, state_dropout_prob=0.1).to_dict())
    (tmp_path / "config.json").write_text(config.dumps())
    shapes = tensor_shapes(config)
    head = "backbone.model.vision_model.vision_model.head.probe"
    unused = {"backbone.model.language_model.lm_head.weight": (151_680, 2048), head: (15_238_352,)}
    write_hollow(tmp_path / "model.safetensors", shapes | unused)
    assert run("inspect", tmp_path, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["total"] == 3_286_610_368
    assert said["stored_bytes"] == 2 * said["total"]
    assert said["dtypes"] == {"bfloat16": said["total"]}
    assert said["parameters"]["unused"] == 310_640_640 + 15_238_352
    assert said["parameters"]["embodiment projectors"] == 325_324_800
    assert said["parameters"]["language layers"] == 604_032_000 + 201_346_048
    assert said["unused"] == sorted(unused)
    assert (said["action_horizon"], said["max_action_dim"], said["embodiment_rows"]) == (50, 128, 32)


def test_inspect_lists_every_embodiment_with_its_statistics(tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(ASSETS / "tiny_base", folder)
    assert run("inspect", folder) == 0
    shown = capsys.readouterr().out
    assert "robocasa_panda_omron: row 0, 16 action steps; views res256_image_side_0" in shown
    assert "gripper_qpos (2: " in shown
    assert "licence" in shown
    statistics = json.loads((folder / "statistics.json").read_text())
    del statistics["robocasa_panda_omron"]["action"]["gripper_close"]
    statistics["other_robot"] = {"state": {"arm": {"min": [0, -1], "max": [1, 2]}}, "action": {}}
    (folder / "statistics.json").write_text(json.dumps(statistics))
    assert run("inspect", folder, "--json") == 0
    other, omron = json.loads(capsys.readouterr().out)["embodiments"]
    assert omron["lacks"] == ["statistics action.gripper_close"]
    assert omron["action"]["gripper_close"] is None
    assert other["state"] == {"arm": {"width": 2, "low": -1, "high": 2}}
    assert other["lacks"] == ["modality configuration"]


def test_inspect_names_what_does_not_fit(base, capsys):
    tensors = load_file(base / "model.safetensors")
    tensors["action_head.extra"] = tensors.pop("action_head.vlln.weight")
    tensors["action_head.vlln.bias"] = torch.ones(3)
    save_file(tensors, base / "model.safetensors")
    assert run("inspect", base, "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["missing"] == ["action_head.vlln.weight"]
    assert said["unexpected"] == ["action_head.extra"]
    assert said["misshapen"] == ["action_head.vlln.bias"]
    assert not said["loads"]
    assert run("inspect", base) == 1
    assert "missing: 1 - action_head.vlln.weight" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("config", "version"),
    [
        ({"model_type": "gr00t_n1_5", "action_head_cfg": {}}, "N1.5"),
        ({"architectures": ["GR00T_N1_5"]}, "N1.5"),
        ({"model_type": "Gr00tN1d7", "model_name": "nvidia/Cosmos-Reason2-2B"}, "N1.7"),
        ({"architectures": ["Gr00tN1d7"]}, "N1.7"),
        ({"model_type": "llama"}, "llama"),
    ],
)
@pytest.mark.parametrize("verb", ["inspect", "merge"])
def test_other_versions_are_recognised_and_refused_with_advice(base, tmp_path, capsys, config, version, verb):
    (base / "config.json").write_text(json.dumps(config))
    more = ["--output-dir", tmp_path / "out"] if verb == "merge" else []
    assert run(verb, base, *more) == 2
    said = capsys.readouterr().err
    assert version in said
    assert "nvidia/GR00T-N1.6-3B" in said


@pytest.mark.parametrize(
    ("name", "version"),
    [("backbone.eagle_model.mlp1.0.bias", r"N1\.5"), ("backbone.model.model.language_model.norm.weight", r"N1\.7")],
)
def test_other_versions_are_recognised_by_their_weights_too(base, name, version):
    save_file({name: torch.ones(3)}, base / "model.safetensors")
    with pytest.raises(CheckpointError, match=version):
        summarise(base, tensor_shapes)
    with pytest.raises(CheckpointError, match=version):
        Gr00tN1d6.from_pretrained(base)


def test_a_trained_checkpoint_becomes_a_delta_and_comes_back(base, tmp_path, capsys):
    trained = Gr00tN1d6.from_pretrained(base, config=tiny_config(**SVMS))
    with torch.no_grad():
        trained.action_head.vlln.weight.add_(1)
    trained.save_pretrained(tmp_path / "trained")
    (tmp_path / "trained" / "statistics.json").write_text('{"robot": {}}')
    assert run("delta", tmp_path / "trained", "--base", base, "--output-dir", tmp_path / "delta") == 0
    assert "MiB on" in capsys.readouterr().out
    assert run("inspect", tmp_path / "delta", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    svms = sum(p.numel() for p in [*trained.svms.parameters(), *trained.svms.buffers()])
    assert said["total"] == svms + 16
    assert said["delta"]["base"] == str(base.resolve())
    assert said["svms"]
    assert run("merge", tmp_path / "delta", "--output-dir", tmp_path / "merged") == 0
    first, second = (load_file(tmp_path / n / "model.safetensors") for n in ("trained", "merged"))
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert (tmp_path / "merged" / "statistics.json").read_text() == '{"robot": {}}'


def test_merge_refuses_a_wrong_base_and_a_full_folder_in_one_sentence(base, tmp_path, capsys):
    Gr00tN1d6.from_pretrained(base).save_delta(tmp_path / "delta")
    other = Gr00tN1d6(tiny_config()).save_pretrained(tmp_path / "other")
    assert run("merge", tmp_path / "delta", "--base", other, "--output-dir", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "different" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert run("merge", tmp_path / "delta", "--output-dir", base) == 2
    assert "something there already" in capsys.readouterr().err
    shutil.rmtree(base)
    assert run("inspect", tmp_path / "delta") == 0
    assert "not found here" in capsys.readouterr().out


def test_inspect_of_a_repository_reads_headers_over_the_network(base, tmp_path, monkeypatch, capsys):
    """The hub is played by a folder of JSON files and the library's own record of headers; weights are nowhere."""
    headers = SafetensorsFileMetadata(
        metadata={},
        tensors={
            name: TensorInfo(dtype="F32", shape=list(stored.shape), data_offsets=(0, stored.nbytes))
            for name, stored in header(base / "model.safetensors").items()
        },
    )
    found = SafetensorsRepoMetadata(None, False, {}, {"model.safetensors": headers})
    assert run("inspect", base, "--json") == 0
    expected = json.loads(capsys.readouterr().out)
    (base / "model.safetensors").unlink()
    monkeypatch.setattr("svms_gr00t.groot.checkpoint.hub.snapshot_download", lambda name, **asked: str(base))
    monkeypatch.setattr("svms_gr00t.groot.checkpoint.remote.get_safetensors_metadata", lambda name: found)
    assert run("inspect", "someone/robot", "--json") == 0
    assert json.loads(capsys.readouterr().out) == expected


def test_inspect_of_nothing_is_one_sentence(tmp_path, capsys):
    assert run("inspect", tmp_path / "nowhere") == 2
    assert capsys.readouterr().err.count("\n") == 1


def lowered(folder: Path, kind: torch.dtype) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({name: value.to(kind) for name, value in tensors.items()}, folder / "model.safetensors")


def a_float32_delta_on_a_bfloat16_base(base: Path, root: Path) -> dict[str, torch.Tensor]:
    """One tensor moved too little for bfloat16, one row of a bank moved a lot; returns the trained weights."""
    lowered(base, torch.bfloat16)
    model = Gr00tN1d6.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        model.action_head.vlln.weight.fill_(1 + 2.0**-12)  # was 1, and bfloat16 has nothing below 1 + 2^-7
        model.action_head.banks()[0].W[1] += 1.0
    model.save_delta(root / "delta")
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_merge_says_what_rounding_to_the_type_of_the_base_loses(base, tmp_path, capsys):
    exact = a_float32_delta_on_a_bfloat16_base(base, tmp_path)
    assert run("merge", tmp_path / "delta", "--output-dir", tmp_path / "short") == 0
    said = capsys.readouterr().out
    assert "2 tensors are rounded to bfloat16" in said
    assert "16 are the base's again" in said  # all of vlln
    assert "--dtype float32 keeps every number" in said
    short = load_file(tmp_path / "short" / "model.safetensors")
    assert short["action_head.vlln.weight"].float().tolist() == [1.0] * 16
    assert run("merge", tmp_path / "delta", "--output-dir", tmp_path / "long", "--dtype", "float32") == 0
    assert "rounded" not in capsys.readouterr().out
    long = load_file(tmp_path / "long" / "model.safetensors")
    assert all(torch.equal(value, exact[name]) for name, value in long.items())
    assert long.keys() == exact.keys()


def test_the_loss_of_rounding_is_measured_against_what_training_changed(base, tmp_path):
    exact = a_float32_delta_on_a_bfloat16_base(base, tmp_path)
    whole, overlay, _ = base_and_delta(tmp_path / "delta")
    found = rounding(weight_files(whole), overlay, torch.bfloat16)
    names = ("action_head.vlln.weight", next(name for name in overlay if name.endswith(".W")))
    before = load_file(base / "model.safetensors")
    error = torch.cat([(exact[n] - exact[n].bfloat16()).flatten() for n in names]).double().norm()
    change = torch.cat([(exact[n] - before[n].float()).flatten() for n in names]).double().norm()
    stored = torch.cat([exact[n].flatten() for n in names]).double().norm()
    assert found.lost == pytest.approx(float(error / change))
    assert found.relative == pytest.approx(float(error / stored))
    assert found.changed == 16 + exact[names[1]][1].numel()
    assert rounding(weight_files(whole), overlay, torch.float32) is None
    assert rounding(weight_files(whole), {}, torch.bfloat16) is None


def test_merge_says_so_too_for_a_base_in_two_types(base, tmp_path, capsys):
    """N1.6's fine-tunings keep what they trained in float32 beside bfloat16: the few are rounded to the many."""
    tensors = load_file(base / "model.safetensors")
    keep = "action_head.model.proj_out_1.weight"
    save_file({n: v if n == keep else v.bfloat16() for n, v in tensors.items()}, base / "model.safetensors")
    Gr00tN1d6.from_pretrained(base).save_delta(tmp_path / "delta")
    assert run("merge", tmp_path / "delta", "--output-dir", tmp_path / "out") == 0
    assert "1 tensors are rounded to bfloat16" in capsys.readouterr().out
