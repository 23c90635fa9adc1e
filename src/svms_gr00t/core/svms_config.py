"""The SVMS switches, under the names users of the public seed know. Every one is read, tested and documented."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from svms_gr00t.core.errors import ConfigError, near
from svms_gr00t.core.files.documents import filled

GROUNDED = {"where": 6, "when": 3, "how": 7}
"""Grounded targets and how many numbers each has; `data/labels/waypoints.py` says what they are."""
Rule = tuple[str, bool, str, str]
"""Setting, whether its value is fine, what is wanted, a hint."""


@dataclass(frozen=True, kw_only=True)
class SvmsConfig:
    """Streams, sheaf, router and their schedules. `use_sheaf_streams=False` is plain GR00T N1.6."""

    use_sheaf_streams: bool = True
    """Build SVMS between the backbone and the action head; off leaves no trace of it."""
    stream_names: tuple[str, ...] = ("visual", "temporal", "state")
    """One specialised stream for each name; the first three have token labels."""
    n_streams: int = 3
    """Must equal the number of stream names (kept because the seed has it)."""
    stream_edges: Literal["path", "cycle", "complete"] | tuple[tuple[str, str], ...] = "path"
    """Which streams overlap: a named graph, or (tail, head) pairs of stream names."""
    d_stream: int = 768
    """Width of one stream."""
    d_overlap: int = 384
    """Width of the space in which two overlapping streams are compared."""
    adapter_rank: int = 128
    """Rank of the restriction maps."""
    sheaf_unroll_steps: int = 1
    """Heat-flow steps applied to the streams; 0 switches the correction off."""
    sheaf_scheme: Literal["explicit", "implicit"] = "explicit"
    """explicit: x - eta L x / lambda. implicit: (I + eta L / lambda)^-1 x, exactly; docs/sheaf.md has the cost."""
    lambda_sheaf_max: float = 0.1
    """Sheaf loss weight once fully on."""
    lambda_sheaf_min: float = 0.01
    """Sheaf loss weight before the ramp."""
    sheaf_schedule_mode: Literal["adaptive", "linear", "constant", "off"] = "adaptive"
    """adaptive: minimum until the smoothed flow loss falls below `sheaf_delay_until_diffusion`, then a ramp."""
    sheaf_delay_until_diffusion: float = 0.4
    """Flow loss (not a fraction of steps) below which the adaptive ramp starts."""
    sheaf_ramp_steps: int = 2000
    """Length of the adaptive and linear ramps, in optimiser steps."""
    use_aux_losses: bool = True
    """Teach each stream its subject with token labels."""
    lambda_aux: float = 0.3
    """Auxiliary loss weight after warm-up."""
    aux_warmup_steps: int = 5000
    """Steps over which `lambda_aux` rises from 0."""
    router_mode: Literal["learned", "uniform", "frozen"] = "learned"
    """uniform: every stream always weighs the same. frozen: the router as it started. Both are controls."""
    router_temp_init: float = 2.0
    """Router temperature at step 0: near uniform."""
    router_temp_final: float = 0.5
    """Router temperature after decay: near a choice."""
    router_temp_decay_steps: int = 15000
    """Steps of the geometric decay between the two."""
    router_balance_weight: float = 0.01
    """Weight of the balance loss over valid tokens."""
    router_stream_dropout_p: float = 0.15
    """Chance that a token loses a stream in training; at least one is always kept."""

    memory_offsets: tuple[int, ...] = ()
    """Earlier steps that memory keeps, in frames before now, oldest first, evenly spaced; none switches memory off."""
    memory_only: bool = False
    """The memory alone on plain features: no streams, no router, no sheaf."""
    memory_streams: tuple[str, ...] = ("temporal",)
    """Streams that remember."""
    memory_moments: int = 4
    """Moments that a step keeps of each remembering stream; the robot's state has one more."""
    memory_layers: int = 2
    """Layers of the transformer that mixes moments of several steps."""
    memory_dropout_p: float = 0.1
    """Chance that a past step is hidden in training."""
    lambda_recall: float = 1.0
    """Weight of the recall loss: memory alone must tell the chunk."""

    grounded_targets: tuple[str, ...] = ()
    """Of where, when and how: what the pictures must tell of the hand's motion in training; none switches them off."""
    target_streams: tuple[str, ...] = ("visual", "temporal", "state")
    """Streams that tell where, when and how."""
    lambda_targets: float = 0.05
    """Weight of each target's loss."""

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SvmsConfig":
        """The configuration in a JSON object, for streams behind another model than N1.6; the rest are defaults.

        Raises `ConfigError` for an unknown key or a value that cannot be, `DataError` for one of another type.
        """
        known = sorted(f.name for f in fields(cls))
        for name in values.keys() - set(known):
            raise ConfigError(name, got=values[name], want="a key of SVMS", hint=near(name, known))
        return filled(cls, values, "svms", hint="docs/sheaf.md has them all")  # type: ignore[no-any-return]

    @property
    def has_streams(self) -> bool:
        """Whether streams stand between backbone and action head."""
        return self.use_sheaf_streams and not self.memory_only

    @property
    def remembered(self) -> tuple[int, ...]:
        """`memory_offsets` of a model that remembers; () for the plain one."""
        return self.memory_offsets if self.use_sheaf_streams else ()

    @property
    def told_by(self) -> dict[str, int]:
        """Which stream, by number, tells which of the chosen targets."""
        tellers = dict(zip(GROUNDED, self.target_streams, strict=True))
        return {name: self.stream_names.index(tellers[name]) for name in self.grounded_targets}

    @property
    def memory_stride(self) -> int:
        """Frames between two steps that memory keeps; 0 without memory."""
        return -self.memory_offsets[-1] if self.memory_offsets else 0


