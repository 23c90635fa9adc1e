"""Acting at batch 1 for gpu.py: right first, then fast. Plain and SVMS are compared in one mode, never across two."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from gpu_timing import actor, interval, quantiles, ratios

from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.fast.acting import Captured, CudaGraphs
from svms_gr00t.fast.compiled import compile_blocks
from svms_gr00t.groot.action_head import PLAIN, Shortcuts
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import demonstrations
from svms_gr00t.recipes.training.experiment import Experiment

if TYPE_CHECKING:
    from gpu import Bench

MODELS = ("plain", "svms")
OTHERS = 3
"""Inputs that a captured action meets after the one it was captured with."""
Act = Callable[[], torch.Tensor]


def correctness(bench: "Bench") -> None:
    """Before any timing: the action head's shortcuts against NVIDIA's plain computation, and pictures against the
    host's, which are equal bit for bit."""
    model = bench.model(svms=True)
    host = bench.inputs(model.config, 2, 1)
    inputs = host.to(bench.device)
    noise = torch.randn_like(inputs.action).to(bench.dtype)  # type: ignore[arg-type]
    fast = model.sample(inputs, noise=noise).action.float()
    model.action_head.shortcuts = PLAIN
    plain = model.sample(inputs, noise=noise).action.float()
    model.action_head.shortcuts = Shortcuts()
    error, limit = _apart(fast, plain), 2e-2 if bench.dtype == torch.bfloat16 else 1e-4
    same = all(torch.equal(a.cpu(), b) for a, b in zip(inputs.images, host.images, strict=True))
    fine = error < limit and bool(fast.isfinite().all()) and same
    bench.add("correctness", relative_error=error, limit=limit, pictures_equal=same, ok=fine)


def latency(bench: "Bench", views: int) -> None:
    """Eager and captured, with the time of every stage; then plain against SVMS and against itself, captured if both
    were."""
    runs: dict[str, dict[str, Act]] = {"eager": {}, "graph": {}}
    for name in MODELS:
        made: dict[str, Any] = {}
        bench.part(f"eager latency {name} {views}", partial(_eager, bench, views, name, runs, made), 40)
        if not made:
            continue
        if bench.cuda:
            bench.part(f"graph latency {name} {views}", partial(_graph, bench, views, name, runs, **made), 40)
        bench.part(f"stages {name} {views}", partial(_stages, bench, views, name, **made), 40)
    mode = next((mode for mode in ("graph", "eager") if len(runs[mode]) == len(MODELS)), None)
    if mode is not None:
        bench.part(f"ratio {views}", partial(compare, bench, runs[mode], views, mode), 40)


def _eager(bench: "Bench", views: int, name: str, runs: dict[str, dict[str, Act]], made: dict[str, Any]) -> None:
    model = bench.model(svms=name == "svms")
    inputs = bench.inputs(model.config, 1, views).to(bench.device)
    act = actor(model, inputs)
    _time(bench, act, views=views, model=name, mode="eager")
    runs["eager"][name] = act
    made.update(model=model, inputs=inputs, act=act)


def _graph(
    bench: "Bench",
    views: int,
    name: str,
    runs: dict[str, dict[str, Act]],
    *,
    model: Gr00tN1d6,
    inputs: ModelInputs,
    act: Act,
) -> None:
    replay = _checked(bench, model, inputs, act, views=views, name=name, mode="graph")
    _time(bench, replay, views=views, model=name, mode="graph")
    runs["graph"][name] = replay


def compare(bench: "Bench", runs: dict[str, Act], views: int, mode: str) -> None:
    """SVMS over plain, both in one mode, beside plain over itself."""
    rounds = 4 if bench.args.quick else 60
    for name, other in (("A/A noise", "plain"), ("svms / plain", "svms")):
        median, low, high = interval(ratios(runs["plain"], runs[other], bench.device, rounds))
        bench.add("ratio", views=views, what=name, mode=mode, median=median, low=low, high=high)


def compiled(bench: "Bench", views: int) -> None:
    """Every block compiled, then captured."""
    for name in MODELS if bench.cuda else ():
        bench.part(f"compiled latency {name} {views}", partial(_compiled, bench, views, name), 90)


def _compiled(bench: "Bench", views: int, name: str) -> None:
    model, mode = bench.model(svms=name == "svms"), "compiled + graph"
    inputs = bench.inputs(model.config, 1, views).to(bench.device)
    began = time.monotonic()
    compile_blocks(model)
    replay = _checked(bench, model, inputs, actor(model, inputs), views=views, name=name, mode=mode)
    took = round(time.monotonic() - began, 1)
    _time(bench, replay, views=views, model=name, mode=mode, compile_s=took)


def policy(bench: "Bench", views: int) -> None:
    """From frames and states as a robot sends them to physical actions, by the clock; also by captured graphs."""
    answers: dict[str, list[dict[str, Any]]] = {}
    for mode in ("eager", *(("fast",) if bench.cuda else ())):
        bench.part(f"uint8 to action, {mode}", partial(_policy, bench, views, mode, answers), 45)
    if len(answers) == 2:
        worst = max(_gap(a, b) for a, b in zip(answers["eager"], answers["fast"], strict=True))
        bench.add("policy check", views=views, worst=worst, inputs=1 + OTHERS)


