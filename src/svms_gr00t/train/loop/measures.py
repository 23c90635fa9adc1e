"""Numbers of a training step beside its losses: routes, disagreement, rank, label accuracy, memory."""

import resource

import torch

from svms_gr00t.core.types import ModelInputs
from svms_gr00t.model import Gr00tN1d6, ModelOutput
from svms_gr00t.svms import SheafStreams
from svms_gr00t.train.loop.run_dir import Row

GIB = 1 << 30


@torch.no_grad()
def stream_measures(model: Gr00tN1d6, output: ModelOutput, part: ModelInputs) -> Row:
    """Route shares, rho by edge, temperature and, with labels, balanced accuracy by stream; {} for the plain model."""
    states = output.states
    if states is None:
        return {}
    assert isinstance(model.svms, SheafStreams)
    graph = model.svms.graph
    valid = states.weights.sum(-1) > 0
    shares, rho = states.weights[valid].float().mean(0), states.rho[valid].float().mean(0)
    row: Row = {f"route.{name}": float(v) for name, v in zip(graph.streams, shares, strict=True)}
    row |= {f"rho.{name}": float(v) for name, v in zip(graph.edge_names, rho, strict=True)}
    row["temperature"] = float(model.svms.router.temperature)
    if part.labels is not None and part.label_mask is not None:
        said = states.aux_logits[part.label_mask.to(states.rho.device)] > 0
        true = part.labels[part.label_mask].to(said.device) > 0.5
        for i, name in enumerate(graph.streams[: true.shape[-1]]):
            score = _balanced(said[:, i], true[:, i])
            if score is not None:
                row[f"accuracy.{name}"] = score
    return row


def peak_memory_gib(device: torch.device) -> float:
    """Largest memory so far: of torch on a GPU, of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def _balanced(said: torch.Tensor, true: torch.Tensor) -> float | None:
    if not true.any() or true.all():
        return None
    return float(((said & true).sum() / true.sum() + (~said & ~true).sum() / (~true).sum()) / 2)
