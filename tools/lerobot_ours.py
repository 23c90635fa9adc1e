"""Our half of `against_lerobot.sh`: writes the sets that LeRobot is given, and reads what LeRobot made of them.

    python tools/lerobot_ours.py write FOLDER
    python tools/lerobot_ours.py read FOLDER
    python tools/lerobot_ours.py table FOLDER       FOLDER/*/results.jsonl as one table; fails when a check did

FOLDER/answers/NAME.npz holds what must be found in a set: per frame the state, the action, the picture, the text.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from svms_gr00t.data.convert.to_v3 import convert_to_v3
from svms_gr00t.data.convert.to_v21 import convert_to_v21
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.lerobot.writer import LeRobotWriter

MODALITY = Modality.from_dict(
    {
        "state": {"arm": {"start": 0, "end": 6}},
        "action": {"arm": {"start": 0, "end": 6}},
        "video": {"front": {}, "wrist": {}},
        "annotation": {"human.action.task_description": {}},
    }
)
BARE = Modality.from_dict({**MODALITY.to_dict(), "annotation": {}})
"""For what LeRobot merged: it renumbers tasks in its own column only."""
SIZE, FPS, DIGITS = 96, 20.0, 8


def picture(episode: int, step: int, camera: int) -> np.ndarray:
    """Bands whose brightness spells the episode, the step and the camera: no two frames of a set look alike."""
    code = np.array([episode >> k & 1 for k in range(4)] + [step >> k & 1 for k in range(5)] + [camera], np.uint8)
    bands = np.repeat(40 + 170 * code, SIZE // len(code) + 1)[:SIZE]
    grey = np.broadcast_to(bands[:, None], (SIZE, SIZE))
    return np.stack([grey, 255 - grey, np.full_like(grey, 90 + 40 * camera)], axis=-1)


def record(root: Path, lengths: list[int], texts: list[str], seed: int) -> None:
    """A set as our recorder writes it (v2.1)."""
    rng = np.random.default_rng(seed)
    names = [f"joint_{k}" for k in range(6)]
    cameras = {f"observation.images.{name}": (SIZE, SIZE) for name in MODALITY.video}
    with LeRobotWriter(
        root,
        fps=FPS,
        robot_type="toy",
        modality=MODALITY,
        lowdim={"observation.state": names, "action": names},
        videos=cameras,
        provenance={"made_by": "tools/against_lerobot.sh"},
    ) as writer:
        for e, (length, text) in enumerate(zip(lengths, texts, strict=True)):
            walk = np.cumsum(rng.normal(size=(length + 1, 6)) * 0.05, axis=0).astype(np.float32)
            columns = {"observation.state": walk[:-1], "action": walk[1:]}
            videos = {
                name: np.stack([picture(e + 8 * (seed % 2), t, camera) for t in range(length)])
                for camera, name in enumerate(cameras)
            }
            writer.add_episode(columns, videos, text)


def answers(root: Path, modality: Modality = MODALITY) -> dict[str, np.ndarray]:
    """Everything in a set, one row a frame, in the order of its episodes."""
    dataset = LeRobotDataset.open(root, modality=modality)
    rows: dict[str, list[Any]] = {"state": [], "action": [], "front": [], "wrist": [], "text": [], "episode": []}
    for place, episode in enumerate(sorted(dataset.episodes, key=lambda e: e.index)):
        columns = dataset.columns(episode.index, ["observation.state", "action"])
        rows["state"].append(columns["observation.state"])
        rows["action"].append(columns["action"])
        for view in dataset.views:
            rows[view].append(dataset.frames(episode.index, view, range(episode.length)))
        rows["text"].append(np.array(dataset.instructions(episode.index)))
        rows["episode"].append(np.full(episode.length, place))
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def without_episode(root: Path, target: Path, gone: int) -> None:
    """A set as people thin it out by hand: an episode's line and files are deleted, the others keep their numbers."""
    shutil.copytree(root, target)
    for name in ("episodes.jsonl", "episodes_stats.jsonl"):
        path = target / "meta" / name
        rows = [line for line in path.read_text().splitlines() if json.loads(line)["episode_index"] != gone]
        path.write_text("\n".join(rows) + "\n")
    for path in target.rglob(f"episode_{gone:06d}.*"):
        path.unlink()