def _policy(bench: "Bench", views: int, mode: str, answers: dict[str, list[dict[str, Any]]]) -> None:
    where = demonstrations("shipped")
    cameras = Modality.load(where / "meta" / "modality.json").video
    experiment = Experiment.prepare(where, preset_name=bench.args.preset, views=tuple(cameras)[:views])
    robot = Policy(bench.model(svms=True), experiment.processor, device=bench.device, fast=mode == "fast")
    observations = list(_observations(experiment, 1 + OTHERS))
    for one in observations:
        robot.get_action(one, {"seed": 0})
    if isinstance(robot.sampler, Captured) and not any(robot.sampler.graphs.values()):
        raise RuntimeError("nothing was captured; the log says why")
    answers[mode] = [robot.get_action(one, {"seed": 0})[0] for one in observations]
    repeats = 3 if bench.args.quick else 100
    times = torch.tensor([_seconds(robot, observations[i % len(observations)]) for i in range(repeats)])
    found = {"p50": 1000 * float(times.median()), "p95": 1000 * float(times.quantile(0.95))}
    bench.add("policy", views=views, mode=mode, **found, max=1000 * float(times.max()))


def _observations(experiment: Experiment, count: int) -> Iterator[dict[str, Any]]:
    """Frames of 256 pixels and recorded states, nested as N1.6 takes them."""
    source = torch.Generator().manual_seed(0)
    steps, robot = experiment.first_samples(train=False), experiment.processor.config.embodiment
    for i in range(count):
        seen = steps.observation(steps.places[i], pictures=False)
        size = (1, len(robot.video.delta_indices), 256, 256, 3)
        video = {
            key: torch.randint(0, 256, size, dtype=torch.uint8, generator=source).numpy()
            for key in robot.video.modality_keys
        }
        yield {
            "video": video,
            "state": seen.state,
            "language": {robot.language.modality_keys[0]: [["open the drawer"]]},
        }


def _seconds(robot: Policy, observation: dict[str, Any]) -> float:
    began = time.perf_counter()
    robot.get_action(observation, {"seed": 0})
    return time.perf_counter() - began


def _gap(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Largest difference in units of the key's own spread."""
    return max(float(abs(a[key] - b[key]).max() / max(a[key].std(), 1e-6)) for key in a)


def _time(bench: "Bench", run: Act, **what: Any) -> None:
    bench.add("latency", **what, **quantiles(run, bench.device, 5 if bench.args.quick else 200))


def _checked(
    bench: "Bench", model: Gr00tN1d6, inputs: ModelInputs, act: Act, *, views: int, name: str, mode: str
) -> Act:
    """The action as a graph, which gives on other inputs what the eager call gives on them."""
    expected = []
    others = [bench.inputs(model.config, 1, views, seed=1 + i).to(bench.device) for i in range(OTHERS)]
    first = act().clone()
    for other in others:
        refill(inputs, other)
        expected.append(act().clone())
    replay, out = CudaGraphs(bench.device)(act)
    worst = 0.0
    for other, wanted in zip(others, expected, strict=True):
        refill(inputs, other)
        replay()
        worst = max(worst, _apart(out.float(), wanted.float()))
    moved = min(_apart(wanted.float(), first.float()) for wanted in expected)
    limit = 2e-2 if bench.dtype == torch.bfloat16 else 1e-4
    bench.add("captured", views=views, model=name, mode=mode, relative_error=worst, moved=moved, ok=worst < limit)
    return replay  # type: ignore[return-value]


def refill(into: ModelInputs, other: ModelInputs) -> None:
    """Write another batch of the same shapes over one."""
    for target, value in zip(tensors(into), tensors(other), strict=True):
        target.copy_(value)


def tensors(inputs: ModelInputs) -> list[torch.Tensor]:
    """Every tensor of a batch, in order."""
    found: list[torch.Tensor] = []

    def note(value: torch.Tensor) -> torch.Tensor:
        found.append(value)
        return value

    inputs.map(note)
    return found


@torch.no_grad()
def _stages(bench: "Bench", views: int, name: str, *, model: Gr00tN1d6, inputs: ModelInputs, act: Act) -> None:
    """Where the time of an action goes: each stage alone, eager and, on a GPU, captured."""
    act()  # the schedule is remembered from here on
    backbone, head = model.backbone, model.action_head
    hidden = backbone.embed(inputs.images, inputs.input_ids, inputs.layout)
    features = model.observe(inputs)
    noise = torch.randn_like(inputs.action)  # type: ignore[arg-type]
    rest = (inputs.input_ids, inputs.attention_mask, 0, inputs.layout)
    stages: dict[str, Act] = {
        "vision": lambda: backbone.image_tokens(inputs.images),
        "language": lambda: backbone.suffix(hidden, *rest).tokens,
        "head": lambda: head.sample(features, inputs.state, inputs.embodiment_id, noise=noise),
    }
    if model.svms is not None:
        stages["svms"] = lambda: model.through_streams(features, inputs, losses=False).tokens
    for stage, run in stages.items():
        quiet = torch.no_grad()(run)
        times = {"eager": quantiles(quiet, bench.device, 5 if bench.args.quick else 50)["p50"]}
        if bench.cuda:
            replay, _ = CudaGraphs(bench.device)(quiet)
            times["graph"] = quantiles(replay, bench.device, 50)["p50"]
        bench.add("stage", views=views, model=name, stage=stage, **times)


def _apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())
