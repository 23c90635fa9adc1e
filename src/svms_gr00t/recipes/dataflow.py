"""The data flow as rows: what enters and leaves each stage, its size, and the share of it that each phase trains."""

from dataclasses import dataclass

import torch
from torch import nn

from svms_gr00t.data.processor.tokenizer import load_tokenizer
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.training.presets import TINY_IMAGE, preset
from svms_gr00t.svms import SheafStreams
from svms_gr00t.train.phases import PHASES
from svms_gr00t.train.trainable import trainable_names

TEXT_TOKENS = 35
"""Prompt tokens besides the images, as in a 12-word instruction."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One row of `svms-gr00t inspect`."""

    name: str
    input: str
    """Type that enters."""
    output: str
    """Type that leaves."""
    shape: str
    """Shape of what leaves, batch first."""
    parameters: int
    trainable: dict[str, float]
    """Share of the parameters that each phase trains, by phase name."""


def describe(name: str, *, use_sheaf_streams: bool = True, views: int = 2) -> list[Stage]:
    """The stages of a preset, built without storage. Raises ConfigError for an unknown preset."""
    chosen = preset(name)
    # The released vocabulary size is in the configuration; only the tiny one comes from its tokenizer.
    config = chosen.config(load_tokenizer("tiny"), use_sheaf_streams=use_sheaf_streams)
    with torch.device("meta"):
        model = Gr00tN1d6(config)
    side = TINY_IMAGE if name == "tiny" else 252
    tokens = views * (side // 28) ** 2 + TEXT_TOKENS
    m, h = config.backbone_embedding_dim, config.action_horizon
    svms = model.svms
    s, d, e = config.n_streams, config.d_stream, len(svms.graph.edges) if isinstance(svms, SheafStreams) else 0
    rows: list[tuple[str, str, str, str, list[nn.Module]]] = [
        ("dataset", "files", "Observation", f"{views} x uint8 (H, W, 3)", []),
        ("processor", "Observation", "ModelInputs", f"{views} x (3, {side}, {side}), T = {tokens}", []),
        ("backbone", "ModelInputs", "Features", f"(B, {tokens}, {m})", [model.backbone]),
    ]
    if isinstance(svms, SheafStreams):
        rows += [
            ("streams", "Features", "stream states", f"(B, {tokens}, {s}, {d})", [svms.heads, svms.labels]),
            ("sheaf", "stream states", "corrected, rho", f"(B, {tokens}, {e})", [svms.delta, svms.diffusion]),
            ("router, merge", "corrected", "Features", f"(B, {tokens}, {m})", [svms.router, svms.merge]),
        ]
    rows.append(
        ("action head", "Features, state", "actions", f"(B, {h}, {config.max_action_dim})", [model.action_head])
    )
    owners = {id(p): n for n, p in model.named_parameters()}
    trained = {key: set(trainable_names(model, phase)) for key, phase in PHASES.items()}
    return [_stage(*row, owners=owners, trained=trained) for row in rows]


def _stage(
    name: str,
    input: str,
    output: str,
    shape: str,
    parts: list[nn.Module],
    *,
    owners: dict[int, str],
    trained: dict[str, set[str]],
) -> Stage:
    parameters = {id(p): p for part in parts for p in part.parameters()}
    total = sum(p.numel() for p in parameters.values())
    shares = {
        phase: sum(p.numel() for key, p in parameters.items() if owners[key] in names) / max(total, 1)
        for phase, names in trained.items()
    }
    return Stage(name=name, input=input, output=output, shape=shape, parameters=total, trainable=shares)
