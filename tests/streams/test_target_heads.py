"""Heads of grounded targets: each reads one stream's picture tokens, in units of the training episodes."""

import pytest
import torch
from torch.nn import functional as F

from svms_gr00t.core.svms_config import GROUNDED
from svms_gr00t.streams.targets import TargetHeads

B, T, S, D, G = 3, 7, 3, 8, sum(GROUNDED.values())
ALL = {"where": 0, "when": 1, "how": 2}


def heads(streams: dict[str, int] | None = None) -> TargetHeads:
    torch.manual_seed(0)
    made = TargetHeads(streams or ALL, D)
    made.scale(torch.linspace(-1, 1, G), torch.linspace(0.5, 2, G))
    return made.double()


def case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Streams, a mask with one row of text alone, targets."""
    source = torch.Generator().manual_seed(seed)
    mask = torch.rand(B, T, generator=source) < 0.6
    mask[-1] = False
    x = torch.randn(B, T, S, D, generator=source, dtype=torch.float64)
    return x, mask, torch.randn(B, G, generator=source, dtype=torch.float64)


def slowly(made: TargetHeads, x: torch.Tensor, mask: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """The formulas, one row and one target at a time."""
    found = {}
    for n, (name, stream) in enumerate(made.streams.items()):
        first = sum(list(GROUNDED.values())[: list(GROUNDED).index(name)])
        part = slice(first, first + GROUNDED[name])
        rows = []
        for row in range(len(x)):
            seen = x[row, mask[row], stream]
            look = torch.softmax(seen @ made.queries[n] / D**0.5, 0)
            said = made.says[name](look @ seen).float()
            wanted = ((targets[row, part].float() - made.mean[part]) / made.std[part]).float()
            rows.append(F.smooth_l1_loss(said, wanted).detach())
        found[name] = float(torch.stack(rows).mean())
    return found


@pytest.mark.parametrize("streams", [ALL, {"how": 1}, {"when": 0, "where": 0}], ids=["all", "one", "two of one stream"])
def test_losses_are_the_formulas(streams):
    made, (x, mask, targets) = heads(streams), case()
    made.mean, made.std = made.mean.float(), made.std.float()
    found = {name: float(loss.detach()) for name, loss in made.losses(x, mask, targets).items()}
    assert found == pytest.approx(slowly(made, x, mask, targets), abs=1e-6)
    assert found != pytest.approx(slowly(made, x.flip(1), mask, targets), abs=1e-6)


def test_a_head_hears_its_own_stream_and_pictures_alone():
    made, (x, mask, targets) = heads(), case()
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(made.losses(x, mask, targets)["when"], x)
    assert gradient[:, :, [0, 2]].abs().max() == 0
    assert gradient[~mask].abs().max() == 0
    assert gradient[mask][:, 1].abs().min() > 0
    poisoned = x.detach().masked_fill(~mask[..., None, None], float("nan"))
    again = made.losses(poisoned, mask, targets)
    assert all(torch.equal(value, again[name]) for name, value in made.losses(x, mask, targets).items())


def test_what_never_moves_is_zero_and_the_rest_has_unit_spread():
    made, targets = TargetHeads(ALL, D), torch.randn(500, G) * torch.linspace(0.01, 9, G) + 5
    targets[:, 9] = 0.3  # the hand's first coordinate never changes
    assert not made.is_scaled
    made.scale(targets.mean(0), targets.std(0))
    assert made.is_scaled
    found = torch.cat(list(made.standardised(targets).values()), dim=1)
    spread = torch.ones(G)
    spread[9] = 0
    torch.testing.assert_close(found.std(0), spread, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.mean(0), torch.zeros(G), atol=1e-4, rtol=0)


def test_the_scale_is_kept_in_float32_by_a_half_precision_model():
    made = TargetHeads(ALL, D).to(torch.bfloat16)
    made.scale(torch.full((G,), 0.123456), torch.full((G,), 0.0123456))
    assert made.mean.dtype == torch.float32
    assert float(made.std[0]) == pytest.approx(0.0123456, rel=1e-6)
    x, mask, targets = case()
    assert all(torch.isfinite(loss) for loss in made.losses(x.bfloat16(), mask, targets.float()).values())
