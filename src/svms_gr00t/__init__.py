"""svms-gr00t: sheaf-coupled multi-stream features between the backbone and the action head of GR00T N1.6."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from svms_gr00t.core.svms_config import SvmsConfig as SvmsConfig
    from svms_gr00t.core.types import Features as Features
    from svms_gr00t.data.labels.labeler import Labeler as Labeler
    from svms_gr00t.data.lerobot.dataset import LeRobotDataset as LeRobotDataset
    from svms_gr00t.data.lerobot.modality import Modality as Modality
    from svms_gr00t.data.lerobot.writer import LeRobotWriter as LeRobotWriter
    from svms_gr00t.groot.config import Gr00tN1d6Config as Gr00tN1d6Config
    from svms_gr00t.model import Gr00tN1d6 as Gr00tN1d6
    from svms_gr00t.policy import Policy as Policy
    from svms_gr00t.recipes.setup import Robot as Robot
    from svms_gr00t.recipes.setup import set_up as set_up
    from svms_gr00t.svms import SheafStreams as SheafStreams

__version__ = "0.1.0"

_HOMES = {
    "Features": "svms_gr00t.core.types",
    "Gr00tN1d6": "svms_gr00t.model",
    "Gr00tN1d6Config": "svms_gr00t.groot.config",
    "Labeler": "svms_gr00t.data.labels.labeler",
    "LeRobotDataset": "svms_gr00t.data.lerobot.dataset",
    "LeRobotWriter": "svms_gr00t.data.lerobot.writer",
    "Modality": "svms_gr00t.data.lerobot.modality",
    "Policy": "svms_gr00t.policy",
    "Robot": "svms_gr00t.recipes.setup",
    "SheafStreams": "svms_gr00t.svms",
    "SvmsConfig": "svms_gr00t.core.svms_config",
    "set_up": "svms_gr00t.recipes.setup",
}
__all__ = [
    "Features",
    "Gr00tN1d6",
    "Gr00tN1d6Config",
    "Labeler",
    "LeRobotDataset",
    "LeRobotWriter",
    "Modality",
    "Policy",
    "Robot",
    "SheafStreams",
    "SvmsConfig",
    "__version__",
    "set_up",
]


def __getattr__(name: str) -> Any:
    """Resolve the public names on first use, so that `import svms_gr00t` does not load torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
