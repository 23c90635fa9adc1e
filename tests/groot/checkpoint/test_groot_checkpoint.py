"""Checkpoints: strict both ways, streamed, sharded, atomic; every broken folder is named with advice."""

import json

import pytest
import torch
from groot_tiny import tiny_config
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.core.files.whole import whole_folder
from svms_gr00t.groot.checkpoint.golden import PlainGr00t
from svms_gr00t.groot.checkpoint.hub import locate
from svms_gr00t.groot.checkpoint.loading import (
    load_weights,
    read_config,
    save_checkpoint,
    save_weights,
    weight_files,
)


def on_meta(config) -> PlainGr00t:
    with torch.device("meta"):
        return PlainGr00t(config)


def same_bits(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.fixture
def config():
    return tiny_config()


@pytest.fixture
def folder(tmp_path, config):
    save_checkpoint(PlainGr00t(config), config, tmp_path / "ckpt")
    return tmp_path / "ckpt"


@pytest.mark.parametrize("shard_bytes", [2**30, 20_000], ids=["single", "sharded"])
def test_what_is_saved_is_loaded(tmp_path, config, shard_bytes):
    model = PlainGr00t(config)
    save_checkpoint(model, config, tmp_path / "ckpt", shard_bytes=shard_bytes)
    assert (len(list((tmp_path / "ckpt").glob("*.safetensors"))) > 1) == (shard_bytes < 2**30)
    assert read_config(tmp_path / "ckpt") == config
    fresh = PlainGr00t(config)
    assert not same_bits(fresh, model)
    report = load_weights(fresh, tmp_path / "ckpt", config)
    assert (report.loaded, report.dropped, report.fresh) == (len(model.state_dict()), (), ())
    assert same_bits(fresh, model)
    lazy = on_meta(config)
    load_weights(lazy, tmp_path / "ckpt", config)
    assert same_bits(lazy, model)


def test_shards_stay_below_the_limit_and_the_index_names_them_all(tmp_path, config):
    model = PlainGr00t(config)
    save_weights(model, tmp_path, shard_bytes=20_000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == model.state_dict().keys()
    assert index["metadata"]["total_size"] == sum(v.nbytes for v in model.state_dict().values())
    for file in tmp_path.glob("*.safetensors"):
        tensors = load_file(file)
        assert sum(t.nbytes for t in tensors.values()) <= 20_000 or len(tensors) == 1


def test_types_and_flags_survive(folder, config):
    model = on_meta(config)
    model.backbone.requires_grad_(False)
    load_weights(model, folder, config, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert all(p.requires_grad for p in model.action_head.parameters())
    kept = PlainGr00t(config).double()
    before = dict(kept.named_parameters())
    load_weights(kept, folder, config)
    assert all(before[name] is p and p.dtype == torch.float64 for name, p in kept.named_parameters())


def test_a_loaded_model_does_not_lean_on_the_file(folder, config):
    model = on_meta(config)
    load_weights(model, folder, config)
    (folder / "model.safetensors").write_bytes(b"")
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("case", ["full_alternate", "full_released_shape"])
def test_only_provably_unused_tensors_of_the_reference_are_dropped(shared, case, tmp_path):
    source = shared / "golden" / case
    config = read_config(source)
    model = on_meta(config)
    report = load_weights(model, source, config)
    assert [n for n in report.dropped if "lm_head" not in n and ".head." not in n] == []
    assert len(report.dropped) == 12
    save_checkpoint(model, config, tmp_path / "back")
    ours, theirs = load_file(tmp_path / "back" / "model.safetensors"), load_file(source / "model.safetensors")
    assert theirs.keys() - ours.keys() == set(report.dropped)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_layers_above_select_layer_are_dropped_but_not_layers_below(folder):
    shorter = tiny_config(select_layer=2)
    report = load_weights(PlainGr00t(shorter), folder, shorter)
    assert {n.split(".layers.")[1][0] for n in report.dropped} == {"2"}
    longer = tiny_config(select_layer=4)
    with pytest.raises(CheckpointError, match=r"11 missing: .*layers\.3\."):
        load_weights(PlainGr00t(longer), folder, longer)


def rewrite(folder, change) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("action_head.vlln.weight"), r"1 missing: action_head\.vlln\.weight"),
        (lambda t: t.update({"action_head.extra": torch.ones(1)}), r"1 unexpected: action_head\.extra"),
        (
            lambda t: t.update({"action_head.vlln.bias": torch.ones(3)}),
            r"action_head\.vlln\.bias \(3,\) instead of \(16,\)",
        ),
        (lambda t: t.update({"backbone.eagle_model.mlp1.0.bias": torch.ones(3)}), r"N1\.5"),
    ],
    ids=["missing", "unexpected", "shape", "n15"],
)
def test_weights_that_do_not_fit_leave_the_model_alone(folder, config, change, message):
    rewrite(folder, change)
    model, twin = PlainGr00t(config), PlainGr00t(config)
    twin.load_state_dict(model.state_dict())
    with pytest.raises(CheckpointError, match=message):
        load_weights(model, folder, config)
    assert same_bits(model, twin)


