"""`--device` and `--dtype`, the same for every command that runs a trained policy."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from svms_gr00t.cli.console import errors

if TYPE_CHECKING:
    from svms_gr00t.policy import Policy


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What such a command's own dataclass begins with."""

    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda where there is one."""
    dtype: Literal["bfloat16", "float16", "float32"] | None = None
    """Number type of the weights; by default the checkpoint's own."""

    def place(self) -> dict[str, Any]:
        """What a policy is loaded with, names that another process understands too. Raises ConfigError for a device
        that is not there.
        """
        from svms_gr00t.core.device import device_of

        return {"device": str(device_of(self.device)), "dtype": self.dtype}

    def load(self, source: Path | str, **rest: Any) -> "Policy":
        """The policy of a folder or hub id there; says so on stderr. `rest` goes to `Policy.from_pretrained`."""
        from svms_gr00t.policy import Policy

        policy = Policy.from_pretrained(source, **self.place(), **rest)
        kind = str(next(policy.model.action_head.parameters()).dtype).removeprefix("torch.")
        errors.print(f"{source}: {kind} on {policy.device}", soft_wrap=True)
        return policy
