"""Files that users touch, broken in thousands of ways: a reader takes them or says one sentence, and nothing else."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lerobot_files import as_v3
from mutations import mutants, survived
from report_sample import sample
from toy_dataset import write_toy

from svms_gr00t.cli.train import Train
from svms_gr00t.core.errors import SvmsError
from svms_gr00t.data.doctor.examine import examine
from svms_gr00t.data.labels.score import read_gold
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.processor.config import known_robots
from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.data.processor.tokenizer import load_tokenizer
from svms_gr00t.evaluate.comparison.contenders import Contender
from svms_gr00t.evaluate.comparison.run_facts import RunFacts
from svms_gr00t.evaluate.report.card import CardSource, render_card
from svms_gr00t.evaluate.report.data import ReportData
from svms_gr00t.evaluate.report.markdown import render_markdown
from svms_gr00t.groot.checkpoint.delta import read_delta
from svms_gr00t.groot.checkpoint.loading import weight_files
from svms_gr00t.groot.checkpoint.summary import summarise
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.monitor import Monitor
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.config import TrainConfig
from svms_gr00t.recipes.training.gates import run_gates
from svms_gr00t.recipes.training.held_out import held_out
from svms_gr00t.train.loop.run_dir import RunDir

OBSERVED = {"video": {}, "state": {}}
TINY_BASE = shipped("tiny_base")
TINY = load_tokenizer("tiny")


@dataclass(frozen=True)
class Case:
    """One file of a folder, and everybody who reads it there."""

    make: Callable[[Path], Path]
    """Builds a good folder."""
    file: str
    readers: tuple[Callable[[Path], Any], ...]
    least: int = 6
    """Refusals that there must be; a doctor's finding is none."""


