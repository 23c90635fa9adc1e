"""What a trained pair of policies shows: stream scores, routes over words and patches, and the report's tables."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.protocols import as_array
from svms_gr00t.data.labels.labeler import Labeler
from svms_gr00t.data.labels.tokens import streams_of
from svms_gr00t.data.loading.batches import in_order
from svms_gr00t.data.loading.collate import collate
from svms_gr00t.data.loading.protocols import Samples
from svms_gr00t.data.loading.samples import SampleDataset
from svms_gr00t.data.processor.processor import Sample
from svms_gr00t.evaluate.open_loop.metrics import number
from svms_gr00t.evaluate.report.data import HeldOutCurves, PatchExample, WordExample
from svms_gr00t.evaluate.streams.report import StreamBatch, StreamReport, evaluate_streams
from svms_gr00t.evaluate.streams.routing import grid_of, patch_routes, word_routes
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.training.held_out_wording import lookup_scores, unseen_wordings
from svms_gr00t.sheaf.diagnostics import effective_rank
from svms_gr00t.streams.metrics import token_scores
from svms_gr00t.svms import SheafStreams
from svms_gr00t.train.gates import GateResult, specialise_gate
from svms_gr00t.train.loop.run_dir import Row, RunDir
from svms_gr00t.train.phases import PHASES

HELD_OUT = "held_out."
"""What names of held-out measures begin with in metrics.jsonl."""


@torch.no_grad()
def read_streams(
    model: Gr00tN1d6, samples: Samples, *, batch_size: int = 64
) -> tuple[StreamReport, dict[str, tuple[float, float]]]:
    """The stream report on every one of `samples`, and the effective rank of each edge's (tail, head) projections."""
    assert isinstance(model.svms, SheafStreams)
    model.eval()
    batches: list[StreamBatch] = []
    device = next(model.svms.parameters()).device
    projections: list[torch.Tensor] = []
    tasks: dict[str, int] = {}
    for indices in in_order(samples, batch_size):
        inputs = samples.batch(indices).to(device)
        if model.config.remembered and inputs.past is None:
            hint = "Give the samples memory=model.config.remembered"
            raise DataError("streams", got="samples without a past", want="one for a model with memory", hint=hint)
        features = model.observe(inputs)
        states = model.through_streams(features, inputs, losses=False)
        episodes, names = zip(*(samples.origin(i) for i in indices), strict=True)
        numbers = [tasks.setdefault(name, len(tasks)) for name in names]
        batches.append(StreamBatch.of(states, features, inputs, episodes=list(episodes), tasks=numbers))
        valid = features.tokens[features.mask].to(model.svms.merge.weight.dtype)
        projections.append(model.svms.delta.project(model.svms.heads(valid[None])).float().cpu())
    joined = torch.cat(projections, dim=2)
    rank = effective_rank(joined, torch.ones(joined.shape[1:3], dtype=torch.bool)).T.tolist()
    edges = model.svms.graph.edge_names
    ranks = {name: (tail, head) for name, (tail, head) in zip(edges, rank, strict=True)}
    report = evaluate_streams(batches, streams=model.svms.graph.streams, edges=edges, effective_rank=ranks)
    return report, ranks


@torch.no_grad()
def read_words(
    model: Gr00tN1d6, samples: Sequence[Sample], *, batch_size: int = 64, cut: int | None = None
) -> dict[str, float | None]:
    """Balanced accuracy with which each labelled stream finds its own words; empty without samples or labels.

    `cut`: language layers that stay on their own device (those that a feature cache replaces); by default as they lie.
    """
    assert isinstance(model.svms, SheafStreams)
    model.eval()
    rows: dict[str, list[np.ndarray]] = {"logits": [], "labels": []}
    device, tower = model.svms.merge.weight.device, model.backbone.model.language_model.model
    below = tower.embed_tokens.weight.device
    if cut is None and below != device:
        cut = next(i for i, layer in enumerate(tower.layers) if next(layer.parameters()).device == device)
    for start in range(0, len(samples), batch_size):
        inputs = collate(samples[start : start + batch_size])
        if inputs.labels is None or inputs.label_mask is None:
            return {}
        if cut is not None:
            early = inputs.to(below)
            hidden = model.backbone.prefix((), early.input_ids, early.attention_mask, cut)
            inputs = replace(inputs, hidden=hidden, hidden_layer=cut)
        inputs = inputs.to(device)
        states = model.through_streams(model.observe(inputs), inputs, losses=False)
        chosen = inputs.label_mask
        assert chosen is not None
        assert inputs.labels is not None
        rows["logits"].append(as_array(states.aux_logits[chosen]))
        rows["labels"].append(as_array(inputs.labels[chosen]))
    if not rows["labels"]:
        return {}
    logits, labels = (np.concatenate(rows[name]).astype(float)[None] for name in ("logits", "labels"))
    names = model.svms.graph.streams
    found = token_scores(logits, labels, np.ones(labels.shape[:2], dtype=bool), names)
    return {name: number(score.balanced_accuracy) for name, score in found.items()}


