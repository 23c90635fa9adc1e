"""The memory study: every side at its own best rate, on the same data, base, batches and scenes.

    demonstrations -> a plain base -> rates chosen on other seeds -> runs -> scenes driven -> table

Everything is a file: the same command goes on where it stopped, and seeds, sides and scenes may be added.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.recipes.memory_study.arms import ARMS
from svms_gr00t.recipes.memory_study.config import StudyConfig
from svms_gr00t.recipes.memory_study.driving import drive, driven_files
from svms_gr00t.recipes.memory_study.result import StudyResult, summarise
from svms_gr00t.recipes.memory_study.run import SCORES, Place, Scores, run_arm, train_base
from svms_gr00t.recipes.processes import Work, finished
from svms_gr00t.recipes.settings import claim

GROWS = ("rollouts", "driven_seeds", "rate_seeds")
"""What a study may have more of later."""
RECIPES: dict[str, StudyConfig] = {
    "tiny": StudyConfig(),
    "smoke": StudyConfig(
        demonstrations=14,
        steps_before=2,
        steps=2,
        rates=(1e-3,),
        batch_size=4,
        memory_frames=2,
        rollouts=0,
    ),
}
"""tiny: the shipped base. smoke: a few steps, to see that everything runs."""


def run_study(
    config: StudyConfig,
    output: Path,
    *,
    seeds: Sequence[int],
    arms: Sequence[str] = tuple(ARMS),
    workers: int = 2,
    progress: Progress | None = None,
) -> StudyResult:
    """Do what is not done yet, write table and figure, and return them.

    Raises ConfigError for unknown sides and for a seed that chose a rate, CheckpointError for a folder of other
    settings, and whatever a run raises.
    """
    if unknown := sorted(set(arms) - set(ARMS)):
        hint = "Leave it out for all"
        raise ConfigError("--variants", got=unknown, want=f"names among {', '.join(ARMS)}", hint=hint)
    if both := sorted(set(seeds) & set(config.rate_seeds)):
        hint = "A rate is chosen on seeds that are not reported"
        raise ConfigError("--seeds", got=both, want=f"others than {config.rate_seeds}", hint=hint)
    claim(config, output, grows=GROWS)
    bars = progress or Silent()
    place = Place(root=output, dataset=_demonstrations(config, output, bars))
    tuned = len(config.rates) > 1
    _all(bars, "plain base", [partial(train_base, config, place)], 1)
    rates = _rates(config, place, arms, workers, bars) if tuned else dict.fromkeys(arms, config.rates[0])
    runs = [partial(run_arm, config, place, arm, seed, rates[arm]) for seed in seeds for arm in arms]
    _all(bars, "runs", runs, workers)
    if config.rollouts:
        driven = [(arm, seed, other) for seed in seeds[: config.driven_seeds] for arm in arms for other in _ways(arm)]
        jobs = [partial(drive, config, place, arm, rates[arm], seed, stray=other) for arm, seed, other in driven]
        _all(bars, "closed loop", jobs, workers)
    result = summarise(config, place, rates, seeds)
    result.write(output)
    return result


def _ways(arm: str) -> tuple[bool, ...]:
    """With its own memory, and with another's where it has one."""
    return (False, True) if ARMS[arm].remembers else (False,)


def _rates(config: StudyConfig, place: Place, arms: Sequence[str], workers: int, bars: Progress) -> dict[str, float]:
    """Each side's best rate, over the seeds that choose: the most scenes won where scenes are driven, for the least
    error can want another rate; then the least error at deciding steps."""
    trials = [(arm, rate, seed) for seed in config.rate_seeds for arm in arms for rate in config.rates]
    _all(bars, "rates", [partial(run_arm, config, place, arm, seed, rate) for arm, rate, seed in trials], workers)
    if config.rollouts:
        _all(bars, "rates in closed loop", [partial(drive, config, place, *one) for one in trials], workers)

    def worth(arm: str, rate: float) -> tuple[int, float]:
        won = driven_files(place, arm, rate, config.rate_seeds if config.rollouts else ())
        errors = [Scores.load(place.run(arm, rate, seed) / SCORES).own.mean for seed in config.rate_seeds]
        return sum(one.overall.successes for one in won.values()), -sum(errors)

    return {arm: max(config.rates, key=lambda rate: worth(arm, rate)) for arm in arms}


def _demonstrations(config: StudyConfig, output: Path, bars: Progress) -> Path:
    """The recorded demonstrations; the experts show them where none are named."""
    if config.dataset_path is not None:
        return Path(config.dataset_path)
    folder = output / "demonstrations"
    if not (folder / "meta" / "info.json").is_file():
        from svms_gr00t.sim.record import record  # the simulator is an extra

        record(folder, episodes=config.demonstrations, seed=0, suite="memory", tasks=config.tasks, progress=bars)
    return folder


def _all(bars: Progress, title: str, jobs: Sequence[Work], workers: int) -> None:
    with bars.task(title, len(jobs)) as bar:
        for _ in finished(jobs, workers):
            bar.advance()
