"""The two small heads of the monitor: what pictures say of the stalk, and what should have become of it since.

Axes: N looks, P image tokens, M model width, D numbers of a stalk, F numbers of a change, Q queries, W head width.

    pictures   MLP([attend(q, Wk u, Wv u) for each query q]),  u = W LN(h) + place      frozen features h (P, M)
    motion     MLP([stalk before ; actions executed since])                             the change of the stalk

Attention pooling: Set Transformer (arXiv:1810.00825). Loss: Huber on numbers of unit spread.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from svms_gr00t.core.progress import Progress, Silent

WIDTH, QUERIES = 64, 8


class PictureHead(nn.Module):
    """Image tokens of one look -> the stalk that they show, and more numbers beside it."""

    def __init__(self, *, width: int, places: int, out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.project = nn.Linear(width, WIDTH)
        self.place = nn.Parameter(0.1 * torch.randn(places, WIDTH))
        self.queries = nn.Parameter(torch.randn(QUERIES, WIDTH))
        self.keys, self.values = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.tell = nn.Sequential(
            nn.Linear(QUERIES * WIDTH, 2 * WIDTH), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * WIDTH, out)
        )

    def forward(self, tokens: Float[Tensor, "N P M"]) -> Float[Tensor, "N _o"]:
        """In units of the training spread."""
        x = self.project(self.norm(tokens.float())) + self.place
        scores = torch.einsum("qw,npw->nqp", self.queries, self.keys(x)) * WIDTH**-0.5
        return self.tell(torch.einsum("nqp,npw->nqw", scores.softmax(-1), self.values(x)).flatten(1))


class MotionHead(nn.Module):
    """A stalk and the actions since -> its change, both in units of the training spread."""

    def __init__(self, *, given: int, out: int) -> None:
        super().__init__()
        layers = [nn.Linear(given, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, 2 * WIDTH), nn.GELU()]
        self.tell = nn.Sequential(*layers, nn.Linear(2 * WIDTH, out))

    def forward(self, given: Float[Tensor, "N _g"]) -> Float[Tensor, "N _o"]:
        """In units of the training spread."""
        return self.tell(given)


def fit(
    head: nn.Module,
    given: Tensor,
    wanted: Float[Tensor, "N _o"],
    *,
    steps: int,
    batch: int = 128,
    rate: float = 2e-3,
    seed: int = 0,
    title: str = "training",
    progress: Progress | None = None,
) -> float:
    """Train one head in place on the CPU; the last steps' mean loss. NaN in `wanted` asks for nothing."""
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=max(steps, 2))
    asked = wanted.isfinite()
    wanted = wanted.nan_to_num(0.0)
    head.train()
    losses: list[float] = []
    with (progress or Silent()).task(title, steps) as bar, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout
        for _ in range(steps):
            rows = torch.randint(len(given), (min(batch, len(given)),), generator=draw)
            loss = _loss(head(given[rows]), wanted[rows], asked[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            bar.advance()
    head.eval()
    return sum(losses[-50:]) / max(len(losses[-50:]), 1)


def _loss(said: Tensor, wanted: Tensor, asked: Tensor) -> Tensor:
    each = F.smooth_l1_loss(said, wanted, beta=0.5, reduction="none")
    return (each * asked).sum() / asked.sum().clamp(min=1)


@torch.no_grad()
def in_batches(head: Callable[[Tensor], Tensor], given: Tensor, size: int = 256) -> Tensor:
    """What a head says of many rows."""
    return torch.cat([head(part) for part in given.split(size)]) if len(given) else head(given)
