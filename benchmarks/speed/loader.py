"""Training samples per second of one core: this loader beside the episode-at-once design, on the same data.

    python benchmarks/speed/loader.py --out benchmarks/loader.md
    python benchmarks/speed/loader.py --preset n1d6 --seconds 2 --rounds 5     252 pixels, as the released size has them
        --lerobot PYTHON     an interpreter with LeRobot: its own loader on the same data, converted to its format

Episode at once (the design of the N1.6 training loader, written anew here): an epoch cuts the steps of each episode
into 10 random parts that land in different shards; for every part the whole episode is read and all frames of all
cameras are decoded. Decoder and everything after the pictures (crop, colours, numbers, prompt, labels, collation) are
the same code on both sides: the ratio shows the design alone. Sources take turns; ratios are taken within each round.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from svms_gr00t.core.provenance import commit
from svms_gr00t.data.convert.to_v3 import convert_to_v3
from svms_gr00t.data.labels.labeler import Labeler
from svms_gr00t.data.labels.tokens import TokenLabels
from svms_gr00t.data.loading.batches import Batches
from svms_gr00t.data.loading.collate import collate
from svms_gr00t.data.loading.feature_cache import FeatureCache
from svms_gr00t.data.loading.samples import SampleDataset
from svms_gr00t.data.processor.observation import Observation
from svms_gr00t.data.processor.processor import Sample
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.train.cache_features import build_cache

KITCHEN = Path(__file__).parents[2] / "src" / "svms_gr00t" / "assets" / "kitchen"
PARTS, BATCH = 10, 16
TARGETS = {"tiny": ("x episode at once", 5.0), "n1d6": ("samples/s", 350.0)}
"""What prepared frames must reach."""
Source = Callable[[], int]
"""Makes one batch; how many samples it held."""


class EpisodeAtOnce:
    """Reads a whole episode for each tenth of its steps."""

    def __init__(self, experiment: Experiment, episodes: list[int], labeler: Labeler) -> None:
        self._experiment, self._episodes, self._labels = experiment, episodes, TokenLabels(labeler)
        self._rng = np.random.default_rng(0)
        self._samples = self._stream()

    def __call__(self) -> int:
        """One batch."""
        return len(collate([next(self._samples) for _ in range(BATCH)]).input_ids)

    def _stream(self) -> Iterator[Sample]:
        while True:
            parts = []
            for episode in self._episodes:
                order = self._rng.permutation(self._experiment.dataset.episode(episode).length)
                parts += [(episode, steps) for steps in np.array_split(order, PARTS)]
            for number in self._rng.permutation(len(parts)):
                yield from self._part(*parts[number])

    def _part(self, episode: int, steps: np.ndarray) -> Iterator[Sample]:
        dataset, processor = self._experiment.dataset, self._experiment.processor
        views = processor.config.embodiment.video.modality_keys
        length = dataset.episode(episode).length
        frames = {view: dataset.frames(episode, view, range(length)) for view in views}
        numbers, texts = dataset.lowdim(episode), dataset.instructions(episode)
        offsets = np.array(processor.config.embodiment.action.delta_indices)
        for step in steps.tolist():
            rows = np.clip(step + offsets, 0, length - 1)
            state = {k.removeprefix("state."): v[step] for k, v in numbers.items() if k.startswith("state.")}
            action = {k.removeprefix("action."): v[rows] for k, v in numbers.items() if k.startswith("action.")}
            video = {view: frames[view][step] for view in views}
            observation = Observation.single(video=video, state=state, language=texts[step])
            yield processor.encode(observation, action, step + offsets >= length, self._rng, self._labels)


def ours(steps: SampleDataset) -> Source:
    """Batches of this package, one after the other."""
    batches, number = Batches(steps, BATCH, seed=0), iter(range(sys.maxsize))
    return lambda: len(batches(next(number)).input_ids)


def sources(
    experiment: Experiment, episodes: list[int], folder: Path, *, cache: bool
) -> dict[str, tuple[Source, float]]:
    """Name -> a source and the seconds that it needed before the first batch."""
    labeler = Labeler()

    def timed(make: Callable[[], Source]) -> tuple[Source, float]:
        began = time.perf_counter()
        return make(), time.perf_counter() - began

    def steps(**where: object) -> SampleDataset:
        dataset, processor = experiment.dataset, experiment.processor
        return SampleDataset(dataset, processor, episodes=episodes, labeler=labeler, augment=True, **where)  # type: ignore[arg-type]

    def cached() -> Source:
        model = experiment.model(use_sheaf_streams=False)
        kept: FeatureCache = build_cache(model, steps(frames="memory"), folder / "cache", batch_size=32)
        return ours(steps(features=kept))

    found = {
        "episode at once": timed(lambda: EpisodeAtOnce(experiment, episodes, labeler)),
        "clips (random access, nothing prepared)": timed(lambda: ours(steps(frames="clips"))),
        "pack (resized frames on disk)": timed(lambda: ours(steps(frames=folder / "pack"))),
        "memory (resized frames)": timed(lambda: ours(steps(frames="memory"))),
    }
    if cache:
        found["feature cache (no pictures)"] = timed(cached)
    return found


def measure(source: Source, seconds: float) -> float:
    """Samples per second of processor time: what other programs take of the machine does not count."""
    began, count = time.process_time(), 0
    while (passed := time.process_time() - began) < seconds:
        count += source()
    return count / passed


def run(args: argparse.Namespace) -> str:
    """Measure and report."""
    torch.set_num_threads(1)
    experiment = Experiment.prepare(args.dataset, preset_name=args.preset)
    episodes = [episode.index for episode in experiment.dataset.episodes][: args.episodes]
    with tempfile.TemporaryDirectory() as folder:
        found = sources(
            experiment, episodes, Path(folder), cache=args.preset == "tiny"
        )  # the other is no job for a core
        rates: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(args.rounds):
            for name, (source, _) in found.items():
                rates[name].append(measure(source, args.seconds))
        other = None if args.lerobot is None else lerobot(args, experiment, Path(folder))
    return report(args, experiment, episodes, rates, found, other)


def lerobot(args: argparse.Namespace, experiment: Experiment, folder: Path) -> dict[str, Any]:
    """LeRobot's own loader on the whole set, in a process of its own."""
    convert_to_v3(args.dataset, folder / "v3")
    script = Path(__file__).with_name("loader_lerobot.py")
    horizon = len(experiment.processor.config.embodiment.action.delta_indices)
    sizes: dict[str, Any] = {"--batch": BATCH, "--horizon": horizon, "--seconds": args.seconds, "--rounds": args.rounds}
    sizes |= {} if args.lerobot_backend is None else {"--backend": args.lerobot_backend}
    command = [args.lerobot, script, folder / "v3", *(part for pair in sizes.items() for part in pair)]
    alone = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(list(map(str, command)), env=alone, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(
    args: argparse.Namespace,
    experiment: Experiment,
    episodes: list[int],
    rates: dict[str, list[float]],
    found: dict[str, tuple[Source, float]],
    other: dict[str, Any] | None,
) -> str:
    """The page."""
    views = experiment.processor.config.embodiment.video.modality_keys
    steps = sum(experiment.dataset.episode(index).length for index in episodes)
    base = rates["episode at once"]
    ratios = {name: statistics.median(a / b for a, b in zip(rate, base, strict=True)) for name, rate in rates.items()}
    height, width = experiment.processor.config.images.output_size(*_frame_size(experiment))
    lines = [
        "# Loader",
        "",
        f"Samples per second of one core's time, {len(views)} cameras of {height} x {width} pixels, batch {BATCH}, "
        f"augmentation and labels on, preset `{args.preset}`: {len(episodes)} episodes, {steps} steps of "
        f"`{args.dataset.name}`. Median of {args.rounds} rounds of {args.seconds:g} s, sources taking turns (range in "
        "brackets).",
        "",
        "| source | samples/s | x episode at once | seconds before the first batch |",
        "|---|---:|---:|---:|",
    ]
    for name, rate in rates.items():
        low, high, middle = min(rate), max(rate), statistics.median(rate)
        lines.append(f"| {name} | {middle:.0f} [{low:.0f}, {high:.0f}] | {ratios[name]:.1f} | {found[name][1]:.2f} |")
    lines += _beside(other, statistics.median(base))
    unit, target = TARGETS[args.preset]
    reached = ratios if args.preset == "tiny" else {name: statistics.median(rate) for name, rate in rates.items()}
    prepared = [value for name, value in reached.items() if name.startswith(("pack", "memory"))]
    verdict = "met" if min(prepared) >= target else "met by one of the two" if max(prepared) >= target else "missed"
    command = (
        f"python benchmarks/speed/loader.py --preset {args.preset} --episodes {args.episodes} --rounds {args.rounds}"
    )
    command += "" if other is None else " --lerobot PYTHON"
    command += "" if other is None or args.lerobot_backend is None else f" --lerobot-backend {args.lerobot_backend}"
    lines += [
        "",
        f"Target for prepared frames, at least {target:g} {unit}: **{verdict}** (load average of the machine: "
        f"{os.getloadavg()[0]:.0f} on {os.cpu_count()} cores). The seconds before the first batch are decoding (pack, "
        "memory) and, where it is a row, the backbone (feature cache), once for all epochs; "
        "the design beside them decodes every frame ten times an epoch. Nothing prepared gains little on clips this "
        "short: an episode is a few seeks long.",
        "",
        f"Command: `{command} --seconds {args.seconds:g}`, commit {commit() or 'unknown'}, "
        f"{datetime.datetime.now(tz=datetime.UTC).date()}, Python {platform.python_version()}, torch "
        f"{torch.__version__}, numpy {np.__version__}, {platform.machine()} ({_processor()}).",
    ]
    return "\n".join(lines) + "\n"


def _beside(other: dict[str, Any] | None, base: float) -> list[str]:
    if other is None:
        return ["", "LeRobot's own loader on the same data: *not measured*."]
    low, high, middle = min(other["rates"]), max(other["rates"]), statistics.median(other["rates"])
    name = f"LeRobot {other['version']}, its own loader by {other['backend']}, frames as stored"
    return [
        f"| {name} | {middle:.0f} [{low:.0f}, {high:.0f}] | {middle / base:.1f} | |",
        "",
        "LeRobot's row does less: frames are decoded and made float, nothing is resized, cropped or changed in colour, "
        "and there is neither prompt nor label. It ran after the others, on all episodes.",
    ]


def _frame_size(experiment: Experiment) -> tuple[int, int]:
    view = experiment.processor.config.embodiment.video.modality_keys[0]
    dataset = experiment.dataset
    height, width = dataset.frames(0, view, [0]).shape[1:3]
    return height, width


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=KITCHEN)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--episodes", type=int, default=18)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--lerobot", default=None, help="interpreter that has LeRobot")
    parser.add_argument("--lerobot-backend", default=None, help="pyav or torchcodec; by default LeRobot's own choice")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    text = run(args)
    print(text)
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
