"""The numbers beside ρ have known answers on sheaves one can solve by hand."""

import pytest
import torch
from sheaf_cases import graph_of

from svms_gr00t.sheaf.coboundary import Coboundary
from svms_gr00t.sheaf.diagnostics import diagnose, edge_disagreement, effective_rank, sections_dim, spectrum
from svms_gr00t.sheaf.diffusion import spectral_bound


def constant_sheaf(shape: str, n_streams: int = 3, width: int = 4) -> Coboundary:
    """All maps the identity: L is the graph Laplacian, once for each coordinate."""
    delta = Coboundary(graph_of(n_streams, shape), d_stream=width, d_overlap=width, rank=width)
    for maps in (delta.up, delta.down):
        with torch.no_grad():
            maps.copy_(torch.eye(width).expand_as(maps))
    return delta


@pytest.mark.parametrize(
    ("shape", "eigenvalues"), [("path", [0.0, 1.0, 3.0]), ("cycle", [0.0, 3.0, 3.0]), ("complete", [0.0, 3.0, 3.0])]
)
def test_the_constant_sheaf_has_the_spectrum_of_its_graph(shape, eigenvalues):
    expected = torch.tensor(eigenvalues, dtype=torch.float64).repeat_interleave(4)
    torch.testing.assert_close(spectrum(constant_sheaf(shape)), expected)


def test_sections_of_the_constant_sheaf_are_the_constants():
    assert sections_dim(constant_sheaf("path", width=4)) == 4


def test_random_maps_leave_the_dimension_that_counting_predicts():
    """dim H⁰ = S D - E min(K, 2r) while there are directions left: both ends of an edge have rank r."""
    delta = Coboundary(graph_of(3, "path"), d_stream=6, d_overlap=5, rank=2)
    assert sections_dim(delta) == 3 * 6 - 2 * 4


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e6])
def test_sections_do_not_depend_on_the_size_of_the_maps_but_zero_maps_pass_everything(scale):
    delta = Coboundary(graph_of(3, "path"), d_stream=6, d_overlap=5, rank=2)
    with torch.no_grad():
        delta.up *= scale
    assert sections_dim(delta) == (10 if scale else 18)


def test_one_direction_of_disagreement_leaves_all_others():
    """Rank 1: what is zero but for rounding is compared with the largest eigenvalue, not with its neighbour."""
    delta = Coboundary(graph_of(2, "path"), d_stream=5, d_overlap=4, rank=1).double()
    with torch.no_grad():
        delta.up[1] = delta.up[0]
    assert sections_dim(delta) == 2 * 5 - 1


def test_effective_rank_of_known_clouds():
    mask = torch.ones(1, 5000, dtype=torch.bool)
    round_cloud = torch.randn(2, 1, 5000, 1, 8)
    torch.testing.assert_close(effective_rank(round_cloud, mask), torch.full((2, 1), 8.0), rtol=0.01, atol=0)
    point = torch.ones(2, 1, 5000, 1, 8)
    torch.testing.assert_close(effective_rank(point, mask), torch.ones(2, 1), rtol=1e-3, atol=0)
    assert effective_rank(round_cloud + 20, mask).max() < 1.5, "a large offset is a collapse"
    assert effective_rank(0 * point, mask).max() == 0


def test_padding_is_not_counted():
    mask = torch.tensor([[True, True, True, False]])
    z = torch.randn(2, 1, 4, 2, 3)
    poisoned = z.masked_fill(~mask[..., None, None], float("nan"))
    torch.testing.assert_close(effective_rank(poisoned, mask), effective_rank(z, mask))
    rho = torch.tensor([[[0.5, 1.0], [0.1, 1.0], [0.3, 1.0], [9.0, 9.0]]])
    torch.testing.assert_close(edge_disagreement(rho, mask), torch.tensor([0.3, 1.0]))


def test_the_diagnosis_speaks_in_names_and_is_consistent():
    delta = Coboundary(graph_of(3, "path"), d_stream=6, d_overlap=5, rank=2)
    x, mask = torch.randn(2, 9, 3, 6), torch.ones(2, 9, dtype=torch.bool)
    seen = diagnose(delta, x, mask, spectral_bound(delta))
    assert list(seen.rho_of_edge) == list(seen.effective_rank) == ["visual-temporal", "temporal-state"]
    assert min(seen.rho_of_edge.values()) <= seen.rho <= max(seen.rho_of_edge.values()) + 0.2
    assert sum(v < 1e-9 for v in seen.spectrum) == seen.sections_dim == 10
    assert seen.bound >= seen.spectrum[-1]
