"""LeRobot's pipelines of N1.7, whose encoder also labels the instruction's words in a batch that is learned from.

Axes: B batch, T tokens, S labelled streams.
"""

from dataclasses import dataclass, field, fields
from typing import Any

import torch
from lerobot.lerobot_types import EnvTransition, TransitionKey
from lerobot.policies.groot.processor_groot import (
    GrootN17PackInputsStep,
    GrootN17VLMEncodeStep,
    make_groot_pre_post_processors,
)
from lerobot.policies.groot.utils import prepare_n1_7_language_batch
from lerobot.processor import PolicyAction, PolicyProcessorPipeline, ProcessorStepRegistry

from lerobot_policy_svms_gr00t.inserted import LABELS
from lerobot_policy_svms_gr00t.labelling import PromptLabels, label_weight
from lerobot_policy_svms_gr00t.n1d7.configuration_n1d7 import SvmsGr00tN1d7Config

Batch = dict[str, Any]


@dataclass
@ProcessorStepRegistry.register(name="svms_gr00t_n1d7_encode_v1")
class LabellingEncodeStep(GrootN17VLMEncodeStep):
    """LeRobot's encoder; where actions are recorded, it adds labels (B, T, S), their mask (B, T) and weight (S)."""

    label_weight: list[float] | None = None
    """Negatives over positives of each stream in the dataset; None weighs both alike."""
    _labels: PromptLabels | None = field(default=None, init=False, repr=False)

    @property
    def labels(self) -> PromptLabels:
        """The labels of N1.7's own tokens."""
        if self._labels is None:
            self._labels = PromptLabels(self.proc.tokenizer)
        return self._labels

    def __call__(self, transition: EnvTransition) -> EnvTransition:
        transition = super().__call__(transition)
        told = transition.get(TransitionKey.COMPLEMENTARY_DATA) or {}
        if transition.get(TransitionKey.ACTION) is None or "input_ids" not in told:
            return transition
        labels, mask = self.labels(told["input_ids"], told["language"])
        weight = torch.ones(labels.shape[-1]) if self.label_weight is None else torch.tensor(self.label_weight)
        values = {"labels": labels, "label_mask": mask, "label_weight": weight}
        told.update({key: values[name] for name, key in LABELS.items()})
        return transition

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"label_weight": self.label_weight}


def make_svms_gr00t_n1d7_pre_post_processors(
    config: SvmsGr00tN1d7Config,
    dataset_stats: dict[str, dict[str, Any]] | None = None,
    dataset_meta: Any = None,
) -> tuple[PolicyProcessorPipeline[Batch, Batch], PolicyProcessorPipeline[PolicyAction, PolicyAction]]:
    """LeRobot's own pipelines, the encoder replaced."""
    before, after = make_groot_pre_post_processors(config, dataset_stats, dataset_meta)
    meta = dataset_meta or getattr(config, "_runtime_dataset_meta", None)
    pack = next(step for step in before.steps if isinstance(step, GrootN17PackInputsStep))
    for place, step in enumerate(before.steps):
        if isinstance(step, GrootN17VLMEncodeStep):
            ours = LabellingEncodeStep(**{f.name: getattr(step, f.name) for f in fields(step) if f.init})
            if meta is not None and config.streams.use_aux_losses:
                ours.label_weight = _weights(meta, ours.labels, formalize=pack.formalize_language)
            before.steps[place] = ours
    return before, after


def _weights(meta: Any, labels: PromptLabels, *, formalize: bool) -> list[float]:
    def labeled(text: str) -> torch.Tensor:
        return labels.of_words(prepare_n1_7_language_batch([text], 1, formalize_language=formalize)[0])

    return label_weight(meta, labeled, len(labels.labeler.streams)).tolist()
