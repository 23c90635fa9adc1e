"""What the viewer shows, as one JSON record: the page and the rerun export read this and nothing else.

Axes: T steps of an episode, D numbers of a key, H horizon, E edges, S streams.
"""

from dataclasses import dataclass, field
from typing import Literal

from svms_gr00t.core.files.records import JsonRecord

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Word(JsonRecord):
    """One word of an instruction."""

    text: str
    labels: tuple[str, ...]
    """Streams that its weak label names; none for words of the grammar."""


@dataclass(frozen=True, kw_only=True)
class Saying(JsonRecord):
    """The instruction from one step on."""

    step: int
    text: str
    words: tuple[Word, ...]


@dataclass(frozen=True, kw_only=True)
class Panel(JsonRecord):
    """One state or action key as it was recorded."""

    kind: Literal["state", "action"]
    name: str
    unit: str
    elements: tuple[str, ...]
    values: Rows
    """(D, T)."""


@dataclass(frozen=True, kw_only=True)
class Plan(JsonRecord):
    """What the policy said at one step."""

    step: int
    chunk: dict[str, Rows]
    """Action key -> (D, H), in physical units."""
    rho: tuple[float, ...] = ()
    """Disagreement on each edge, mean over tokens; empty without streams."""
    routes: tuple[float, ...] = ()
    """Router weight of each stream, mean over tokens."""
    words: Rows = ()
    """Router weights of each word of the instruction; empty where its words are not found among the tokens."""
    ages: dict[int, float] = field(default_factory=dict)
    """Steps back (0: now) -> share of the present's attention; those before the episode are absent. Empty without
    memory."""


@dataclass(frozen=True, kw_only=True)
class Camera(JsonRecord):
    """Pictures of one camera."""

    name: str
    pictures: tuple[str, ...]
    """data: addresses, one for each of the episode's picture steps."""


@dataclass(frozen=True, kw_only=True)
class Watched(JsonRecord):
    """One episode."""

    index: int
    length: int
    split: str
    """"held out", "trained on", or empty where nobody knows."""
    sayings: tuple[Saying, ...]
    steps: tuple[int, ...]
    """Steps that have a picture."""
    cameras: tuple[Camera, ...]
    panels: tuple[Panel, ...]
    """Keys that change."""
    still: tuple[str, ...]
    """Keys that hardly do."""
    plans: tuple[Plan, ...]


@dataclass(frozen=True, kw_only=True)
class Recording(JsonRecord):
    """Everything on one page."""

    title: str
    subtitle: str
    fps: float
    policy: str
    """Name of the policy; empty without one."""
    every: int
    """Steps between two plans."""
    labels: tuple[str, ...]
    """Streams that words may be labelled with."""
    streams: tuple[str, ...]
    edges: tuple[str, ...]
    episodes: tuple[Watched, ...]

    @property
    def pictures(self) -> int:
        """How many there are."""
        return sum(len(camera.pictures) for episode in self.episodes for camera in episode.cameras)