def word_gate(model: Gr00tN1d6, train: Samples, held_out: Samples) -> list[GateResult]:
    """Phase 1's gate: words of wordings that neither training nor held-out episodes have."""
    assert isinstance(model.svms, SheafStreams)
    known = train.texts() | held_out.texts()
    sentences = unseen_wordings(known)
    labeler = held_out.labeler or Labeler()
    names = model.svms.graph.streams[: len(streams_of(labeler))]
    scores = read_words(model, held_out.worded(sentences)) or dict.fromkeys(names)
    return specialise_gate(scores, lookup_scores(known, sentences, labeler, tuple(scores)))


def examples(samples: SampleDataset) -> list[int]:
    """First samples of up to three episodes with different instructions."""
    seen: dict[str, int] = {}
    for index, step in enumerate(samples.places):
        if step.step == 0:
            seen.setdefault(samples.instruction(step), index)
    return list(seen.values())[:3]


@torch.no_grad()
def read_routes(
    model: Gr00tN1d6, samples: SampleDataset, indices: Sequence[int]
) -> tuple[tuple[WordExample, ...], tuple[PatchExample, ...]]:
    """Where the router sends the words and the image patches of a few samples."""
    assert isinstance(model.svms, SheafStreams)
    model.eval()
    words, patches = [], []
    processor, device = samples.processor, model.svms.merge.weight.device
    for index in indices:
        sample = samples[index]
        inputs = samples.batch([index]).to(device)
        features = model.observe(inputs)
        weights = model.through_streams(features, inputs, losses=False).weights[0].float().cpu().numpy()
        pieces = [processor.tokenizer.decode([int(i)]) for i in sample.input_ids[sample.instruction_mask]]
        ends = np.cumsum([len(piece) for piece in pieces]).tolist()
        offsets = [(end - len(piece), end) for piece, end in zip(pieces, ends, strict=True)]
        routes = word_routes("".join(pieces), offsets, weights[sample.instruction_mask.numpy()])
        words.append(WordExample(words=routes, note=f"episode {samples.places[index].episode}"))
        grids = [grid_of(*size) for size in sample.images.sizes]
        found = patch_routes(weights, features.image_mask[0].cpu().numpy(), grids)
        views = processor.config.embodiment.video.names
        for view, image, grid in zip(views, sample.images, found, strict=True):
            cells = tuple(tuple(tuple(float(v) for v in cell) for cell in row) for row in grid)
            patches.append(PatchExample(view=view, picture=_png(image), routes=cells))
    return tuple(words), tuple(patches)


def held_out_curves(policy: str, rows: Mapping[str, Sequence[Row]]) -> HeldOutCurves:
    """What the phases of a run, by name and in order, measured on held-out samples. Empty for one that did not."""
    steps: list[int] = []
    found: list[Row] = []
    phases, before = {}, 0
    for phase, known in rows.items():
        if not known:
            continue
        phases[phase] = before
        measured = [row for row in known if any(name.startswith(HELD_OUT) for name in row)]
        steps += [before + row["step"] + 1 for row in measured]
        found += measured
        before += known[-1]["step"] + 1
    names = dict.fromkeys(name for row in found for name in row if name.startswith(HELD_OUT))
    measures = {name.removeprefix(HELD_OUT): tuple(row.get(name) for row in found) for name in names}
    return HeldOutCurves(policy=policy, steps=tuple(steps), measures=measures, phases=phases)


def curves_of_run(policy: str, folder: Path) -> HeldOutCurves:
    """`held_out_curves` of a folder that `train` or `demo` wrote; empty where there are no phases."""
    known = {name: RunDir(folder / f"phase_{i}") for i, name in enumerate(PHASES, start=1)}
    return held_out_curves(policy, {name: run.rows() for name, run in known.items() if run.root.is_dir()})


def _png(image: torch.Tensor) -> bytes:
    """A picture in [-1, 1] as the model saw it, twice its size."""
    pixels = ((image.permute(1, 2, 0).numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    out = io.BytesIO()
    picture = Image.fromarray(pixels)
    picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.NEAREST).save(out, format="PNG")
    return out.getvalue()
