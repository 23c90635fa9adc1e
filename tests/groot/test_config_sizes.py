"""A number in config.json is no reason to build a model: it is bounded, and compared with what the weights hold."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from peak import peak_of

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.core.sizes import RAISED
from svms_gr00t.groot.checkpoint.summary import summarise
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.shipped import shipped

MB = 1 << 20


def changed(folder: Path, **changes: Any) -> Path:
    """The shipped base with other numbers; `a__b` is b in section a."""
    target = shutil.copytree(shipped("tiny_base"), folder)
    values = json.loads((target / "config.json").read_text())
    for name, value in changes.items():
        section, _, key = name.rpartition("__")
        (values[section] if section else values)[key] = value
    (target / "config.json").write_text(json.dumps(values))
    return target


@pytest.mark.parametrize(
    ("name", "value", "limit"),
    [
        ("diffusion_model_cfg__num_layers", 10**8, "model_layers"),
        ("text_config__num_hidden_layers", 10**8, "model_layers"),
        ("vision_config__num_hidden_layers", 10**8, "model_layers"),
        ("memory_layers", 10**8, "model_layers"),
        ("text_config__intermediate_size", 10**8, "model_width"),
        ("max_seq_len", 10**8, "model_width"),
        ("num_inference_timesteps", 10**8, "model_steps"),
    ],
)
def test_a_number_beyond_any_model_is_refused(tmp_path: Path, name: str, value: Any, limit: str) -> None:
    folder = changed(tmp_path / "base", **{name: value})

    def refused() -> None:
        with pytest.raises(CheckpointError, match=rf"{name.replace('__', '.')} = {value:,}.*--limit {limit}={value}"):
            Gr00tN1d6.from_pretrained(folder)

    assert peak_of(refused) < 60 * MB


@pytest.mark.parametrize("name", ["diffusion_model_cfg__num_layers", "vision_config__num_hidden_layers"])
def test_layers_that_the_weights_do_not_hold_are_not_built(tmp_path: Path, name: str) -> None:
    folder = changed(tmp_path / "base", **{name: 900})
    attempts = (
        lambda: Gr00tN1d6.from_pretrained(folder),
        lambda: summarise(folder, lambda _config: pytest.fail("built to be compared")),
    )
    for attempt in attempts:

        def refused(attempt: Any = attempt) -> None:
            with pytest.raises(CheckpointError, match="no more layers than the weights have tensors"):
                attempt()

        assert peak_of(refused) < 20 * MB


def test_what_is_fresh_is_bounded_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain checkpoint may say that it has streams; they would be made, as wide as it says."""
    folder = changed(tmp_path / "base", use_sheaf_streams=True, d_stream=100_000, d_overlap=1000)

    def refused() -> None:
        with pytest.raises(CheckpointError, match=r"parameters that are not in the weights.*--limit fresh_parameters"):
            Gr00tN1d6.from_pretrained(folder)

    assert peak_of(refused) < 60 * MB
    small = changed(tmp_path / "small", use_sheaf_streams=True, d_stream=16, d_overlap=8, adapter_rank=4)
    assert Gr00tN1d6.from_pretrained(small).svms is not None
    monkeypatch.setenv(RAISED, "fresh_parameters=10")
    with pytest.raises(CheckpointError, match="fresh_parameters"):
        Gr00tN1d6.from_pretrained(small)
