"""The acting benchmark compares two ways to the same chunk, and its page says whether the aims are met."""

import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def acting(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import acting

    yield acting
    for name in ("acting", "acting_page", "acting_plain"):
        sys.modules.pop(name, None)


@torch.no_grad()
def test_what_is_written_down_gives_our_chunk(acting) -> None:
    model = acting.ours(8, use_sheaf_streams=False)
    straight, inputs = acting.Straightforward(model), acting.observation(model.config, 1, 0)
    noise = torch.randn(1, model.config.action_horizon, model.config.max_action_dim)
    expected = straight.act(inputs, straight.language(inputs, straight.vision(inputs)), noise)
    torch.testing.assert_close(model.sample(inputs, noise=noise).action, expected, rtol=1e-4, atol=1e-5)
    model.action_head.position_embedding.weight.data.mul_(1.5)  # both read the same weights
    other = model.sample(inputs, noise=noise).action
    assert (other - expected).abs().max() > 1e-3


def test_prompts_of_an_episode_differ_in_pictures_alone(acting) -> None:
    config = acting.narrow(8)
    first, second = (acting.observation(config, 2, seed) for seed in (0, 1))
    assert torch.equal(first.input_ids, second.input_ids)
    assert not torch.equal(first.images[0], second.images[0])
    assert int((first.input_ids == config.image_token_index).sum()) == 2 * 81
    assert first.input_ids.shape[1] == 204, "N1.6's prompt of two views and a dozen words"


@pytest.mark.parametrize(("ours", "verdict"), [(50.0, "met (2.00)"), (60.0, "not met (1.67)")])
def test_the_page_says_what_was_reached(acting, ours: float, verdict: str) -> None:
    names = ("written down", "plain", "SVMS", "SVMS with memory")
    whole = {name: [100.0 if name == "written down" else ours] * 3 for name in names}
    stages = {"vision": {"written down": [2.0] * 3, "ours": [1.0] * 3}}
    added = {"SVMS": [0.3] * 3, "SVMS with memory": [0.9] * 3, "memory alone": [0.4] * 3}
    text = acting.page(
        acting.Found(
            whole=whole, stages=stages, gflop={"vision": {"written down": 3.0, "ours": 2.0}}, added=added, apart=1e-6
        ),
        "command",
        3,
    )
    assert verdict in text
    assert "does 1.50 times" in text.replace("\n", " ")
    assert f"met ({100 * 0.6 / ours:.2f} %)" in text
