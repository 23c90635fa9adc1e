"""From pictures to an action chunk: our acting path beside N1.6 written straight down, and what SVMS and memory add.

    python benchmarks/acting.py --out benchmarks        writes acting_<date>.md, in about two minutes

The released depth at a quarter of its width (vocabulary too), random weights, one thread: every layer and launch of the
real model, and its proportions, in a CPU's time. All sides share their weights. Each round asks all of them, in another
order, with another observation; what counts is the median over rounds of a ratio. Processor time: other programs on the
machine count less. Before anything is timed the chunks are compared.
"""

import argparse
import datetime
import random
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from acting_page import Found, page
from acting_plain import Straightforward
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from svms_gr00t.core.types import Layout, ModelInputs, Moments
from svms_gr00t.data.processor.tokenizer import load_tokenizer
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.training.presets import preset
from svms_gr00t.svms import SheafStreams
from svms_gr00t.train.memory.synthetic import synthetic_inputs

LEAD, BETWEEN, LAST, TAIL = 26, 6, 1, 2
"""Text tokens of N1.6's prompt: up to the first picture's mark, each picture's mark, its end, and the end of all."""
OFFSETS = tuple(range(-96, 0, 8))
SIDES = ("written down", "ours")
Act = Callable[[ModelInputs, Tensor], Tensor]


