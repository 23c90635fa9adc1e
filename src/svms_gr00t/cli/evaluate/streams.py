"""`svms-gr00t evaluate streams` and `calibrate`: what the streams do, and a threshold on their disagreement."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from svms_gr00t.cli.console import Bars, console
from svms_gr00t.cli.evaluate.open_loop import tell
from svms_gr00t.cli.evaluate.placement import Placement
from svms_gr00t.cli.evaluate.rollout import policy_folder
from svms_gr00t.cli.shown.page import Paged
from svms_gr00t.cli.shown.sheet import Cell, Sheet, effect, num, span
from svms_gr00t.core.errors import ConfigError

if TYPE_CHECKING:
    from svms_gr00t.data.loading.samples import SampleDataset
    from svms_gr00t.evaluate.report.data import ReportData
    from svms_gr00t.evaluate.statistics.stats import Interval
    from svms_gr00t.evaluate.streams.detectors import Detection
    from svms_gr00t.evaluate.streams.foresight import Foresight, Warned
    from svms_gr00t.evaluate.streams.study import StreamStudy


@dataclass(frozen=True, kw_only=True)
class _OnHeldOut(Placement):
    model_path: Path
    """A checkpoint or run folder of a policy with SVMS."""
    dataset_path: Path
    """A LeRobot dataset with modality.json."""
    embodiment_tag: str | None = None
    """Needed only when the checkpoint knows several robots."""
    seed: int = 0
    """Chooses the held-out episodes where no run says which they are."""
    validation: float = 0.15
    """Their share, in the same case."""
    every_episode: bool = False
    """All episodes are held out: the dataset was not trained on."""
    stride: int = 8
    """Every so many steps is looked at."""

    def _open(self) -> tuple[Any, Any, tuple[int, ...]]:
        from svms_gr00t.recipes.training.held_out import held_out

        self.place()  # before the data take their time
        found = held_out(
            self.model_path, self.dataset_path, seed=self.seed, validation=self.validation, progress=Bars()
        )
        if self.every_episode and found.known:
            want, hint = "a dataset that it was not trained on", "Leave --every-episode out"
            got = f"data that {self.model_path.name} was trained on"
            raise ConfigError("--every-episode", got=got, want=want, hint=hint)
        if not self.every_episode:
            tell(found)
        policy = self.load(policy_folder(self.model_path), embodiment_tag=self.embodiment_tag)
        every = tuple(episode.index for episode in found.dataset.episodes)
        return policy, found.dataset, every if self.every_episode else found.split.validation


@dataclass(frozen=True, kw_only=True)
class Calibrate(_OnHeldOut):
    """Choose the disagreement above which a chunk is flagged, and save it beside the weights as monitor.json.

    At most `alpha` of the chunks of a new clean episode will be flagged (split conformal, episode by episode).
    """

    alpha: float = 0.1
    """Share of clean chunks that may be flagged."""
    per: Literal["chunk", "episode"] = "chunk"
    """episode: alpha bounds the share of clean episodes with any flag."""

    def run(self) -> int:
        """Calibrate and save."""
        from svms_gr00t.evaluate.streams.study import monitor_of
        from svms_gr00t.monitor import FILE

        policy, dataset, episodes = self._open()
        monitor = monitor_of(
            policy, dataset, episodes, alpha=self.alpha, per=self.per, stride=self.stride, progress=Bars()
        )
        low, middle, high = monitor.quantiles
        console.print(
            f"Flag above rho = {monitor.threshold:.4f}; {monitor.chunks} clean chunks of {monitor.episodes} episodes "
            f"had {low:.4f}, {middle:.4f} and {high:.4f} at 5, 50 and 95 %.",
            highlight=False,
        )
        console.print(f"At most {monitor.alpha:.0%} of clean {monitor.per}s will be flagged.")
        path = monitor.save(policy_folder(self.model_path) / FILE)
        console.print(f"written to {path}", soft_wrap=True)
        return 0


@dataclass(frozen=True, kw_only=True)
class Streams(_OnHeldOut, Paged):
    """What each stream knows, where tokens go by class, task and time, what is lost without a stream, and how well
    detectors tell a broken observation from a clean one. With --monitor also the consistency monitor; then a plain
    policy will do.
    """

    alpha: float = 0.2
    """False alarms promised by the detectors' thresholds (half of the held-out episodes calibrate them)."""
    monitor: Path | None = None
    """A consistency monitor (`svms-gr00t monitor train`); its own episodes are left out."""
    rollouts: int = 0
    """Episodes for each task of the kitchen: which detector foresees a failure?"""
    first: int = 6
    """Requests of each of those episodes that the detectors see."""
    output: Path | None = None
    """Write everything as JSON here."""

    def run(self) -> int:
        """Print the tables."""
        from svms_gr00t.consistency.file import load
        from svms_gr00t.evaluate.report.pages import detectors_page
        from svms_gr00t.evaluate.streams.knockout import streams_of
        from svms_gr00t.evaluate.streams.study import study_detectors

        policy, dataset, episodes = self._open()
        monitor = None if self.monitor is None else load(self.monitor, policy)
        if monitor is None:
            streams_of(policy)  # a plain policy is refused before anything is read
        else:
            episodes = unseen(monitor, dataset, episodes)
        if policy.model.config.has_streams:
            samples = self._samples(policy, dataset, episodes)
            study = self._study(policy, samples, episodes, monitor)
            _print(study)
            if self.output is not None:
                console.print(f"written to {study.save(self.output)}", soft_wrap=True)
            self.write_page("evaluate streams", lambda: self._page(policy, samples, study))
        else:
            shared: Any = {"stride": self.stride, "alpha": self.alpha, "monitor": monitor, "progress": Bars()}
            _print_detectors(study_detectors(policy, dataset, episodes, **shared)[1], self.alpha)
            self.write_page("evaluate streams", lambda: detectors_page(self.model_path.name))
        if self.rollouts:
            self._foresee(policy, dataset, episodes, monitor)
        return 0

    def _foresee(self, policy: Any, dataset: Any, episodes: tuple[int, ...], monitor: Any) -> None:
        from svms_gr00t.evaluate.streams.foresight import foresee
        from svms_gr00t.evaluate.streams.looks import look_at_episodes
        from svms_gr00t.recipes.benchmarks.foresight import drive_and_look

        shared: Any = {"stride": self.stride, "monitor": monitor, "draws": 4, "progress": Bars()}
        clean = look_at_episodes(policy, dataset, episodes, title="clean", **shared)
        looks, failed = drive_and_look(policy, monitor, episodes=self.rollouts, seed=self.seed, progress=Bars())
        found = foresee(looks, failed, clean, first=self.first)
        _print_foresight(found)
        if self.output is not None:
            path = self.output.with_name(f"{self.output.stem}_foresight.json")
            console.print(f"written to {found.save(path)}", soft_wrap=True)

    def _samples(self, policy: Any, dataset: Any, episodes: tuple[int, ...]) -> "SampleDataset":
        from svms_gr00t.data.labels.own import labeler_of
        from svms_gr00t.data.loading.samples import SampleDataset

        return SampleDataset(
            dataset,
            policy.processor,
            episodes=episodes,
            labeler=labeler_of(policy_folder(self.model_path)),
            stride=self.stride,
            memory=policy.memory_offsets,
            progress=Bars(),
        )

    def _study(self, policy: Any, samples: "SampleDataset", episodes: tuple[int, ...], monitor: Any) -> "StreamStudy":
        from svms_gr00t.evaluate.streams.study import study_streams
        from svms_gr00t.recipes.training.evidence import read_streams

        return study_streams(
            policy,
            samples.dataset,
            episodes,
            read_streams(policy.model, samples)[0],
            statistics=policy.processor.statistics[policy.processor.config.embodiment_tag],
            stride=self.stride,
            alpha=self.alpha,
            monitor=monitor,
            progress=Bars(),
        )

    def _page(self, policy: Any, samples: "SampleDataset", study: "StreamStudy") -> "ReportData":
        from svms_gr00t.evaluate.report.pages import streams_page
        from svms_gr00t.recipes.training.evidence import examples, read_routes

        return streams_page(self.model_path.name, study, *read_routes(policy.model, samples, examples(samples)))


