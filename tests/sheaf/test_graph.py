"""Named graphs are what they say; graphs that make no sense are refused in one sentence."""

import pytest

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.sheaf.graph import build_graph


def test_named_graphs():
    four = ("a", "b", "c", "d")
    assert build_graph(four, "path").edges == (("a", "b"), ("b", "c"), ("c", "d"))
    assert build_graph(four, "cycle").edges == (("a", "b"), ("b", "c"), ("c", "d"), ("d", "a"))
    assert len(build_graph(four, "complete").edges) == 6
    assert build_graph(("a", "b"), "cycle").edges == (("a", "b"),)  # one overlap, not two


def test_explicit_edges_are_kept_in_order_and_known_by_index():
    graph = build_graph(("a", "b", "c"), [("c", "a"), ("a", "b")])
    assert (graph.tails, graph.heads) == ((2, 0), (0, 1))
    assert graph.edge_names == ("c-a", "a-b")


@pytest.mark.parametrize(
    ("streams", "edges", "says"),
    [
        (("a",), "path", "two or more"),
        (("a", "a"), "path", "two or more"),
        (("a", "b"), [("a", "x")], "'x' is no stream"),
        (("a", "b"), [("a", "a")], "two different streams"),
        (("a", "b"), [("a", "b"), ("b", "a")], "each pair once"),
        (("a", "b", "c"), [("a", "b")], "'c'"),
    ],
)
def test_refuses_nonsense_by_name(streams, edges, says):
    with pytest.raises(ConfigError, match=says):
        build_graph(streams, edges)
