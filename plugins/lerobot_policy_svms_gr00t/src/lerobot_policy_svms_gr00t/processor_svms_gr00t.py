"""LeRobot's pipelines around the policy: batching and device, and normalisers that change nothing.

Those stay, because LeRobot's training overrides their statistics and devices by name and refuses a pipeline without
them. Pictures, words and numbers are encoded where the model is (`columns.py`), once for each chunk instead of at every
step of an environment.
"""

from typing import Any

from lerobot.processor import PolicyAction, PolicyProcessorPipeline, make_default_pre_post_processors

from lerobot_policy_svms_gr00t.configuration_svms_gr00t import SvmsGr00tConfig

Batch = dict[str, Any]


def make_svms_gr00t_pre_post_processors(
    config: SvmsGr00tConfig, dataset_stats: dict[str, dict[str, Any]] | None = None
) -> tuple[PolicyProcessorPipeline[Batch, Batch], PolicyProcessorPipeline[PolicyAction, PolicyAction]]:
    """The pipelines before and after the policy."""
    return make_default_pre_post_processors(config, dataset_stats, normalizer_device=config.device)