def unseen(monitor: Any, dataset: Any, episodes: tuple[int, ...]) -> tuple[int, ...]:
    """Episodes that the monitor was not trained on."""
    facts = monitor.facts
    if facts.data != dataset.fingerprint():
        return episodes
    known = {*facts.train, *facts.spread, *facts.calibration}
    return tuple(number for number in episodes if number not in known)


def _print(study: "StreamStudy") -> None:
    report = study.report
    if report.specialisation is not None:
        table = Sheet("linear probe on", *report.scores, title="Balanced accuracy by label (0.5 is chance)")
        for name, row in zip(report.streams, report.specialisation, strict=True):
            table.add_row(name, *(num(value, ".3f") for value in row))
        table.show()
    table = Sheet("tokens", "number", *report.streams, title="Route shares by token class")
    for name, share in report.shares.items():
        table.add_row(name, share.tokens, *(num(value, ".3f") for value in share.routes))
    table.show()
    _print_slices(study)
    _print_knockout(study)
    _print_detectors(study.detectors, study.alpha)


def _print_slices(study: "StreamStudy") -> None:
    edges = [f"rho {edge}" for edge in study.report.edges]
    table = Sheet("task or time", "looks", *study.report.streams, *edges, title="Routes and disagreement")
    parts = [f"part {i + 1} of {len(study.by_time)}" for i in range(len(study.by_time))]
    named = [*study.by_task.items(), *zip(parts, study.by_time, strict=True)]
    for name, part in named:
        table.add_row(name, part.looks, *(num(value, ".3f") for value in (*part.routes, *part.rho)))
    table.show()


