"""Weights that are not as they look: two forms side by side, bytes claimed twice, adapters, wrappers, pointers."""

import json
import logging
import struct
from pathlib import Path

import pytest
import torch
from groot_tiny import tiny_config
from safetensors.torch import load_file, save_file

from svms_gr00t.cli.main import main
from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.groot.checkpoint.loading import save_weights, weight_files
from svms_gr00t.model import Gr00tN1d6

NAME = "action_head.vlln.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Gr00tN1d6(tiny_config()).save_pretrained(tmp_path / "base")


def shard(folder: Path, model: Gr00tN1d6) -> None:
    save_weights(model, folder, shard_bytes=20_000)


def test_a_whole_file_goes_before_an_index_beside_it_and_one_line_says_so(folder, caplog):
    whole = load_file(folder / "model.safetensors")
    shard(folder, Gr00tN1d6(tiny_config()))  # other numbers, in shards
    with caplog.at_level(logging.WARNING):
        loaded = Gr00tN1d6.from_pretrained(folder)
    assert all(torch.equal(value, whole[name]) for name, value in loaded.state_dict().items())
    lines = {record.getMessage() for record in caplog.records}
    assert lines == {
        f"{folder}: read model.safetensors; model.safetensors.index.json beside it is left out, remove one of them"
    }
    (folder / "model.safetensors").unlink()
    sharded = Gr00tN1d6.from_pretrained(folder)
    assert not torch.equal(sharded.backbone.model.mlp1[1].weight, whole["backbone.model.mlp1.1.weight"])


def test_shards_and_their_index_hold_the_same_names(folder):
    (folder / "model.safetensors").unlink()
    shard(folder, Gr00tN1d6(tiny_config()))
    index = folder / "model.safetensors.index.json"
    kept = json.loads(index.read_text())
    less = {name: file for name, file in kept["weight_map"].items() if name != NAME}
    index.write_text(json.dumps(kept | {"weight_map": less}))
    with pytest.raises(CheckpointError, match=rf"no place for {NAME} of its shards"):
        weight_files(folder)
    index.write_text(json.dumps(kept))
    first, second = sorted(folder.glob("*.safetensors"))[:2]
    copy = load_file(first)
    name = next(iter(copy))
    save_file(load_file(second) | {name: copy[name] + 1}, second)  # which of the two is meant?
    with pytest.raises(CheckpointError, match="no place for"):
        weight_files(folder)


def entry(begin: int, end: int) -> dict:
    return {"dtype": "F32", "shape": [(end - begin) // 4], "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("entries", "size"),
    [
        ({"a": entry(0, 8), "b": entry(4, 12)}, 12),
        ({"a": entry(0, 8), "b": entry(0, 8)}, 8),
        ({"a": entry(0, 8), "b": entry(12, 16)}, 16),
        ({"a": entry(4, 8)}, 8),
        ({"a": entry(0, 8)}, 12),
    ],
    ids=["overlap", "twice the same bytes", "gap", "gap at the start", "more bytes than named"],
)
def test_values_that_overlap_or_leave_bytes_uncovered_are_refused(tmp_path, entries, size):
    head = json.dumps(entries).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(size))
    with pytest.raises(CheckpointError, match="broken file"):
        weight_files(tmp_path)


def test_the_order_of_the_names_does_not_matter_and_empty_tensors_have_a_place(tmp_path):
    entries = {"z": entry(8, 16), "none": entry(8, 8), "a": entry(0, 8)}
    head = json.dumps(entries).encode()
    values = struct.pack("<4f", 1, 2, 3, 4)
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + values)
    found = {name: stored.read().tolist() for name, stored in weight_files(tmp_path).items()}
    assert found == {"a": [1, 2], "none": [], "z": [3, 4]}


def renamed(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({change(name): value for name, value in tensors.items()}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda name: f"module.{name}", r"the prefix module\. of DistributedDataParallel"),
        (lambda name: f"_orig_mod.{name}", r"the prefix _orig_mod\. of torch\.compile"),
        (lambda name: f"module._orig_mod.{name}", r"the prefix module\. of"),
        (lambda name: name.replace("action_head.", "action_head._orig_mod."), r"the prefix _orig_mod\. of torch"),
        (lambda name: name.replace("vlln.", "_fsdp_wrapped_module.vlln."), r"_fsdp_wrapped_module\. of FSDP"),
        (lambda name: f"policy.model.{name}", r"the prefix policy\.model\. \("),
        (lambda name: name.replace("vlln.weight", "vlln.base_layer.weight"), "merge the adapter first"),
    ],
)
def test_names_of_a_wrapper_get_their_own_sentence(folder, capsys, change, said):
    renamed(folder, change)
    with pytest.raises(CheckpointError, match=said) as caught:
        Gr00tN1d6.from_pretrained(folder)
    with pytest.raises(SystemExit) as stopped:
        main(["checkpoint", "inspect", str(folder)])
    assert stopped.value.code == 2
    assert str(caught.value) in capsys.readouterr().err


@pytest.mark.parametrize("kept", [(), ("model.safetensors", "config.json")], ids=["adapter alone", "with its base"])
def test_a_lora_folder_says_merge_first(folder, kept):
    for file in list(folder.iterdir()):
        if file.name not in kept:
            file.unlink()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    save_file({"base_model.model.x.lora_A.weight": torch.ones(2, 3)}, folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"a LoRA adapter .*merge the adapter first"):
        Gr00tN1d6.from_pretrained(folder)
    with pytest.raises(CheckpointError, match="merge the adapter first"):
        weight_files(folder)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4665a5ea423c2713d436b5ee50593a9640e0018c\nsize 4998\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (POINTER.encode(), r"a Git LFS pointer.*git lfs pull"),
        (b"/annex/objects/SHA256E-s31390--f50d7ac4c6b9.safetensors\n", "a git-annex pointer"),
        (b"\n<!DOCTYPE html>\n<html><head><title>Log in</title>", "a web page"),
        (b"PK\x03\x04" + bytes(100), "pickled weights under this name"),
    ],
    ids=["lfs", "annex", "html", "pickle"],
)
@pytest.mark.parametrize("name", ["model.safetensors", "a shard", "the index"])
def test_a_file_that_stands_for_the_weights_says_what_it_is(folder, content, said, name):
    if name != "model.safetensors":
        (folder / "model.safetensors").unlink()
        shard(folder, Gr00tN1d6(tiny_config()))
    known = {"a shard": next(folder.glob("*.safetensors")), "the index": folder / "model.safetensors.index.json"}
    known.get(name, folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=said):
        Gr00tN1d6.from_pretrained(folder)
