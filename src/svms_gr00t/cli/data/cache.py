"""`svms-gr00t data cache estimate | build | verify`: hidden states of the frozen backbone, computed once."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from svms_gr00t.cli.console import Bars, console
from svms_gr00t.cli.line.spelling import PresetName

if TYPE_CHECKING:
    from svms_gr00t.data.loading.samples import SampleDataset
    from svms_gr00t.recipes.training.experiment import Experiment

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What a cache depends on."""

    dataset_path: str
    """A LeRobot dataset with a modality.json, or "shipped"."""
    base_model_path: str = "none"
    """Checkpoint whose frozen layers are run, or "shipped"; without one, the fresh weights of the preset and seed."""
    preset: PresetName | None = None
    """Model size: tiny or n1d6; by default the base's, and tiny without one."""
    embodiment_tag: str | None = None
    """Robot; by default read from the dataset."""
    views: tuple[str, ...] = ()
    """Cameras by their modality.json names; empty takes all."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Stored number type."""
    variants: int = 0
    """Augmented copies of every step beside the plain one; training draws among them."""
    seed: int = 0
    """Seed of the run that will train: it fixes fresh weights and the augmentation draws."""

    def _base(self) -> Path | None:
        from svms_gr00t.recipes.shipped import starting_point

        return starting_point(self.base_model_path)

    def _experiment(self) -> "Experiment":
        from svms_gr00t.recipes.shipped import demonstrations
        from svms_gr00t.recipes.training.experiment import Experiment

        return Experiment.prepare(
            demonstrations(self.dataset_path),
            preset_name=self.preset,
            embodiment_tag=self.embodiment_tag,
            views=self.views,
            seed=self.seed,
            base=self._base(),
        )

    def _samples(self, experiment: "Experiment") -> "SampleDataset":
        from svms_gr00t.data.loading.samples import SampleDataset

        episodes = [episode.index for episode in experiment.dataset.episodes]
        return SampleDataset(
            experiment.dataset, experiment.processor, episodes=episodes, seed=self.seed, frames="clips", progress=Bars()
        )


@dataclass(frozen=True, kw_only=True)
class Estimate(_Source):
    """Say how much disk a cache takes, without building it."""

    def run(self) -> int:
        """Print sizes."""
        from svms_gr00t.train.cache_features import cache_layer, estimate_cache

        experiment = self._experiment()
        size = estimate_cache(self._samples(experiment), experiment.config, dtype=self.dtype, variants=self.variants)
        copies = self.variants + 1
        console.print(
            f"states after language layer {cache_layer(experiment.config)}: {size.steps} steps x {copies} copies x "
            f"{size.tokens:.0f} tokens, {_human(size.bytes_a_step)} a step: {_human(size.total)} in all",
            highlight=False,
            soft_wrap=True,
        )
        return 0


@dataclass(frozen=True, kw_only=True)
class Build(_Source):
    """Build a cache, or go on with one that was interrupted."""

    output_dir: Path
    """Folder of the cache."""
    batch_size: int = 16
    """Steps in one forward."""
    device: str | None = None
    """Where the backbone runs: cpu, cuda or cuda:N; by default cuda where there is one."""

    def run(self) -> int:
        """Build and say where it is."""
        from svms_gr00t.core.device import device_of
        from svms_gr00t.train.cache_features import build_cache, estimate_cache

        device = device_of(self.device)
        experiment = self._experiment()
        samples = self._samples(experiment)
        size = estimate_cache(samples, experiment.config, dtype=self.dtype, variants=self.variants)
        console.print(f"{_human(size.total)} for {size.steps} steps, {self.variants} augmented copies")
        model = experiment.model(use_sheaf_streams=False, base=self._base()).to(device)
        build_cache(
            model,
            samples,
            self.output_dir,
            dtype=self.dtype,
            variants=self.variants,
            batch_size=self.batch_size,
            progress=Bars(),
        )
        console.print(f"Cache: {self.output_dir}", soft_wrap=True)
        return 0


@dataclass(frozen=True, kw_only=True)
class Verify(_Source):
    """Check a cache: its key, every checksum, and random steps against the model."""

    cache: Path
    """Folder of the cache."""
    samples: int = 8
    """Steps to compute again."""
    device: str | None = None
    """Where they are: cpu, cuda or cuda:N; by default cuda where there is one."""

    def run(self) -> int:
        """Print the findings; exit code 1 when the cache must not be used."""
        from svms_gr00t.core.device import device_of
        from svms_gr00t.data.loading.feature_cache import FeatureCache
        from svms_gr00t.train.cache_features import verify_cache

        device = device_of(self.device)
        experiment = self._experiment()
        model = experiment.model(use_sheaf_streams=False, base=self._base()).to(device)
        report = verify_cache(model, self._samples(experiment), FeatureCache.open(self.cache), samples=self.samples)
        for name in report.damaged:
            console.print(f"damaged: {name}. Delete its two files and build again", style="red")
        verdict = "pass" if report.passed else "FAIL"
        console.print(
            f"{report.episodes} episodes and copies whole, {report.recomputed} steps recomputed, "
            f"largest relative error {report.worst:.2e} (at most {report.tolerance:.0e}): {verdict}",
            highlight=False,
            soft_wrap=True,
        )
        return 0 if report.passed else 1


@dataclass(frozen=True, kw_only=True)
class DataCache:
    """Hidden states of the frozen backbone on disk: estimate, build, verify."""

    command: (
        Annotated[Estimate, tyro.conf.subcommand("estimate")]
        | Annotated[Build, tyro.conf.subcommand("build")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
    )

    def run(self) -> int:
        """Run the chosen member."""
        return self.command.run()


def _human(size: float | int) -> str:
    unit = 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.3g} {_UNITS[unit]}"
