"""Training samples per second of one core: this loader beside the episode-at-once design, on the same data.

    python benchmarks/speed/loader.py --out benchmarks/loader.md

Episode at once (the design of the N1.6 training loader, written anew here): an epoch cuts the steps of each episode
into 10 random parts that land in different shards; for every part the whole episode is read and all frames of all
cameras are decoded. Decoder and everything after the pictures (crop, colours, numbers, prompt, labels, collation) are
the same code on both sides: the ratio shows the design alone. Sources take turns; ratios are taken within each round.
"""

import argparse
import datetime
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from svms_gr00t.core.provenance import commit
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
PARTS, BATCH, TARGET = 10, 16, 5.0
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


def sources(experiment: Experiment, episodes: list[int], folder: Path) -> dict[str, tuple[Source, float]]:
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
        cache: FeatureCache = build_cache(model, steps(frames="memory"), folder / "cache", batch_size=32)
        return ours(steps(features=cache))

    return {
        "episode at once": timed(lambda: EpisodeAtOnce(experiment, episodes, labeler)),
        "clips (random access, nothing prepared)": timed(lambda: ours(steps(frames="clips"))),
        "pack (resized frames on disk)": timed(lambda: ours(steps(frames=folder / "pack"))),
        "memory (resized frames)": timed(lambda: ours(steps(frames="memory"))),
        "feature cache (no pictures)": timed(cached),
    }


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
        found = sources(experiment, episodes, Path(folder))
        rates: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(args.rounds):
            for name, (source, _) in found.items():
                rates[name].append(measure(source, args.seconds))
    return report(args, experiment, episodes, rates, found)


def report(
    args: argparse.Namespace,
    experiment: Experiment,
    episodes: list[int],
    rates: dict[str, list[float]],
    found: dict[str, tuple[Source, float]],
) -> str:
    """The page."""
    views = experiment.processor.config.embodiment.video.modality_keys
    steps = sum(experiment.dataset.episode(index).length for index in episodes)
    base = rates["episode at once"]
    ratios = {name: statistics.median(a / b for a, b in zip(rate, base, strict=True)) for name, rate in rates.items()}
    lines = [
        "# Loader",
        "",
        f"Samples per second of one core's time, {len(views)} cameras, batch {BATCH}, augmentation and labels on, "
        f"preset `{args.preset}`: {len(episodes)} episodes, {steps} steps of `{args.dataset.name}`. "
        f"Median of {args.rounds} rounds of {args.seconds:g} s, sources taking turns (range in brackets).",
        "",
        "| source | samples/s | x episode at once | seconds before the first batch |",
        "|---|---:|---:|---:|",
    ]
    for name, rate in rates.items():
        low, high, middle = min(rate), max(rate), statistics.median(rate)
        lines.append(f"| {name} | {middle:.0f} [{low:.0f}, {high:.0f}] | {ratios[name]:.1f} | {found[name][1]:.2f} |")
    prepared = [ratio for name, ratio in ratios.items() if name.startswith(("pack", "memory"))]
    verdict = "met" if min(prepared) >= TARGET else "met by one of the two" if max(prepared) >= TARGET else "missed"
    command = (
        f"python benchmarks/speed/loader.py --preset {args.preset} --episodes {args.episodes} --rounds {args.rounds}"
    )
    lines += [
        "",
        f"Target, prepared frames against episode at once: at least {TARGET:g} times: **{verdict}**. The seconds "
        "before the first batch are decoding (pack, memory) and the backbone (feature cache), once for all epochs; "
        "the design beside them decodes every frame ten times an epoch. Nothing prepared gains little on clips this "
        "short: an episode is a few seeks long.",
        "",
        f"Command: `{command} --seconds {args.seconds:g}`, commit {commit() or 'unknown'}, "
        f"{datetime.datetime.now(tz=datetime.UTC).date()}, Python {platform.python_version()}, torch "
        f"{torch.__version__}, numpy {np.__version__}, {platform.machine()} ({_processor()}).",
    ]
    return "\n".join(lines) + "\n"


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
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    text = run(args)
    print(text)
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
