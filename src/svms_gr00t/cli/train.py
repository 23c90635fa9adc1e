"""`svms-gr00t train`: the three phases on any LeRobot dataset with a modality.json."""

from dataclasses import dataclass
from pathlib import Path

from svms_gr00t.cli.console import Bars, console


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train SVMS (or, with --no-use-sheaf-streams, the plain model) in three phases and save a policy."""

    dataset_path: Path
    """A LeRobot dataset, v2.0 to v3.0, with meta/modality.json."""
    output_dir: Path = Path("runs/train")
    """Run folder; the same command again goes on where it stopped."""
    preset: str = "tiny"
    """Model size: tiny or n1d6."""
    base_model_path: Path | None = None
    """Checkpoint folder to start from; fresh weights without one."""
    embodiment_tag: str | None = None
    """Robot; by default read from the dataset."""
    views: tuple[str, ...] = ()
    """Cameras by their modality.json names; empty takes all."""
    use_sheaf_streams: bool = True
    """Off trains plain GR00T N1.6 on the same batches."""
    max_steps: tuple[int, int, int] = (120, 120, 160)
    """Steps of the three phases."""
    learning_rate: tuple[float, float, float] = (1e-3, 1e-3, 2e-4)
    """Learning rates of the three phases (N1.6 size: 1e-4 5e-5 1e-5)."""
    global_batch_size: int = 32
    """Samples of one optimiser step."""
    lambda_sheaf_max: float = 0.1
    """Sheaf loss weight once fully on."""
    seed: int = 0
    """Chooses the held-out episodes, the weights and every random number."""

    def run(self) -> int:
        """Train and say where the policy is."""
        from svms_gr00t.data.steps import Batches
        from svms_gr00t.recipes.demo import tiny_schedules
        from svms_gr00t.recipes.experiment import Experiment
        from svms_gr00t.recipes.phases_in_turn import train_in_turn

        bars = Bars()
        experiment = Experiment.prepare(
            self.dataset_path,
            preset_name=self.preset,
            embodiment_tag=self.embodiment_tag,
            views=self.views,
            seed=self.seed,
            base=self.base_model_path,
            svms=tiny_schedules(sum(self.max_steps)) | {"lambda_sheaf_max": self.lambda_sheaf_max},
            progress=bars,
        )
        self.output_dir.mkdir(parents=True, exist_ok=True)
        steps = experiment.steps(train=True, progress=bars)
        trained = train_in_turn(
            experiment.model(use_sheaf_streams=self.use_sheaf_streams, base=self.base_model_path),
            Batches(steps, self.global_batch_size, self.seed),
            experiment.steps(train=False, stride=4),
            self.output_dir,
            steps=self.max_steps,
            learning_rates=self.learning_rate,
            batch_size=self.global_batch_size,
            seed=self.seed,
            progress=bars,
            title="svms" if self.use_sheaf_streams else "plain",
        )
        folder = experiment.policy(trained.model).save_pretrained(self.output_dir / "policy")
        for gate in trained.gates:
            verdict = {True: "pass", False: "FAIL", None: "not measured"}[gate.passed]
            advice = "" if gate.passed else f" ({gate.advice})"
            console.print(f"{gate.phase}: {gate.criterion}: {gate.measured}: {verdict}{advice}", highlight=False)
        console.print(f"Policy: {folder}", highlight=False, soft_wrap=True)
        return 0