def test_broken_files_are_named(tmp_path, config):
    save_weights(PlainGr00t(config), tmp_path, shard_bytes=20_000)
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match=rf"{shard.name}.*broken"):
        weight_files(tmp_path)
    shard.unlink()
    with pytest.raises(CheckpointError, match=rf"{shard.name}.*no such file"):
        weight_files(tmp_path)
    other = next(tmp_path.glob("*.safetensors"))
    shard.write_bytes(other.read_bytes())
    with pytest.raises(CheckpointError, match="not in the shard it names"):
        weight_files(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    with pytest.raises(CheckpointError, match="outside the folder"):
        weight_files(tmp_path)
    index.write_text("{}")
    with pytest.raises(CheckpointError, match=r"index\.json: found no weight_map"):
        weight_files(tmp_path)
    index.unlink()
    with pytest.raises(CheckpointError, match="shards without"):
        weight_files(tmp_path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (torch.int32, r"stored as torch\.int32, but need numbers like torch\.float32"),
        (torch.bool, r"stored as torch\.bool"),
        (torch.float8_e4m3fn, r"of type F8_E4M3, but need F64"),
    ],
)
def test_weights_of_a_wrong_type_are_refused(folder, config, kind, message):
    name = "action_head.vlln.weight"
    rewrite(folder, lambda t: t.update({name: t[name].to(kind)}))
    model, twin = PlainGr00t(config), PlainGr00t(config)
    twin.load_state_dict(model.state_dict())
    with pytest.raises(CheckpointError, match=message):
        load_weights(model, folder, config)
    assert same_bits(model, twin)


def test_any_cut_or_scrambled_file_is_a_sentence_and_never_a_crash(folder):
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    head = int.from_bytes(whole[:8], "little")
    for size in (0, 5, 8, 100, 8 + head, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="broken file"):
            weight_files(folder)
    scrambled = [
        b"\xff" * 8 + whole[8:],
        whole[:8] + whole[8 : 8 + head].replace(b'"F32"', b'"F33"', 1) + whole[8 + head :],
        whole[:8] + whole[8 : 8 + head].replace(b"data_offsets", b"data_0ffsets", 1) + whole[8 + head :],
        whole[:8] + b"[" + b" " * (head - 2) + b"]" + whole[8 + head :],
        whole[:8] + b"\xff" * head + whole[8 + head :],
    ]
    for content in scrambled:
        file.write_bytes(content)
        with pytest.raises(CheckpointError):
            weight_files(folder)


def test_a_file_that_shrinks_while_it_is_read_is_named(folder, config):
    stored = weight_files(folder)["action_head.vlln.weight"]
    (folder / "model.safetensors").write_bytes(b"x" * (stored.offset + 3))
    with pytest.raises(CheckpointError, match=r"an end inside action_head\.vlln\.weight"):
        stored.read()


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_every_number_is_read_as_torch_would_convert_it(folder, config, kind):
    rewrite(folder, lambda t: t.update({name: value.to(kind) for name, value in t.items()}))
    model, stored = on_meta(config), load_file(folder / "model.safetensors")
    load_weights(model, folder, config, dtype=torch.float32)
    assert all(torch.equal(p, stored[name].float()) for name, p in model.named_parameters())
    turned = torch.empty(16, 24).T  # not contiguous
    weight_files(folder)["backbone.model.vision_model.vision_model.encoder.layers.0.mlp.fc1.weight"].fill(turned)
    assert torch.equal(
        turned, stored["backbone.model.vision_model.vision_model.encoder.layers.0.mlp.fc1.weight"].float()
    )


