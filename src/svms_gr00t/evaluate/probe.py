"""Run a SVMS model over held-out samples for `streams`, and look at one observation for the report.

Axes: B batch, T tokens, S streams, E edges, K overlap width, N valid tokens; the axis of size 2 is (tail, head).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.collate import collate
from svms_gr00t.data.steps import StepDataset, in_order
from svms_gr00t.evaluate.report.data import PatchExample, WordExample
from svms_gr00t.evaluate.routing import grid_of, patch_routes, token_word_routes
from svms_gr00t.evaluate.streams import StreamBatch, StreamReport, evaluate_streams
from svms_gr00t.evaluate.video import encode_png
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.policy import Policy, single
from svms_gr00t.sheaf.diagnostics import effective_rank

RANK_TOKENS = 4096
"""Tokens from which effective ranks are measured; ranks of projections change little beyond."""


@torch.no_grad()
def report_streams(
    model: Gr00tN1d6,
    steps: StepDataset,
    *,
    batch_size: int = 8,
    probe_tokens: int = 20_000,
    progress: Progress | None = None,
) -> StreamReport:
    """Everything about the streams on the labelled samples of `steps` (held out; no augmentation).

    Raises DataError for a plain model and for samples without labels.
    """
    if model.svms is None:
        hint = "Report streams for SVMS models only"
        raise DataError("streams", got="a plain model", want="a model with SVMS", hint=hint)
    device = next(model.parameters()).device
    graph, tasks = model.svms.graph, dict[str, int]()
    batches: list[StreamBatch] = []
    projections: list[Float[Tensor, "2 N E K"]] = []
    model.eval()
    with (progress or Silent()).task("streams", len(steps)) as bar:
        for indices in in_order(steps, batch_size):
            samples = [steps[i] for i in indices]
            inputs = collate(samples).to(device)
            features = model.backbone(inputs.images, inputs.input_ids, inputs.attention_mask)
            states = model.svms(features, losses=False)
            episodes = [steps.steps[i].episode for i in indices]
            numbers = [tasks.setdefault(sample.instruction, len(tasks)) for sample in samples]
            batches.append(StreamBatch.of(states, features, inputs, episodes=episodes, tasks=numbers))
            if sum(p.shape[1] for p in projections) < RANK_TOKENS:
                tokens = features.tokens[features.mask].to(model.svms.merge.weight.dtype)
                projections.append(model.svms.delta.project(model.svms.heads(tokens[None]))[:, 0].float())
            bar.advance(len(indices))
    ranks = _ranks(torch.cat(projections, dim=1)[:, :RANK_TOKENS], graph.edge_names)
    return evaluate_streams(
        batches, streams=graph.streams, edges=graph.edge_names, effective_rank=ranks, probe_tokens=probe_tokens
    )


def _ranks(projections: Float[Tensor, "2 N E K"], names: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    everything = torch.ones(1, projections.shape[1], dtype=torch.bool, device=projections.device)
    found = effective_rank(projections[:, None], everything).T.tolist()
    return {name: (tail, head) for name, (tail, head) in zip(names, found, strict=True)}


@dataclass(frozen=True, kw_only=True)
class Look:
    """Where one observation's words and patches were sent."""

    words: WordExample
    patches: tuple[PatchExample, ...]
    """One for each picture, as the model saw it."""


def look(policy: Policy, observation: Mapping[str, Any], *, seed: int = 0, note: str = "") -> Look:
    """Ask a SVMS policy about one flat observation and keep its routes. Raises DataError for a plain policy."""
    _, info = policy.act([observation], seeds=[seed])
    if "weights" not in info:
        hint = "Look at SVMS policies only"
        raise DataError("routes", got="a policy without streams", want="a policy with SVMS", hint=hint)
    sample = policy.processor.encode(single(observation))
    weights, asked = info["weights"][0].astype(float), sample.instruction_mask.numpy()
    texts = [text for text, chosen in zip(info["tokens"][0], asked, strict=True) if chosen]
    grids = [grid_of(image.shape[-2], image.shape[-1]) for image in sample.images]
    routes = patch_routes(weights, info["image_mask"][0] > 0.5, grids)
    views = policy.processor.config.embodiment.video.modality_keys
    patches = tuple(
        PatchExample(
            view=views[i % len(views)],
            picture=encode_png(_pixels(image)),
            routes=tuple(tuple(tuple(patch) for patch in row) for row in route.tolist()),
        )
        for i, (image, route) in enumerate(zip(sample.images, routes, strict=True))
    )
    return Look(words=WordExample(words=token_word_routes(texts, weights[asked]), note=note), patches=patches)


def _pixels(image: Float[Tensor, "3 h w"]) -> np.ndarray:
    """[-1, 1] back to uint8 (h, w, 3)."""
    return ((image.permute(1, 2, 0).numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
