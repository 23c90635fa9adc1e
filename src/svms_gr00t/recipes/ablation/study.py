"""What each part of SVMS is worth: variants that differ in one thing, trained alike, on several seeds.

    (variant, seed) -> folder/<variant>/seed_<k>      `ablation_run.run_variant`
    all of them     -> folder/ablation.json, .md, .svg `ablation_result`

All variants of a seed see the same episodes, batches, noise, rates and numbers of steps, and start from the same base.
A run that is finished is not run again, one that was interrupted goes on; runs are spread over processes or, with Ray,
over machines that share the folder.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from svms_gr00t.core.errors import ConfigError, MissingExtra
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.recipes.ablation.result import AblationResult, summarise
from svms_gr00t.recipes.ablation.run import AblationConfig, run_variant
from svms_gr00t.recipes.ablation.variants import ALL, VARIANTS
from svms_gr00t.recipes.processes import finished
from svms_gr00t.recipes.settings import claim

Backend = Literal["processes", "ray"]
RECIPES: dict[str, AblationConfig] = {
    "tiny": AblationConfig(),
    "smoke": AblationConfig(steps=(2, 2, 2), batch_size=4, stride=40),
}
"""tiny: the shipped base and demonstrations. smoke: a few steps, to see that everything runs."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run that is to be done."""

    variant: str
    seed: int
    folder: Path


def ablate(
    config: AblationConfig,
    output: Path,
    *,
    seeds: Sequence[int],
    variants: Sequence[str] = tuple(VARIANTS),
    workers: int = 2,
    backend: Backend = "processes",
    progress: Progress | None = None,
) -> AblationResult:
    """Do what is not done yet, write table and figure, and return them.

    Raises ConfigError for unknown variants, CheckpointError for a folder of other settings, MissingExtra without Ray,
    and whatever a run raises.
    """
    if unknown := sorted(set(variants) - set(ALL)):
        raise ConfigError(
            "--variants", got=unknown, want=f"names among {', '.join(ALL)}", hint="Leave it out for the ablation"
        )
    claim(config, output)
    # Seed by seed, so that a process finds the decoded data of its last run again.
    jobs = [Job(variant=v, seed=s, folder=output / v / f"seed_{s}") for s in seeds for v in variants]
    with (progress or Silent()).task("ablation runs", len(jobs)) as bar:
        for job in _spread(config, jobs, workers, backend):
            bar.note(f"{job.variant}, seed {job.seed}")
            bar.advance()
    result = summarise(config, output, variants, seeds)
    result.write(output)
    return result


def _spread(config: AblationConfig, jobs: Sequence[Job], workers: int, backend: Backend) -> Iterator[Job]:
    """Jobs as they finish."""
    if backend == "ray":
        yield from _by_ray(config, jobs)
    else:
        work = [partial(run_variant, config, job.variant, job.seed, job.folder) for job in jobs]
        yield from (jobs[number] for number in finished(work, workers))


def _by_ray(config: AblationConfig, jobs: Sequence[Job]) -> Iterator[Job]:
    """One Ray task of one CPU for each job, on the cluster of RAY_ADDRESS or on this machine."""
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("--backend ray", package="ray", extra="ray") from error
    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, include_dashboard=False)
    try:
        remote = ray.remote(num_cpus=1, max_retries=1)(run_variant)
        waiting = {remote.remote(config, job.variant, job.seed, job.folder.resolve()): job for job in jobs}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            ray.get(done)
            yield waiting.pop(done)
    finally:
        if ours:
            ray.shutdown()
