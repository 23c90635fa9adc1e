"""What a model does on held-out samples while it trains: the same samples, noise and flow times every time.

Axes: N tokens, E edges, L labels.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from svms_gr00t.core.svms_config import GROUNDED
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.loading.protocols import Samples
from svms_gr00t.model import Gr00tN1d6, ModelOutput
from svms_gr00t.svms import SheafStreams
from svms_gr00t.train.loop.measures import balanced
from svms_gr00t.train.loop.trainer import Validate

SAMPLES, BATCH = 128, 32
"""At most so many samples, in batches of so many: four batches, whatever the data."""


def validator(held_out: Samples) -> Validate:
    """Measures on evenly spread samples: "flow", "action_error" of the denoised chunk, losses of grounded targets.

    With streams also "rho.EDGE", the mean over valid tokens, and "accuracy.STREAM", the balanced accuracy on labelled
    words. Noise and flow times have a generator of their own, so that training draws what it would have drawn.
    """
    spread = torch.linspace(0, len(held_out) - 1, min(SAMPLES, len(held_out))).round().int().tolist()

    @torch.no_grad()
    def measure(model: Gr00tN1d6) -> dict[str, float]:
        source = torch.Generator().manual_seed(0)
        sums, total, streams = {"flow": 0.0, "action_error": 0.0}, 0.0, _Streams()
        device = next(model.action_head.parameters()).device
        for start in range(0, len(spread), BATCH):
            inputs = held_out.batch(spread[start : start + BATCH]).to(device)
            assert inputs.action is not None
            assert inputs.action_mask is not None
            real = inputs.action_mask
            noise = torch.randn(inputs.action.shape, generator=source).to(device)
            time = model.action_head.draw_time(len(noise), generator=source).to(device)
            count = float(real.sum())
            output = model(inputs, noise=noise, time=time)
            for name in {"flow", *GROUNDED} & output.terms.keys():
                sums[name] = sums.get(name, 0.0) + count * float(output.terms[name])
            head = (output.features, inputs.state, inputs.embodiment_id)  # the backbone has seen them already
            error = (model.action_head.sample(*head, noise=noise) - inputs.action).square() * real
            sums["action_error"] += float(error.sum())
            total += count
            streams.see(output, inputs)
        return {name: value / total for name, value in sums.items()} | streams.measures(model)

    return measure


@dataclass
class _Streams:
    """What the streams did to the tokens of all batches."""

    rho: list[Float[Tensor, "N E"]] = field(default_factory=list)
    said: list[Bool[Tensor, "N L"]] = field(default_factory=list)
    true: list[Bool[Tensor, "N L"]] = field(default_factory=list)

    def see(self, output: ModelOutput, inputs: ModelInputs) -> None:
        """One batch; nothing of a model without streams."""
        if (states := output.states) is None:
            return
        self.rho.append(states.rho[states.weights.sum(-1) > 0].float().cpu())
        if inputs.labels is not None and inputs.label_mask is not None:
            true = inputs.labels[inputs.label_mask].cpu() > 0.5
            self.said.append(states.aux_logits[inputs.label_mask][:, : true.shape[-1]].cpu() > 0)
            self.true.append(true)

    def measures(self, model: Gr00tN1d6) -> dict[str, float]:
        """Over all of them; a stream whose words are all or none is left out."""
        if not isinstance(model.svms, SheafStreams) or not self.rho:
            return {}
        graph, rho = model.svms.graph, torch.cat(self.rho).mean(0).tolist()
        found = {f"rho.{name}": value for name, value in zip(graph.edge_names, rho, strict=True)}
        if self.true:
            said, true = torch.cat(self.said), torch.cat(self.true)
            scores = (balanced(said[:, i], true[:, i]) for i in range(true.shape[-1]))
            named = zip(graph.streams, scores, strict=False)
            found |= {f"accuracy.{name}": score for name, score in named if score is not None}
        return found
