"""The graph under the sheaf: streams are its nodes, overlaps its edges.

An edge is an ordered pair (tail, head) of stream names. The order only fixes the sign of the coboundary; energy,
Laplacian, residual and losses do not see it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal

from svms_gr00t.core.errors import ConfigError

NamedGraph = Literal["path", "cycle", "complete"]
Edges = NamedGraph | Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class StreamGraph:
    """Streams and the pairs of them that overlap. Every stream has an edge; no edge is a loop or a repetition."""

    streams: tuple[str, ...]
    """Node names; their order is the order of the stream axis."""
    edges: tuple[tuple[str, str], ...]
    """(tail, head) names; their order is the order of the edge axis."""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def tails(self) -> tuple[int, ...]:
        """Stream index of each edge's tail."""
        return tuple(self.streams.index(tail) for tail, _ in self.edges)

    @property
    def heads(self) -> tuple[int, ...]:
        """Stream index of each edge's head."""
        return tuple(self.streams.index(head) for _, head in self.edges)

    @property
    def edge_names(self) -> tuple[str, ...]:
        """ "visual-temporal" and so on, for reports."""
        return tuple(f"{tail}-{head}" for tail, head in self.edges)

    def __str__(self) -> str:
        return ", ".join(self.edge_names)


def build_graph(streams: Sequence[str], edges: Edges = "path") -> StreamGraph:
    """A graph from a name ("path", "cycle", "complete") or from explicit (tail, head) pairs of stream names.

    Raises ConfigError on fewer than two streams, an unknown graph or stream, a loop, a repetition, a lonely stream.
    """
    names = tuple(streams)
    if not isinstance(edges, str):
        return StreamGraph(streams=names, edges=tuple((tail, head) for tail, head in edges))
    path = tuple(pairwise(names))
    # Two streams have one overlap, so their cycle is their path.
    closing = ((names[-1], names[0]),) if len(names) > 2 else ()
    named = {"path": path, "cycle": path + closing, "complete": tuple(combinations(names, 2))}
    if edges not in named:
        raise ConfigError("stream_edges", got=edges, want=f"pairs or one of {sorted(named)}", hint="path is usual")
    return StreamGraph(streams=names, edges=named[edges])


def _check(graph: StreamGraph) -> None:
    names, edges = graph.streams, graph.edges
    if len(names) < 2 or len(set(names)) != len(names):
        raise ConfigError(
            "stream_names", got=names, want="two or more different names", hint="visual, temporal, state is usual"
        )
    seen: set[frozenset[str]] = set()
    for edge in edges:
        unknown = [name for name in edge if name not in names]
        if unknown:
            raise ConfigError("stream_edges", got=edge, want=f"names from {names}", hint=f"{unknown[0]!r} is no stream")
        if len(set(edge)) != 2 or frozenset(edge) in seen:
            raise ConfigError("stream_edges", got=edge, want="two different streams, each pair once", hint="drop it")
        seen.add(frozenset(edge))
    lonely = [name for name in names if not any(name in edge for edge in edges)]
    if lonely:
        raise ConfigError(
            "stream_edges", got=edges, want="an edge at every stream", hint=f"join {lonely[0]!r} to another stream"
        )