def as_v20(root: Path, target: Path) -> None:
    """The oldest form: no statistics of episodes, float rate, no frame_index, `video_info`."""
    import pyarrow.parquet as pq

    shutil.copytree(root, target)
    (target / "meta" / "episodes_stats.jsonl").unlink()
    info = json.loads((target / "meta" / "info.json").read_text())
    info |= {"codebase_version": "v2.0", "fps": 20.0, "total_tasks": 99, "splits": {"train": "0:100"}}
    for feature in info["features"].values():
        if "info" in feature:
            feature["video_info"] = feature.pop("info")
            feature["names"] = ["height", "width", "channel"]
        else:
            feature.pop("names", None)
    del info["features"]["frame_index"]
    (target / "meta" / "info.json").write_text(json.dumps(info))
    for path in target.rglob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["frame_index"]), path)


def write(folder: Path) -> None:
    """Sets A and B, one with a hole and one of v2.0, all as v3.0, and the answers."""
    record(folder / "a21", [17, 12, 20, 9], ["open the drawer", "close it", "open the drawer", "lift the cup"], 0)
    record(folder / "b21", [11, 14], ["lift the cup", "push the button"], 1)
    without_episode(folder / "a21", folder / "hole21", 1)
    as_v20(folder / "a21", folder / "old20")
    (folder / "answers").mkdir()
    for source, name in (("a21", "a"), ("b21", "b"), ("hole21", "hole"), ("old20", "old")):
        convert_to_v3(folder / source, folder / name)
        np.savez(folder / "answers" / f"{name}.npz", **answers(folder / source))


def read(folder: Path) -> None:
    """Compare what LeRobot wrote with what it says it wrote."""
    for path in sorted((folder / "answers").glob("lerobot_*.npz")):
        name = path.stem.removeprefix("lerobot_")
        wanted = dict(np.load(path))
        root = folder / "theirs" / name
        report(folder, f"we read `{name}`", differences(wanted, answers(root, BARE)))
        back = convert_to_v21(root, folder / f"{name}_back").root
        report(folder, f"we convert `{name}` to v2.1", differences(wanted, answers(back, BARE)))


def differences(wanted: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> str:
    """What is not equal, "" when all is: numbers and texts to the bit, pictures to 8 of 255 (others are 11 off)."""
    faults = []
    for name, values in wanted.items():
        if values.shape != found[name].shape:
            faults.append(f"{name} {found[name].shape} instead of {values.shape}")
        elif values.dtype == np.uint8:
            gap = np.abs(values.astype(int) - found[name]).mean(axis=(1, 2, 3)).max()
            faults += [f"{name}: a frame differs by {gap:.1f} of 255"] if gap > 8 else []
        elif not np.array_equal(values, found[name]):
            faults.append(f"{name} differs")
    return "; ".join(faults)


def report(folder: Path, check: str, fault: str) -> None:
    """One line of the results."""
    with (folder / "results.jsonl").open("a") as file:
        file.write(json.dumps({"check": check, "fault": fault}) + "\n")


def table(folder: Path) -> None:
    """Print the results of every LeRobot side by side, and write them to FOLDER/table.md."""
    runs = sorted(path.parent for path in folder.glob("*/about.txt"))
    results = [[json.loads(line) for line in (run / "results.jsonl").read_text().split("\n") if line] for run in runs]
    checks = list(dict.fromkeys(row["check"] for rows in results for row in rows))
    faults = [{row["check"]: row["fault"] for row in rows} for rows in results]
    lines = ["| | " + " | ".join((run / "about.txt").read_text() for run in runs) + " |", "|---|" + "---|" * len(runs)]
    for check in checks:
        cells = [(found.get(check, "not reached") or "yes").replace("|", "/") for found in faults]
        lines.append(f"| {check} | " + " | ".join(cells) + " |")
    (folder / "table.md").write_text("\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")
    if any(found.get(check, "not reached") for found in faults for check in checks) or not runs:
        sys.exit(1)


if __name__ == "__main__":
    {"write": write, "read": read, "table": table}[sys.argv[1]](Path(sys.argv[2]))
