"""h' = h + W [w_1 x_1; ...; w_S x_S] + b on valid tokens, and h on padding."""

import pytest
import torch
from torch import Tensor, nn

from svms_gr00t.streams.merge import Merge

B, T, M, S, D = 2, 4, 5, 3, 2


def slow_merge(merge: Merge, tokens: Tensor, streams: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    """Oracle: one token and one number at a time, straight from the formula."""
    out = tokens.clone()
    for b in range(B):
        for t in range(T):
            said = [weights[b, t, s] * streams[b, t, s, d] for s in range(S) for d in range(D)]
            for m in range(M):
                if mask[b, t]:
                    products = [merge.weight[m, i] * value for i, value in enumerate(said)]
                    out[b, t, m] = tokens[b, t, m] + sum(products) + merge.bias[m]
    return out


@pytest.fixture
def merge() -> Merge:
    merge = Merge(M, n_streams=S, d_stream=D).double()
    nn.init.normal_(merge.weight)
    nn.init.normal_(merge.bias)
    return merge


def parts() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mask = torch.tensor([[False, True, True, True], [False, False, True, True]])
    tokens, streams = torch.randn(B, T, M).double(), torch.randn(B, T, S, D).double()
    return tokens, streams, torch.rand(B, T, S).double(), mask


def test_it_adds_what_the_formula_says_with_its_sign(merge):
    given = parts()
    with torch.no_grad():
        torch.testing.assert_close(merge.add(*given), slow_merge(merge, *given))
        tokens, streams, weights, mask = given
        # one stream that says +1 moves the token up by the column of W, and by b
        loud = torch.zeros_like(streams)
        loud[..., 0, 0] = 1
        moved = merge.add(tokens, loud, torch.ones_like(weights), mask) - tokens
        torch.testing.assert_close(moved[0, 1], merge.weight[:, 0] + merge.bias)


def test_padding_keeps_every_bit_whatever_the_streams_say_there(merge):
    tokens, streams, weights, mask = parts()
    streams[~mask], weights[~mask] = float("inf"), float("nan")
    merged = merge.add(tokens, streams, weights, mask)
    assert torch.equal(merged[~mask], tokens[~mask])
    assert not torch.isclose(merged[mask], tokens[mask]).any()