def checkpoint(folder: Path) -> Path:
    shutil.copytree(TINY_BASE, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


def sharded(folder: Path) -> Path:
    shutil.copytree(TINY_BASE, folder)
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    names = list(weight_files(TINY_BASE))
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, "model-1.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def delta(folder: Path) -> Path:
    folder.mkdir(parents=True)
    base = {"source": "nvidia/GR00T-N1.6-3B", "revision": None, "relative": "../x", "tensors": {"a": "01", "b": "02"}}
    value = {"format": "svms-gr00t delta", "version": 1, "base": base, "rows": {"a": [0, 2]}}
    from svms_gr00t.groot.checkpoint.delta import fingerprint

    base["fingerprint"] = fingerprint(base["tensors"])
    (folder / "delta.json").write_text(json.dumps(value))
    return folder


def run_folder(folder: Path) -> Path:
    """What training leaves, without its weights."""
    checkpoint(folder / "policy")
    write_toy(folder / "data")
    config = TrainConfig(dataset_path=str(folder / "data"), svms={"stream_names": ["visual", "temporal", "state"]})
    (folder / "config.yaml").write_text(config.dumps())
    data = {"fingerprint": "content:1", "episodes": 3, "held_out": [1], "skipped": {"2": "why"}}
    (folder / "passport.json").write_text(json.dumps({"data": data, "versions": {"torch": "2"}, "base": None}))
    gate = {"phase": "specialise", "criterion": "c", "measured": "0.5", "passed": True, "advice": ""}
    for phase in ("phase_1", "phase_3"):
        (folder / phase).mkdir()
        (folder / phase / "gate.json").write_text(json.dumps([gate]))
        rows = [{"step": i, "loss": 0.1, "held_out.action_error": 0.2, "term.flow": 0.3} for i in range(4)]
        (folder / phase / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = sample(episodes=2)
    report.save(folder / "report.json")
    report.open_loop[0].save(folder / "open_loop.json")
    report.closed_loop[0].save(folder / "closed_loop.json")
    monitor = Monitor(
        threshold=0.5, alpha=0.1, per="chunk", episodes=9, chunks=90, edges=("a",), quantiles=(0.1, 0.2, 0.3)
    )
    monitor.save(folder / "policy" / "monitor.json")
    facts = RunFacts(name="n", seed=1, data="d", held_out=(1,), base="b", budget={"steps": "3"})
    facts.save(folder / "phase_1" / "facts.json")
    return folder


def demo_folder(folder: Path) -> Path:
    (folder / "svms").mkdir(parents=True)
    value = {"dataset_path": "d", "base": "shipped", "seed": 0, "steps": [1, 2], "batch_size": 4, "learning_rates": [1]}
    (folder / "config.json").write_text(json.dumps(value))
    return folder


def gold(folder: Path) -> Path:
    folder.mkdir(parents=True)
    row = {"text": "open it", "formalized": "open it", "words": [{"start": 0, "end": 4, "labels": ["state"]}]}
    (folder / "gold.jsonl").write_text(json.dumps(row) + "\n")
    return folder


def read_dataset(root: Path) -> None:
    dataset = LeRobotDataset.open(root)
    for episode in dataset.episodes[:1]:
        dataset.instructions(episode.index)
        dataset.lowdim(episode.index)
        dataset.frames(episode.index, dataset.views[0], [0]) if dataset.views else None


def read_processor(folder: Path) -> None:
    processor = Processor.load(folder, tokenizer=TINY)
    codec = processor.codec
    with suppress(SvmsError):
        codec.encode_state({key: np.zeros((1, one.width)) for key, one in codec.state.items()})
    codec.decode_action(np.zeros((codec.max_horizon, codec.max_action_dim)), None)


def read_settings(folder: Path) -> None:
    found = TrainConfig.load(folder / "config.yaml")
    found.dumps(), found.phase_values(), found.svms_fields()
    Train.defaults(["--config", str(folder / "config.yaml")]).settings()


def read_card(folder: Path) -> None:
    render_card(CardSource.of(folder))


PROCESSOR = (read_processor, known_robots, lambda f: summarise(f, lambda _: {}, files={}))
DATASET = (read_dataset, lambda f: examine(f, episodes=1))
CASES = {
    "config.json": Case(checkpoint, "config.json", (lambda f: Gr00tN1d6Config.load(f / "config.json").dumps(),)),
    "processor_config.json": Case(checkpoint, "processor_config.json", PROCESSOR),
    "statistics.json": Case(checkpoint, "statistics.json", PROCESSOR),
    "embodiment_id.json": Case(checkpoint, "embodiment_id.json", PROCESSOR),
    "tokenizer.json": Case(checkpoint, "tokenizer.json", (load_tokenizer,)),
    "index": Case(sharded, "model.safetensors.index.json", (weight_files,)),
    "delta.json": Case(delta, "delta.json", (read_delta,)),
    "config.yaml": Case(run_folder, "config.yaml", (read_settings, RunFacts.of, read_card)),
    "passport.json": Case(
        run_folder, "passport.json", (RunFacts.of, read_card, lambda f: held_out(f / "policy", f / "data"))
    ),
    "metrics.jsonl": Case(
        run_folder, "phase_3/metrics.jsonl", (run_gates, lambda f: RunDir(f / "phase_3").rows(below=3))
    ),
    "gate.json": Case(run_folder, "phase_1/gate.json", (run_gates,)),
    "facts.json": Case(run_folder, "phase_1/facts.json", (lambda f: RunFacts.of(f / "phase_1"),)),
    "monitor.json": Case(run_folder, "policy/monitor.json", (read_card, lambda f: Monitor.beside(f / "policy"))),
    "open_loop.json": Case(run_folder, "open_loop.json", (lambda f: Contender.load(f / "open_loop.json"), read_card)),
    "closed_loop.json": Case(run_folder, "closed_loop.json", (Contender.load,)),
    "report.json": Case(
        run_folder, "report.json", (read_card, lambda f: render_markdown(ReportData.load(f / "report.json")))
    ),
    "demo config.json": Case(demo_folder, "config.json", (lambda f: RunFacts.of(f / "svms"),)),
    "gold.jsonl": Case(gold, "gold.jsonl", (lambda f: read_gold(f / "gold.jsonl"),)),
    "info.json": Case(write_toy, "meta/info.json", DATASET),
    "modality.json": Case(write_toy, "meta/modality.json", DATASET),
    "episodes.jsonl": Case(write_toy, "meta/episodes.jsonl", DATASET),
    "tasks.jsonl": Case(write_toy, "meta/tasks.jsonl", DATASET),
    "episodes_stats.jsonl": Case(write_toy, "meta/episodes_stats.jsonl", DATASET, least=0),
    "v3 info.json": Case(lambda f: as_v3(write_toy(f)), "meta/info.json", DATASET),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Path]:
    """A fresh copy of a case's folder; each kind is made once."""
    made: dict[Any, Path] = {}

    def fresh(case: Case) -> Path:
        if case.make not in made:
            made[case.make] = case.make(tmp_path_factory.mktemp("good") / "it")
        return Path(shutil.copytree(made[case.make], tmp_path_factory.mktemp("broken") / "it"))

    return fresh


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("name", CASES)
def test_a_broken_document_is_taken_or_refused_in_one_sentence(name: str, folders: Callable[[Case], Path]) -> None:
    case = CASES[name]
    folder = folders(case)
    file = folder / case.file
    refused, wrong = survived(
        (partial(reader, folder) for reader in case.readers), file, mutants(file.read_bytes(), seed=len(name))
    )
    assert not wrong, "\n".join(wrong)
    assert refused >= case.least
