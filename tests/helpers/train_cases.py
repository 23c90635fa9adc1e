"""A tiny model, labelled batches and short phases for tests of training."""

from dataclasses import replace
from pathlib import Path

import torch
from groot_tiny import ragged_batch, tiny_config
from safetensors.torch import load_file

from svms_gr00t.core.types import ModelInputs
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.train.phases import Phase

SVMS = {"use_sheaf_streams": True, "d_stream": 16, "d_overlap": 8, "adapter_rank": 4, "aux_warmup_steps": 0}


def labelled(number: int = 0) -> ModelInputs:
    """A batch with labels on the words; the state differs from batch to batch."""
    batch = ragged_batch(torch.float32)
    labels = torch.zeros(*batch.input_ids.shape, 3)
    labels[..., 0] = (batch.input_ids == 8).float()
    words = batch.attention_mask & (batch.input_ids != 90)
    state = batch.state + 0.1 * torch.randn(batch.state.shape, generator=torch.Generator().manual_seed(number))
    return replace(batch, labels=labels, label_mask=words, state=state)


def fresh(**changes) -> Gr00tN1d6:
    torch.manual_seed(0)
    model = Gr00tN1d6(tiny_config(**(SVMS | changes)))
    if model.svms is not None:  # a fresh merge is zero, and then the rest of SVMS hears the flow loss one step later
        with torch.no_grad():
            model.svms.merge.weight.normal_(std=0.05)
    return model


def short(phase: Phase, steps: int = 4) -> Phase:
    return replace(phase, steps=steps, learning_rate=1e-2)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "policy" / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())
