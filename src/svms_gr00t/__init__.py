"""svms-gr00t: sheaf-coupled multi-stream features between the backbone and the action head of GR00T N1.6."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from svms_gr00t.groot.config import Gr00tN1d6Config as Gr00tN1d6Config
    from svms_gr00t.model import Gr00tN1d6 as Gr00tN1d6
    from svms_gr00t.policy import Policy as Policy
    from svms_gr00t.svms import SheafStreams as SheafStreams

__version__ = "0.1.0"

_HOMES = {
    "Gr00tN1d6": "svms_gr00t.model",
    "Gr00tN1d6Config": "svms_gr00t.groot.config",
    "Policy": "svms_gr00t.policy",
    "SheafStreams": "svms_gr00t.svms",
}
__all__ = ["Gr00tN1d6", "Gr00tN1d6Config", "Policy", "SheafStreams", "__version__"]


def __getattr__(name: str) -> Any:
    """Resolve the public names on first use, so that `import svms_gr00t` does not load torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