def _print_knockout(study: "StreamStudy") -> None:
    keys = list(next(iter(study.knockout.values())).keys)
    table = Sheet("without", "error", "effect", "95 %", *keys, title=f"Open-loop error; whole policy {study.whole:.4f}")
    for name, one in study.knockout.items():
        parts = (num(one.keys[key], "+.1f", " %") for key in keys)
        table.add_row(name, num(one.mse), *effect(one.against_whole.relative, " %"), *parts)
    table.show()


def _print_detectors(found: "dict[str, dict[str, Detection]]", alpha: float) -> None:
    names = list(next(iter(found.values())))
    title = f"AUROC of telling broken from clean (share flagged at {alpha:.0%} promised false alarms)"
    table = Sheet("shift", *names, title=title)
    for shift, one in found.items():
        clean = shift == "clean"
        said = [f"{d.flagged:.0%} flagged" if clean else f"{d.auroc:.2f} ({d.flagged:.0%})" for d in one.values()]
        cells = [Cell([None if clean else d.auroc, d.flagged], t) for d, t in zip(one.values(), said, strict=True)]
        table.add_row(shift, *cells)
    table.show()
    behind = [(shift, *_nearest(one)) for shift, one in found.items() if any(d.behind for d in one.values())]
    if behind:
        table = Sheet("shift", "best other", "consistency against it", "95 %", title="Paired difference of AUROC")
        for shift, name, lead in behind:
            table.add_row(shift, name, num(lead.estimate, "+.2f"), span(lead.low, lead.high, "+.2f"))
        table.show()


def _nearest(found: "Mapping[str, Detection | Warned]") -> tuple[str, Any]:
    """The best detector beside the consistency monitor, and the interval of the difference."""
    name = max((name for name, one in found.items() if one.behind is not None), key=lambda name: found[name].auroc)
    return name, found[name].behind


def _print_foresight(found: "Foresight") -> None:
    title = f"{found.failed} of {found.episodes} episodes failed; seen from the first {found.first} requests"
    table = Sheet("detector", "AUROC", "95 %", "consistency against it", title=title)
    for name, one in found.detectors.items():
        ends = span(None, None) if one.interval is None else span(one.interval.low, one.interval.high, ".2f")
        table.add_row(name, num(one.auroc, ".2f"), ends, _lead(one.behind))
    table.show()


def _lead(lead: "Interval | None") -> Cell:
    if lead is None:
        return Cell(None, "")
    text = f"{lead.estimate:+.2f} [{lead.low:+.2f}, {lead.high:+.2f}]"
    return Cell([lead.estimate, lead.low, lead.high], text)
