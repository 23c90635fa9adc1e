"""What SVMS costs at full size: parameters, kernels, arithmetic, and time against one module per stream and per edge.

    python benchmarks/speed/svms_cost.py --out benchmarks        writes svms_cost_<date>.md

An eager kernel is an aten call that is not a view; a compiled one is a call in the code that Inductor writes for this
device (a fused loop or a matrix product). Times are medians of alternating runs: read the ratio, not the ms. Arithmetic
is counted on the meta device for the whole released model, so that no checkpoint is needed.
"""

import argparse
import copy
import datetime
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch._inductor.utils import run_and_get_code
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from svms_gr00t.core.types import EVERYTHING, Features, Layout
from svms_gr00t.svms import SheafStreams

N16_PARAMETERS = 3_286_610_368
TARGET, COMPILED_TARGET, SHARE_TARGET = 50, 15, 1.0


class KernelCount(TorchDispatchMode):
    """Counts aten calls that compute or copy."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        free = func.is_view or "_unsafe_view" in str(func) or "detach" in str(func) or "empty" in str(func)
        if not free:
            self.names[func.name()] = self.names.get(func.name(), 0) + 1
        return func(*args, **(kwargs or {}))


def kernels(run: Callable[[], object]) -> dict[str, int]:
    with KernelCount() as count:
        run()
    return count.names


def naive(svms: SheafStreams, f: Features) -> Tensor:
    """The same function, one stream and one edge at a time, as most code would write it."""
    heads, delta, router = svms.heads, svms.delta, svms.router
    d, n = heads.d_stream, heads.n_streams
    h, streams = torch.where(f.mask[..., None], f.tokens, 0.0), []
    for s in range(n):
        rows = slice(s * d, (s + 1) * d)
        z = F.linear(h, heads.project.weight[rows], heads.project.bias[rows])
        inner = F.gelu(F.linear(z, heads.up[s].T, heads.up_bias[s]), approximate="tanh")
        z = z + F.linear(inner, heads.down[s].T, heads.down_bias[s])
        streams.append(F.layer_norm(z, (d,), heads.scale[s], heads.shift[s]))
    rho, labels = (
        [],
        [(x * w).sum(-1) + b for x, w, b in zip(streams, svms.labels.weight, svms.labels.bias, strict=True)],
    )
    pull = [torch.zeros_like(x) for x in streams]
    step = svms.diffusion.eta / svms.diffusion.lambda_max
    for e, (u, v) in enumerate(zip(delta.graph.tails, delta.graph.heads, strict=True)):
        tail = F.linear(F.linear(streams[u], delta.down[0, e]), delta.up[0, e])
        head = F.linear(F.linear(streams[v], delta.down[1, e]), delta.up[1, e])
        y = head - tail
        rho.append(y.square().sum(-1) / (tail.square().sum(-1) + head.square().sum(-1) + 1e-12))
        pull[u] = pull[u] - F.linear(F.linear(y, delta.up[0, e].T), delta.down[0, e].T)
        pull[v] = pull[v] + F.linear(F.linear(y, delta.up[1, e].T), delta.down[1, e].T)
    streams = [x - step * p for x, p in zip(streams, pull, strict=True)]
    logits = router.outer(F.gelu(router.inner(router.norm(torch.cat(streams, -1))), approximate="tanh"))
    weights = (logits / router.temperature).softmax(-1)
    said = svms.merge(torch.cat([weights[..., s : s + 1] * x for s, x in enumerate(streams)], -1))
    torch.stack(rho, -1), torch.stack(labels, -1)  # the evidence is part of the work
    return torch.where(f.mask[..., None], f.tokens + said, f.tokens)


def compiled_kernels(svms: SheafStreams, f: Features) -> tuple[dict[str, int], Callable[[], object]]:
    """Calls in the code that Inductor writes for acting, by kind, and the compiled function."""
    compiled = torch.compile(lambda features: svms(features, losses=False).tokens, fullgraph=True)
    with torch.no_grad():
        _, codes = run_and_get_code(compiled, f)
    body = codes[0][codes[0].index("def call(") :]
    fused = len(re.findall(r"\b(?:cpp_fused\w*|triton_\w+\.run)\(", body))
    return {
        "fused loops": fused,
        "matrix products": len(re.findall(r"\bextern_kernels\.\w+\(", body)),
    }, lambda: compiled(f)


def model_flops(views: int, tokens: int, side: int = 252) -> dict[str, int]:
    """Multiply-adds times two of one acting forward of the released model, by part, on the meta device."""
    from svms_gr00t.data.processor.tokenizer import load_tokenizer
    from svms_gr00t.model import Gr00tN1d6
    from svms_gr00t.recipes.training.presets import preset

    config = preset("n1d6").config(load_tokenizer("tiny"))
    found: dict[str, int] = {}

    def count(name: str, run: Callable[[], object]) -> None:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run()
        found[name] = counter.get_total_flops()

    with torch.device("meta"):
        model = Gr00tN1d6(config).eval()
        hidden, mask = torch.zeros(1, tokens, config.backbone_embedding_dim), torch.ones(1, tokens, dtype=torch.bool)
        whole = {"text": EVERYTHING, "image": EVERYTHING, "every": EVERYTHING}
        layout = Layout(**whole, image_at=torch.zeros(0, dtype=torch.long), padded=False, embodiments=(0,))
        f = Features(tokens=hidden, mask=mask, image_mask=mask, layout=layout)
        state, row = torch.zeros(1, 1, config.max_state_dim), torch.zeros(1, dtype=torch.long)
        count("vision", lambda: model.backbone.image_tokens(tuple(torch.zeros(3, side, side) for _ in range(views))))
        language = model.backbone.model.language_model
        count("language", lambda: language(hidden, mask, 0, config.select_layer, padded=False))
        count("SVMS", lambda: model.svms(f, losses=False))
        count("action head, 4 steps", lambda: model.action_head.sample(f, state, row))
    return found


def alternating_times(a: Callable[[], object], b: Callable[[], object], rounds: int) -> tuple[list[float], list[float]]:
    """ABBA order, in ms: drift of the machine hits both alike."""
    times: dict[Callable[[], object], list[float]] = {a: [], b: []}
    for run in [a, b, b, a] * (rounds // 2):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times[run].append(1e3 * (time.perf_counter() - start))
    return times[a], times[b]


def median_ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def measure(batch: int, tokens: int, rounds: int, device: str) -> str:
    torch.manual_seed(0)
    torch.set_default_device(device)
    svms = SheafStreams(2048)
    torch.nn.init.normal_(svms.merge.weight, std=0.01)  # as after training: the residual is really computed
    mask = torch.ones(batch, tokens, dtype=torch.bool)
    f = Features(tokens=torch.randn(batch, tokens, 2048), mask=mask, image_mask=~mask)
    labels, rows = torch.rand(batch, tokens, 3).round(), []
    torch.set_default_device(None)  # as a mode it would stand in the compiler's way

    def act() -> Tensor:
        return svms(f, losses=False).tokens

    def train() -> None:
        svms(f, labels=labels, label_mask=mask)

    svms.train()
    rows.append(("training forward: + labels, losses, dropout and the bound λ", sum(kernels(train).values())))
    svms.eval()
    with torch.no_grad():
        torch.testing.assert_close(act(), naive(svms, f), rtol=1e-4, atol=1e-4)
        acting = kernels(act)
        rows.insert(0, ("acting (eval, no losses)", sum(acting.values())))
        rows.insert(1, ("naive, acting", sum(kernels(lambda: naive(svms, f)).values())))
        ours, theirs = alternating_times(act, lambda: naive(svms, f), rounds)
        same, again = alternating_times(act, lambda: act(), rounds)
        implicit = copy.deepcopy(svms)
        implicit.diffusion.scheme = "implicit"
        exact, plain = alternating_times(lambda: implicit(f, losses=False), act, rounds)
        compiled, fast = compiled_kernels(svms, f)
        torch.testing.assert_close(fast(), act(), rtol=1e-4, atol=1e-4)
        inductor, eager = alternating_times(fast, act, rounds)
        left = [svms.delta(scheme(f).streams).square().sum().item() for scheme in (svms, implicit)]
        before = svms.delta(svms.heads(f.tokens)).square().sum().item()
    flops = model_flops(views=3, tokens=292)
    share = 100 * flops["SVMS"] / sum(flops.values())
    parameters = sum(p.numel() for p in svms.parameters())
    ratio, noise = median_ratio(ours, theirs), median_ratio(same, again)
    top = ", ".join(f"{v} {k.removeprefix('aten::')}" for k, v in sorted(acting.items(), key=lambda kv: -kv[1]))
    lines = [
        f"Parameters: **{parameters:,}** = {100 * parameters / N16_PARAMETERS:.2f} % of N1.6's {N16_PARAMETERS:,}.",
        "",
        "| eager aten kernels, views not counted | |",
        "|---|---:|",
        *[f"| {name} | {value} |" for name, value in rows],
        "",
        f"Target for acting: at most {TARGET}: **{'met' if rows[0][1] <= TARGET else 'missed'}**. Which: {top}.",
        "",
        f"| time, batch {batch}, {tokens} tokens, fp32, {device} | median ms | min ms |",
        "|---|---:|---:|",
        f"| SVMS | {statistics.median(ours):.1f} | {min(ours):.1f} |",
        f"| naive | {statistics.median(theirs):.1f} | {min(theirs):.1f} |",
        "",
        f"Median ratio of {len(ours)} paired runs, SVMS / naive: **{ratio:.2f}** (SVMS against itself: {noise:.2f}).",
        "On a CPU matrix products dominate both; on a GPU at batch 1 the kernel count does.",
        "",
        f"Compiled by Inductor for {device}: **{sum(compiled.values())}** kernels "
        f"({', '.join(f'{v} {k}' for k, v in compiled.items())}), one graph. Target at most {COMPILED_TARGET}: "
        f"**{'met' if sum(compiled.values()) <= COMPILED_TARGET else 'missed'}**. Time, compiled / eager: "
        f"**{median_ratio(inductor, eager):.2f}**.",
        "",
        f"Implicit instead of explicit step, acting: **{median_ratio(exact, plain):.2f}** times the time; energy "
        f"left after a step at eta = {svms.diffusion.eta.item():.2f}, as a share: explicit {left[0] / before:.3f}, "
        f"implicit {left[1] / before:.3f}.",
        "",
        f"Arithmetic of one acting forward of the released size, three cameras, 292 tokens: "
        f"{', '.join(f'{name} {value / 1e9:.1f}' for name, value in flops.items())} GFLOP. SVMS is **{share:.2f} %**; "
        f"target at most {SHARE_TARGET:g} %: **{'met' if share <= SHARE_TARGET else 'missed'}** (as arithmetic; the "
        "share of time on a GPU is not measured here).",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=116, help="116 is one camera, 292 three")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    body = measure(options.batch, options.tokens, options.rounds, options.device)
    date = datetime.date.today().isoformat()
    setting = f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} thread(s), {date}."
    command = f"python benchmarks/speed/svms_cost.py --batch {options.batch}"
    command = f"`{command} --tokens {options.tokens} --rounds {options.rounds}`"
    path = options.out / f"svms_cost_{date}.md"
    path.write_text(f"# What SVMS costs\n\n{setting} Command: {command}\n\n{body}\n", encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