def _check(c: SvmsConfig) -> None:
    alone = ("memory_only", not c.memory_only or bool(c.memory_offsets), "memory_offsets too", "--memory sets both")
    memory = _memory_rules(c) if c.memory_offsets else ()
    targets = _target_rules(c) if c.grounded_targets else ()
    for name, fine, want, hint in (*_stream_rules(c), alone, *memory, *targets):
        if not fine:
            raise ConfigError(name, got=getattr(c, name), want=want, hint=hint)


def _stream_rules(c: SvmsConfig) -> list[Rule]:
    return [
        (
            "n_streams",
            c.n_streams == len(c.stream_names) >= 2,
            f"len(stream_names) = {len(c.stream_names)}, at least 2",
            "name each stream in stream_names",
        ),
        ("d_stream", c.d_stream >= 1, "a width of at least 1", "768 fits N1.6"),
        ("d_overlap", c.d_overlap >= 1, "a width of at least 1", "half of d_stream is usual"),
        ("adapter_rank", c.adapter_rank >= 1, "a rank of at least 1", "128 fits N1.6"),
        ("sheaf_unroll_steps", c.sheaf_unroll_steps >= 0, "0 or more", "0 switches the correction off"),
        (
            "lambda_sheaf_min",
            0 <= c.lambda_sheaf_min <= c.lambda_sheaf_max,
            "0 <= min <= lambda_sheaf_max",
            "0.01 and 0.1 are the defaults",
        ),
        (
            "sheaf_schedule_mode",
            c.sheaf_schedule_mode in ("adaptive", "linear", "constant", "off"),
            "adaptive, linear, constant or off",
            "adaptive is the default",
        ),
        ("sheaf_delay_until_diffusion", c.sheaf_delay_until_diffusion > 0, "a flow loss above 0", "0.4 is the default"),
        ("sheaf_ramp_steps", c.sheaf_ramp_steps >= 1, "at least 1 step", "2000 is the default"),
        (
            "sheaf_scheme",
            c.sheaf_scheme in ("explicit", "implicit"),
            "explicit or implicit",
            "explicit is the default",
        ),
        (
            "router_mode",
            c.router_mode in ("learned", "uniform", "frozen"),
            "learned, uniform or frozen",
            "learned is the default",
        ),
        ("lambda_aux", c.lambda_aux >= 0, "0 or more", "0.3 is the default"),
        ("aux_warmup_steps", c.aux_warmup_steps >= 0, "0 or more", "0 starts at full weight"),
        (
            "router_temp_final",
            0 < c.router_temp_final <= c.router_temp_init,
            "0 < final <= router_temp_init",
            "2.0 and 0.5 are the defaults",
        ),
        ("router_temp_decay_steps", c.router_temp_decay_steps >= 1, "at least 1 step", "15000 is the default"),
        ("router_balance_weight", c.router_balance_weight >= 0, "0 or more", "0.01 is the default"),
        ("router_stream_dropout_p", 0 <= c.router_stream_dropout_p < 1, "0 <= p < 1", "0.15 is the default"),
    ]


def _memory_rules(c: SvmsConfig) -> list[Rule]:
    return [
        (
            "memory_offsets",
            c.memory_stride > 0
            and c.memory_offsets == tuple(c.memory_stride * k for k in range(-len(c.memory_offsets), 0)),
            "(-K s, .., -2 s, -s) for one stride s of at least 1",
            "(-96, -88, .., -8) remembers 96 frames",
        ),
        (
            "memory_streams",
            len(set(c.memory_streams)) == len(c.memory_streams) > 0 and set(c.memory_streams) <= set(c.stream_names),
            f"names among {', '.join(c.stream_names)}, each once",
            '("temporal",) is the default',
        ),
        ("memory_moments", c.memory_moments >= 1, "at least 1", "4 is the default"),
        ("memory_layers", c.memory_layers >= 1, "at least 1", "2 is the default"),
        ("memory_dropout_p", 0 <= c.memory_dropout_p < 1, "0 <= p < 1", "0.1 is the default"),
        ("lambda_recall", c.lambda_recall >= 0, "0 or more", "1.0 is the default"),
    ]


def _target_rules(c: SvmsConfig) -> list[Rule]:
    return [
        (
            "grounded_targets",
            set(c.grounded_targets) <= set(GROUNDED) and len(set(c.grounded_targets)) == len(c.grounded_targets),
            f"names among {', '.join(GROUNDED)}, each once",
            "leave it empty for none",
        ),
        ("memory_only", not c.memory_only, "streams for grounded_targets", "leave one of the two out"),
        (
            "target_streams",
            len(c.target_streams) == len(GROUNDED) and set(c.target_streams) <= set(c.stream_names),
            f"three names among {', '.join(c.stream_names)}, for {', '.join(GROUNDED)}",
            '("visual", "temporal", "state") is the default',
        ),
        ("lambda_targets", c.lambda_targets >= 0, "0 or more", "0.05 is the default"),
    ]