def narrow(share: int, **changes: object) -> Gr00tN1d6Config:
    """The released configuration with every width and the vocabulary divided by `share`; head widths stay."""
    full = preset("n1d6").config(load_tokenizer("tiny"), **changes)

    def thin(part: object, *names: str) -> object:
        return replace(part, **{name: getattr(part, name) // share for name in names})  # type: ignore[type-var]

    text = thin(full.text_config, "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    own = ("backbone_embedding_dim", "hidden_size", "input_embedding_dim", "d_stream", "d_overlap", "adapter_rank")
    return replace(
        full,
        vision_config=thin(full.vision_config, "hidden_size", "intermediate_size", "num_attention_heads"),
        text_config=thin(text, "vocab_size"),
        diffusion_model_cfg=thin(full.diffusion_model_cfg, "num_attention_heads", "output_dim"),
        image_token_index=full.text_config.vocab_size // share - 1,
        **{name: getattr(full, name) // share for name in own},
    )


def observation(config: Gr00tN1d6Config, views: int, seed: int) -> ModelInputs:
    """One observation with the tokens in N1.6's order: instruction, then each picture between its marks.

    The words are those of one episode; pictures and state are new with each seed.
    """
    found = synthetic_inputs(config, 1, views=views, text=LEAD, seed=seed)
    words = torch.randint(0, config.image_token_index, (4096,), generator=torch.Generator().manual_seed(0)).tolist()
    picture = [config.image_token_index] * (found.input_ids.shape[1] - LEAD)
    size, ids = len(picture) // views, [words.pop() for _ in range(LEAD)]
    for _ in range(views):
        ids += [*(words.pop() for _ in range(BETWEEN)), *picture[:size], *(words.pop() for _ in range(LAST))]
    row = torch.tensor([ids + [words.pop() for _ in range(TAIL)]])
    mask = torch.ones_like(row, dtype=torch.bool)
    layout = Layout.of(row, mask, config.image_token_index, (0,))
    return replace(found, input_ids=row, attention_mask=mask, layout=layout, action=None, labels=None, label_mask=None)


def ours(share: int, towers: Gr00tN1d6 | None = None, **changes: object) -> Gr00tN1d6:
    """A model with random weights, SVMS's part in the result included; `towers` lends backbone and action head."""
    torch.manual_seed(0)
    with torch.device("meta"):
        model = Gr00tN1d6(narrow(share, **changes)).eval()
    if towers is not None:
        model.backbone, model.action_head = towers.backbone, towers.action_head
    for part in (model.backbone, model.action_head, model.svms):
        if part is not None and next(part.parameters()).is_meta:
            part.to_empty(device="cpu")
            part.reset_parameters()
    if model.svms is not None:
        torch.nn.init.normal_(model.svms.merge.weight, std=0.02)
    return model


def sides(share: int) -> tuple[dict[str, Act], Straightforward, dict[str, Gr00tN1d6]]:
    """What is compared, the same towers everywhere; and the models by name."""
    plain = ours(share, use_sheaf_streams=False)
    models = {
        "plain": plain,
        "SVMS": ours(share, plain, use_sheaf_streams=True),
        "SVMS with memory": ours(share, plain, use_sheaf_streams=True, memory_offsets=OFFSETS),
        "memory alone": ours(share, plain, use_sheaf_streams=True, memory_offsets=OFFSETS, memory_only=True),
    }
    straight = Straightforward(plain)

    def written_down(inputs: ModelInputs, noise: Tensor) -> Tensor:
        return straight.act(inputs, straight.language(inputs, straight.vision(inputs)), noise)

    def acting(model: Gr00tN1d6) -> Act:
        known = past(model)
        return lambda inputs, noise: model.sample(replace(inputs, past=known), noise=noise).action

    return {"written down": written_down} | {name: acting(model) for name, model in models.items()}, straight, models


def past(model: Gr00tN1d6) -> Moments | None:
    """A full ring; None for a model that remembers nothing."""
    if not model.config.remembered:
        return None
    size = model.svms.memory.size  # type: ignore[union-attr]
    values = torch.randn(1, size.steps, size.block, size.d_stream)
    return Moments(values=values, valid=torch.ones(1, size.steps, dtype=torch.bool))


def took(run: Callable[[], object]) -> float:
    """Milliseconds of processor time."""
    began = time.process_time()
    run()
    return 1e3 * (time.process_time() - began)


def in_turn(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Times of each, every round in another order."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in random.Random(number).sample(list(runs), len(runs)):
            times[name].append(took(runs[name]))
    return times


def stages(straight: Straightforward, plain: Gr00tN1d6, inputs: ModelInputs, noise: Tensor) -> dict[str, tuple]:
    """The three stages of both, each from the same input: (written down, ours)."""
    backbone, head, features = plain.backbone, plain.action_head, plain.observe(inputs)
    pictures = straight.vision(inputs)
    hidden = backbone.embed(inputs.images, inputs.input_ids, inputs.layout)
    ids, mask, layout = inputs.input_ids, inputs.attention_mask, inputs.layout
    return {
        "vision": (lambda: straight.vision(inputs), lambda: backbone.image_tokens(inputs.images)),
        "language": (
            lambda: straight.language(inputs, pictures),
            lambda: backbone.suffix(hidden, ids, mask, 0, layout),
        ),
        "action head": (
            lambda: straight.act(inputs, features.tokens, noise),
            lambda: head.sample(features, inputs.state, inputs.embodiment_id, noise=noise),
        ),
    }


def arithmetic(share: int, views: int) -> dict[str, dict[str, float]]:
    """GFLOP of the three stages, counted without values."""
    with torch.device("meta"):
        plain = Gr00tN1d6(narrow(share, use_sheaf_streams=False)).eval()
    inputs = observation(plain.config, views, 0).to("meta")
    noise = torch.empty(1, plain.config.action_horizon, plain.config.max_action_dim, device="meta")
    parts = stages(Straightforward(plain), plain, inputs, noise)
    found: dict[str, dict[str, float]] = {}
    for name, pair in parts.items():
        for side, run in zip(SIDES, pair, strict=True):
            with FlopCounterMode(display=False) as counter:
                run()
            found.setdefault(name, {})[side] = counter.get_total_flops() / 1e9
    return found


def added(models: dict[str, Gr00tN1d6], inputs: ModelInputs) -> dict[str, Callable[[], object]]:
    """What stands between backbone and action head, alone."""
    features = models["plain"].observe(inputs)
    runs: dict[str, Callable[[], object]] = {}
    for name, model in models.items():
        if isinstance(model.svms, SheafStreams):
            runs[name] = partial(model.svms, features, state=inputs.state, past=past(model), losses=False)
        elif model.svms is not None:
            runs[name] = partial(model.svms, features, state=inputs.state, past=past(model))
    return runs


@torch.no_grad()
def measure(share: int, views: int, rounds: int) -> Found:
    """Compare, then time."""
    acts, straight, models = sides(share)
    config = models["plain"].config
    size = (1, config.action_horizon, config.max_action_dim)
    seen = [observation(config, views, seed) for seed in range(3)]
    noises = [torch.randn(size, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    apart = 0.0
    for inputs, noise in zip(seen, noises, strict=True):
        expected = acts["written down"](inputs, noise)
        apart = max(apart, float((acts["plain"](inputs, noise) - expected).norm() / (expected - noise).norm()))
    for name in ("SVMS", "SVMS with memory"):
        acts[name](seen[0], noises[0])
    del acts["memory alone"]  # timed by itself below
    whole: dict[str, list[float]] = {name: [] for name in acts}
    for number in range(rounds):
        inputs, noise = seen[number % 3], noises[number % 3]
        for name in random.Random(number).sample(list(acts), len(acts)):
            whole[name].append(took(partial(acts[name], inputs, noise)))
    parts = {
        name: in_turn(dict(zip(SIDES, pair, strict=True)), max(3, rounds // 2))
        for name, pair in stages(straight, models["plain"], seen[0], noises[0]).items()
    }
    alone = in_turn(added(models, seen[0]), 4 * rounds)
    return Found(whole=whole, stages=parts, gflop=arithmetic(share, views), added=alone, apart=apart)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    parser.add_argument("--share", type=int, default=4, help="what widths are divided by")
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(1)
    command = f"python benchmarks/acting.py --share {given.share} --views {given.views} --rounds {given.rounds}"
    text = page(measure(given.share, given.views, given.rounds), command, given.views)
    (given.out / f"acting_{datetime.date.today()}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
