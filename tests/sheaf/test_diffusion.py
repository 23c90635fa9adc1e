"""The theorem of heat flow: energy never grows, global sections and nothing else stay, and λ is a bound from above."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sheaf_cases import graph_of, sheaves

from svms_gr00t.sheaf.coboundary import Coboundary
from svms_gr00t.sheaf.diffusion import Diffusion, heat_step, implicit_step, spectral_bound
from svms_gr00t.sheaf.energy import energy

LAWS = settings(max_examples=25, deadline=None, derandomize=True)
ETAS = st.floats(0.01, 1.999)


def lambda_max(delta: Coboundary) -> float:
    return float(torch.linalg.matrix_norm(delta.dense().detach(), 2) ** 2)


@LAWS
@given(sheaves())
def test_the_bound_is_above_lambda_max_and_close(case):
    delta, _ = case()
    true, bound = lambda_max(delta), float(spectral_bound(delta))
    loosest = 1.021 * min(delta.dense().shape) ** (1 / 64)
    assert true <= bound <= loosest * true


@LAWS
@given(sheaves(), ETAS)
def test_energy_never_grows(case, eta):
    delta, x = case()
    step = torch.tensor(eta, dtype=torch.float64) / spectral_bound(delta)
    before = energy(delta(x))
    rounding = 1e-28 * lambda_max(delta) * x.square().sum().item()  # (1e-14)²: where E is zero but for rounding
    for _ in range(3):
        x = heat_step(delta, x, step)
        after = energy(delta(x))
        assert (after <= before * (1 + 1e-12) + rounding).all()
        before = after


def test_energy_grows_when_lambda_is_a_guess_from_below():
    """The mutant: an unconverged power iteration would pass for a bound and blow up."""
    delta = Coboundary(graph_of(3, "path"), d_stream=6, d_overlap=5, rank=3).double()
    top = torch.linalg.eigh(delta.dense().T @ delta.dense()).eigenvectors[:, -1].view(1, 1, 3, 6)
    step = torch.tensor(1.9 / (0.8 * lambda_max(delta)), dtype=torch.float64)
    assert energy(delta(heat_step(delta, top, step))) > 1.5 * energy(delta(top))


@LAWS
@given(sheaves(), ETAS, st.sampled_from([heat_step, implicit_step]))
def test_fixed_points_are_exactly_the_global_sections(case, eta, move):
    delta, x = case()
    step = torch.tensor(eta, dtype=torch.float64) / spectral_bound(delta)
    dense = delta.dense()
    agree = torch.eye(dense.shape[1], dtype=torch.float64) - torch.linalg.pinv(dense) @ dense  # projector on ker δ
    section = (x.flatten(-2) @ agree).view_as(x)
    torch.testing.assert_close(move(delta, section, step), section, rtol=0, atol=1e-9)
    # What moves is what disagrees: on the complement of ker δ every vector changes.
    rest = x - section
    moved = (move(delta, rest, step) - rest).flatten(-2).norm(dim=-1)
    smallest = torch.linalg.svdvals(dense).square()
    smallest = smallest[smallest > 1e-12 * smallest[0]][-1]
    least = step * smallest / (1 + step * smallest)
    assert (moved >= 0.99 * least * rest.flatten(-2).norm(dim=-1) - 1e-9).all()


@LAWS
@given(sheaves(), ETAS)
def test_both_schemes_equal_the_dense_computation(case, eta):
    delta, x = case()
    step = torch.tensor(eta, dtype=torch.float64) / spectral_bound(delta)
    laplacian, flat = delta.dense().T @ delta.dense(), x.flatten(-2)
    eye = torch.eye(len(laplacian), dtype=torch.float64)
    explicit = flat @ (eye - step * laplacian)
    implicit = torch.linalg.solve(eye + step * laplacian, flat.mT).mT
    torch.testing.assert_close(heat_step(delta, x, step).flatten(-2), explicit, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(implicit_step(delta, x, step).flatten(-2), implicit, rtol=1e-8, atol=1e-9)


def test_many_steps_end_in_the_nearest_global_section():
    """Heat flow is a projection in the limit, so it removes disagreement and nothing else."""
    delta = Coboundary(graph_of(3, "path"), d_stream=4, d_overlap=2, rank=2).double()
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64)
    dense = delta.dense()
    nearest = x.flatten(-2) - x.flatten(-2) @ torch.linalg.pinv(dense) @ dense
    step = 1.0 / spectral_bound(delta)
    for _ in range(3000):
        x = heat_step(delta, x, step)
    torch.testing.assert_close(x.flatten(-2), nearest, rtol=1e-6, atol=1e-6)


def test_the_implicit_step_is_stable_where_the_explicit_one_is_not():
    delta = Coboundary(graph_of(3, "cycle"), d_stream=4, d_overlap=4, rank=4).double()
    x = torch.randn(2, 3, 3, 4, dtype=torch.float64)
    huge = torch.tensor(100.0 / lambda_max(delta), dtype=torch.float64)
    before = energy(delta(x)).sum()
    assert energy(delta(implicit_step(delta, x, huge))).sum() < before < energy(delta(heat_step(delta, x, huge))).sum()


@pytest.mark.parametrize("width", [1, 4, 100])
def test_the_bound_of_equal_eigenvalues_is_as_loose_as_the_64th_root_of_their_number(width):
    """Two streams that must be equal: δδᵀ = 2 I. The margin is 2 %, the Schatten norm is of order 64."""
    delta = Coboundary(graph_of(2, "path"), d_stream=width, d_overlap=width, rank=width).double()
    with torch.no_grad():
        for maps in (delta.up, delta.down):
            maps.copy_(torch.eye(width).expand_as(maps))
    assert float(spectral_bound(delta)) == pytest.approx(1.02 * 2 * width ** (1 / 64), rel=1e-9)


@pytest.mark.parametrize("scheme", ["explicit", "implicit"])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("eta", [0.3, 1.7])
def test_a_correction_is_so_many_steps_of_its_scheme_of_eta_over_lambda(scheme, steps, eta):
    delta = Coboundary(graph_of(3, "path"), d_stream=4, d_overlap=3, rank=2).double()
    diffusion, x = (
        Diffusion(delta, steps=steps, eta=eta, scheme=scheme).double().eval(),
        torch.randn(2, 3, 3, 4).double(),
    )
    assert diffusion.eta.item() == pytest.approx(eta, rel=1e-6)
    step = diffusion.eta.detach() / spectral_bound(delta)
    eye = torch.eye(12, dtype=torch.float64)
    laplacian = delta.dense().T @ delta.dense()
    once = eye - step * laplacian if scheme == "explicit" else torch.linalg.inv(eye + step * laplacian)
    expected = x.flatten(-2) @ torch.linalg.matrix_power(once, steps)
    torch.testing.assert_close(diffusion(x, delta).flatten(-2), expected, rtol=1e-5, atol=1e-6)  # λ is float32
    torch.testing.assert_close(diffusion(x, delta, delta(x)).flatten(-2), expected, rtol=1e-5, atol=1e-6)


def test_one_explicit_step_with_eta_one_is_the_default():
    delta = Coboundary(graph_of(3, "path"), d_stream=4, d_overlap=3, rank=2)
    x = torch.randn(2, 3, 3, 4)
    expected = heat_step(delta, x, 1 / spectral_bound(delta))
    torch.testing.assert_close(Diffusion(delta)(x, delta), expected)


def test_the_implicit_step_is_solved_in_float32_under_autocast():
    """A long step ends near the sections; a system that is rounded to bfloat16 ends elsewhere."""
    torch.manual_seed(0)
    delta = Coboundary(graph_of(3, "path"), d_stream=24, d_overlap=16, rank=4)
    x, step = torch.randn(2, 50, 3, 24), 1e5 / spectral_bound(delta)
    dense, dx = delta.dense().double(), delta(x)
    inverse = torch.linalg.inv(torch.eye(72).double() + step.double() * dense.T @ dense)
    exact = (x.flatten(-2).double() @ inverse).view_as(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = implicit_step(delta, x, step, dx)
    assert (rounded - exact).norm() < 0.02 * (exact - x).norm()
    assert (implicit_step(delta, x, step) - exact).norm() < 1e-3 * (exact - x).norm()


def test_eta_cannot_leave_its_bounds():
    diffusion = Diffusion(Coboundary(graph_of(2, "path"), d_stream=2, d_overlap=2, rank=1))
    assert diffusion.eta.item() == pytest.approx(1.0)
    for logit in (-50.0, 50.0):
        torch.nn.init.constant_(diffusion.eta_logit, logit)
        assert 0 <= diffusion.eta.item() <= 2


def test_lambda_follows_the_maps_in_training_and_is_frozen_in_eval():
    delta = Coboundary(graph_of(2, "path"), d_stream=4, d_overlap=3, rank=2)
    diffusion, x = Diffusion(delta), torch.randn(1, 2, 2, 4)
    before = float(diffusion.lambda_max)
    with torch.no_grad():
        delta.up *= 3
    diffusion.eval()(x, delta)
    assert float(diffusion.lambda_max) == before
    diffusion.train()(x, delta)
    assert float(diffusion.lambda_max) == pytest.approx(9 * before, rel=1e-4)


def test_zero_maps_move_nothing_and_divide_by_nothing():
    delta = Coboundary(graph_of(2, "path"), d_stream=4, d_overlap=3, rank=2)
    torch.nn.init.zeros_(delta.up)
    x = torch.randn(1, 2, 2, 4)
    assert torch.equal(Diffusion(delta)(x, delta), x)


def test_zero_steps_have_no_parameter_and_return_the_same_tensor():
    delta = Coboundary(graph_of(2, "path"), d_stream=4, d_overlap=3, rank=2)
    off, x = Diffusion(delta, steps=0), torch.randn(1, 2, 2, 4)
    assert not list(off.parameters())
    assert off(x, delta) is x


@pytest.mark.parametrize("scheme", ["explicit", "implicit"])
def test_gradients_match_finite_differences(scheme):
    delta = Coboundary(graph_of(3, "path"), d_stream=3, d_overlap=2, rank=2).double()
    diffusion = Diffusion(delta, steps=2, scheme=scheme).double().eval()  # frozen λ: in training it carries no gradient
    x = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    parameters = (x, delta.up, delta.down, diffusion.eta_logit)
    assert torch.autograd.gradcheck(lambda *_: diffusion(x, delta), parameters)
