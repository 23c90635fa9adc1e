"""Arrays and tensors from anywhere; needs numpy alone, because clients have no more.

Axes: H action horizon, D elements of a key.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from svms_gr00t.core.errors import DataError


def as_array(value: Any) -> np.ndarray:
    """A numpy view or copy of an array or a tensor on any device."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if value.is_floating_point():
            value = value.float()
        return value.numpy()
    return np.asarray(value)


def refuse_not_finite(chunk: Mapping[str, Any], where: str = "actions") -> None:
    """Raises DataError, naming the keys, for NaN and infinity: no robot may be sent these."""
    if broken := [key for key, value in chunk.items() if not np.isfinite(as_array(value)).all()]:
        got, hint = f"NaN or infinity in {', '.join(broken)}", "Look at the checkpoint's weights and statistics"
        raise DataError(where, got=got, want="finite numbers", hint=hint)