def test_folders_without_safetensors_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        weight_files(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="no weights"):
        weight_files(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(CheckpointError, match="pickle"):
        weight_files(tmp_path)
    assert locate(tmp_path) == tmp_path


class Extra(nn.Module):
    """A stand-in for a module that a plain checkpoint lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.zero = nn.Parameter(torch.empty(3))
        self.register_buffer("warmth", torch.tensor(2.0))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.zero)
        nn.init.constant_(self.warmth, 2.0)


@pytest.mark.parametrize("meta", [False, True])
def test_a_new_module_may_be_absent_but_not_half_there(folder, config, meta, tmp_path):
    with torch.device("meta" if meta else "cpu"):
        model = PlainGr00t(config)
        model.svms = Extra()
    with pytest.raises(CheckpointError, match="2 missing"):
        load_weights(model, folder, config)
    report = load_weights(model, folder, config, fresh=("svms.",))
    assert report.fresh == ("svms.warmth", "svms.zero")
    assert model.svms.zero.tolist() == [0, 0, 0]
    assert model.svms.warmth == 2
    rewrite(folder, lambda t: t.update({"svms.zero": torch.ones(3)}))
    with pytest.raises(CheckpointError, match=r"svms\.warmth"):
        load_weights(model, folder, config, fresh=("svms.",))


def test_a_delta_goes_on_top_of_its_base(folder, config, tmp_path):
    base, trained = PlainGr00t(config), PlainGr00t(config)
    load_weights(base, folder, config)
    save_weights(trained, tmp_path / "delta", only=lambda name: name.startswith("action_head.model."))
    load_weights(base, tmp_path / "delta", config, partial=True)
    assert same_bits(base.action_head.model, trained.action_head.model)
    assert not same_bits(base.action_head.state_encoder, trained.action_head.state_encoder)
    with pytest.raises(CheckpointError, match="missing"):
        load_weights(base, tmp_path / "delta", config)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "run"
    for text in ("one", "two"):
        with whole_folder(target) as partial:
            (partial / "a").write_text(text)
            assert not target.exists() or (target / "a").read_text() == "one"

    def fail() -> None:
        with whole_folder(target) as partial:
            (partial / "a").write_text("three")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (target / "a").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_saving_over_an_older_checkpoint_keeps_its_processor_and_drops_its_shards(tmp_path, config):
    model, target = PlainGr00t(config), tmp_path / "ckpt"
    save_checkpoint(model, config, target, shard_bytes=20_000)
    (target / "statistics.json").write_text("{}")
    (target / "README.md").write_text("card")
    save_checkpoint(model, config, target)
    assert {p.name for p in target.iterdir()} == {"config.json", "model.safetensors", "statistics.json", "README.md"}


@pytest.mark.parametrize("name", ["thesis.tex", "notes/day.md"])
def test_saving_never_replaces_a_folder_with_something_else_in_it(tmp_path, config, monkeypatch, name):
    mine = tmp_path / "home" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    for folder in (tmp_path / "home", mine):
        with pytest.raises(CheckpointError, match="older checkpoint to replace"):
            save_checkpoint(PlainGr00t(config), config, folder)
    monkeypatch.chdir(tmp_path / "home")
    with pytest.raises(CheckpointError):
        save_checkpoint(PlainGr00t(config), config, ".")
    assert mine.read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


def test_a_file_is_replaced_only_when_complete(tmp_path, config, monkeypatch):
    save_weights(PlainGr00t(config), tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()

    def fail(tensors, file, metadata):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("svms_gr00t.groot.checkpoint.saving.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_weights(PlainGr00t(config), tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_sliced_bank_is_saved_whole(tmp_path, config):
    model = PlainGr00t(config)
    whole = {n: v.clone() for n, v in model.state_dict().items()}
    model.action_head.keep_embodiments(1)
    save_checkpoint(model, config, tmp_path / "ckpt")
    with safe_open(tmp_path / "ckpt" / "model.safetensors", "pt") as opened:
        assert all(torch.equal(opened.get_tensor(n), v) for n, v in whole.items())
