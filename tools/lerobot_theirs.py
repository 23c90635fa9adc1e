"""LeRobot's half of `against_lerobot.sh`, run in LeRobot's own environment: no module of ours is imported.

    python tools/lerobot_theirs.py FOLDER

Reads, trains on, edits, merges and appends to the sets that `lerobot_ours.py write` left in FOLDER, and writes sets of
its own to FOLDER/theirs with what was put in them in FOLDER/answers/lerobot_NAME.npz.
"""

import json
import platform
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from lerobot.datasets.compute_stats import aggregate_stats
from lerobot.datasets.dataset_tools import delete_episodes, merge_datasets, remove_feature, split_dataset
from lerobot.datasets.lerobot_dataset import LeRobotDataset

CAMERAS = {"front": "observation.images.front", "wrist": "observation.images.wrist"}


def opened(root: Path) -> LeRobotDataset:
    """A set on this disk."""
    return LeRobotDataset(f"local/{root.name}", root=root)


def frames(dataset: LeRobotDataset) -> dict[str, np.ndarray]:
    """Everything in a set as LeRobot hands it to a policy."""
    items = [dataset[k] for k in range(len(dataset))]
    found = {
        "state": np.stack([item["observation.state"].numpy() for item in items]),
        "action": np.stack([item["action"].numpy() for item in items]),
        "text": np.array([item["task"] for item in items]),
        "episode": np.array([int(item["episode_index"]) for item in items]),
    }
    for name, key in CAMERAS.items():
        pictures = np.stack([item[key].numpy() for item in items])
        found[name] = np.rint(pictures * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return found


def check(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """Numbers and texts to the bit, pictures to 8 of 255 on average: LeRobot encodes again when it edits."""
    for name, values in wanted.items():
        assert values.shape == found[name].shape, f"{name} {found[name].shape} instead of {values.shape}"
        if values.dtype == np.uint8:
            gap = np.abs(values.astype(int) - found[name]).mean(axis=(1, 2, 3)).max()
            assert gap <= 8, f"{name}: a frame differs by {gap:.1f} of 255"
        else:
            assert np.array_equal(values, found[name]), f"{name} differs"


def joined(*parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Answers of sets one after another, episodes numbered on."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in parts[0]}
    begin = 0
    for part in parts:
        for name, values in part.items():
            rows[name].append(values + begin if name == "episode" else values)
        begin += int(part["episode"].max()) + 1
    return {name: np.concatenate(values) for name, values in rows.items()}


def chosen(wanted: dict[str, np.ndarray], episodes: list[int]) -> dict[str, np.ndarray]:
    """Answers of some episodes, numbered anew."""
    parts = [{n: v[wanted["episode"] == e] for n, v in wanted.items()} for e in episodes]
    return joined(*[{n: np.zeros_like(v) if n == "episode" else v for n, v in part.items()} for part in parts])


class Checks:
    """Runs checks one after another and writes down how each ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = folder / "theirs"
        self.wanted = {p.stem: dict(np.load(p)) for p in (folder / "answers").glob("*.npz")}

    def run(self, title: str, job: Callable[[], None]) -> None:
        """`job` passes when it raises nothing."""
        fault = ""
        try:
            job()
        except Exception as error:  # noqa: BLE001  whatever LeRobot raises is the result
            fault = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            (self.folder / "faults.log").open("a").write(f"{title}\n{traceback.format_exc()}\n")
        with (self.folder / "results.jsonl").open("a") as file:
            file.write(json.dumps({"check": title, "fault": fault}) + "\n")

    def keep(self, name: str, dataset: LeRobotDataset, wanted: dict[str, np.ndarray]) -> None:
        """Check a set that LeRobot wrote with LeRobot itself, and leave what ours must find in it."""
        check(frames(dataset), wanted)
        np.savez(self.folder / "answers" / f"lerobot_{name}.npz", **wanted)

    def statistics(self, name: str) -> None:
        """meta/stats.json is what LeRobot aggregates from the episodes' columns."""
        import pandas as pd

        dataset = opened(self.folder / name)
        table = pd.concat(pd.read_parquet(p) for p in sorted((dataset.root / "meta/episodes").rglob("*.parquet")))
        episodes: list[dict] = [{} for _ in range(len(table))]
        for column in table.columns:
            if column.startswith("stats/"):
                feature, kind = column.removeprefix("stats/").rsplit("/", 1)
                for row, value in zip(episodes, table[column], strict=True):
                    row.setdefault(feature, {})[kind] = np.array(plain(value))
        total = aggregate_stats(episodes)
        assert total.keys() == dataset.meta.stats.keys() == set(dataset.features), "features differ"
        for feature, kinds in total.items():
            for kind in ("min", "max", "mean", "std", "count"):
                np.testing.assert_allclose(dataset.meta.stats[feature][kind], kinds[kind], rtol=1e-6, atol=1e-7)

    def train(self, name: str) -> None:
        """Two steps of ACT with LeRobot's own command and defaults."""
        target = self.folder / f"trained_{name}"
        command = [str(Path(sys.executable).with_name("lerobot-train")), "--policy.type=act", "--policy.device=cpu"]
        command += ["--policy.push_to_hub=false", "--policy.pretrained_backbone_weights=null", "--policy.dim_model=64"]
        command += ["--policy.n_heads=2", "--policy.chunk_size=8", "--policy.n_action_steps=8", "--steps=2"]
        command += [f"--dataset.repo_id=local/{name}", f"--dataset.root={self.folder / name}", "--batch_size=2"]
        command += ["--num_workers=0", "--wandb.enable=false", "--log_freq=1"]
        done = subprocess.run([*command, f"--output_dir={target}"], capture_output=True, text=True, check=False)
        (self.folder / f"trained_{name}.log").write_text(done.stdout + done.stderr)
        assert done.returncode == 0, done.stderr.strip().splitlines()[-1]
        assert list(target.rglob("model.safetensors")), "no checkpoint"

    def edit(self) -> None:
        """Delete an episode, split, and remove a feature."""
        source = opened(self.folder / "a")
        kept = delete_episodes(source, [1], output_dir=self.made / "deleted", repo_id="local/deleted")
        self.keep("deleted", kept, chosen(self.wanted["a"], [0, 2, 3]))
        parts = split_dataset(source, {"train": [0, 1], "val": [2, 3]}, output_dir=self.made / "split")
        check(frames(parts["val"]), chosen(self.wanted["a"], [2, 3]))
        less = remove_feature(source, "next.reward", output_dir=self.made / "less", repo_id="local/less")
        check(frames(less), self.wanted["a"])

    def merge(self) -> None:
        """Two sets of ours become one."""
        parts = [opened(self.folder / name) for name in ("a", "b")]
        whole = merge_datasets(parts, output_repo_id="local/merged", output_dir=self.made / "merged")
        self.keep("merged", whole, joined(self.wanted["a"], self.wanted["b"]))

    def append(self, name: str) -> None:
        """Two more episodes at the end of a set of ours, one with a new text."""
        root = self.made / f"appended_{name}"
        shutil.copytree(self.folder / name, root)
        resume = getattr(LeRobotDataset, "resume", LeRobotDataset)
        dataset = resume(f"local/{root.name}", root=root)
        added = self.record(dataset, [6, 7], ["open the drawer", "a new text"], seed=5)
        self.keep(root.name, opened(root), joined(self.wanted[name], added))
        assert opened(root).meta.stats["action"]["count"] == len(opened(root))

    def write(self) -> None:
        """A set of LeRobot's own."""
        names = [f"joint_{k}" for k in range(6)]
        features = {n: {"dtype": "float32", "shape": (6,), "names": names} for n in ("observation.state", "action")}
        picture = {"dtype": "video", "shape": (96, 96, 3), "names": ["height", "width", "channels"]}
        features |= dict.fromkeys(CAMERAS.values(), picture)
        root = self.made / "own"
        dataset = LeRobotDataset.create("local/own", fps=20, features=features, root=root, robot_type="toy")
        wanted = self.record(dataset, [13, 8, 10], ["stir", "pour", "stir"], seed=9)
        self.keep("own", opened(root), wanted)

    def record(self, dataset: LeRobotDataset, lengths: list[int], texts: list[str], seed: int) -> dict:
        """Episodes through LeRobot's recorder."""
        rng = np.random.default_rng(seed)
        parts = []
        for length, text in zip(lengths, texts, strict=True):
            rows = {name: rng.normal(size=(length, 6)).astype(np.float32) for name in ("state", "action")}
            blocks = rng.integers(30, 220, size=(length, 4, 4, 1))  # grey: codecs keep colours at half the size
            smooth = blocks.repeat(24, axis=1).repeat(24, axis=2).repeat(3, axis=3).astype(np.uint8)
            part = rows | {"front": smooth, "wrist": 255 - smooth, "text": np.array([text] * length)}
            for k in range(length):
                frame = {"observation.state": rows["state"][k], "action": rows["action"][k], "task": text}
                frame |= {key: part[name][k] for name, key in CAMERAS.items()}
                frame |= {name: filler(f) for name, f in dataset.features.items() if not known(name)}
                dataset.add_frame(frame)
            dataset.save_episode()
            parts.append(part | {"episode": np.zeros(length, int)})
        dataset.finalize()
        return joined(*parts)


def known(name: str) -> bool:
    """Features that the recorder fills itself or that we fill."""
    own = ("timestamp", "frame_index", "episode_index", "index", "task_index", "observation.state", "action")
    return name in own or name in CAMERAS.values()


def filler(feature: dict) -> np.ndarray:
    """A value for a feature that only our sets have."""
    return np.zeros(feature["shape"], dtype=feature["dtype"])


def plain(value: object) -> object:
    """Nested lists of what pandas read."""
    return [plain(v) for v in value] if isinstance(value, (list, np.ndarray)) else value


def main(folder: Path) -> None:
    """Every check, whatever the ones before did."""
    checks = Checks(folder)
    checks.made.mkdir()
    about = [f"LeRobot {version('lerobot')}", f"Python {platform.python_version()}", f"torch {version('torch')}"]
    (folder / "about.txt").write_text(", ".join(about))
    for name, what in (("a", "v2.1"), ("hole", "v2.1 with a hole"), ("old", "v2.0")):
        checks.run(f"reads {what}", lambda name=name: check(frames(opened(folder / name)), checks.wanted[name]))
        checks.run(f"agrees with the statistics of {what}", lambda name=name: checks.statistics(name))
        checks.run(f"trains 2 steps on {what}", lambda name=name: checks.train(name))
        checks.run(f"appends to {what}", lambda name=name: checks.append(name))
    checks.run("deletes an episode, splits, removes a feature", checks.edit)
    checks.run("merges two sets", checks.merge)
    checks.run("writes a set of its own", checks.write)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
