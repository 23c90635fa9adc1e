"""Files as the wild has them: each fault is one sentence, one bad episode a named skip, and nothing is written."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_dataset import episode, open_writer

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.doctor.examine import examine
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.sound import open_sound

BAD = 2
PARQUET = f"data/chunk-000/episode_{BAD:06d}.parquet"
CLIP = f"videos/chunk-000/observation.images.front/episode_{BAD:06d}.mp4"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five sound episodes of twenty steps."""
    root = tmp_path_factory.mktemp("corruption") / "good"
    with open_writer(root) as writer:
        for index in range(5):
            writer.add_episode(*episode(20, seed=index), "open the drawer")
    return root


def column(name: str, change: Callable[[list], list]) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        table = pq.read_table(root / PARQUET)
        at = table.column_names.index(name)
        pq.write_table(table.set_column(at, name, pa.array(change(table[name].to_pylist()))), root / PARQUET)

    return spoil


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes(change((root / name).read_bytes()))  # type: ignore[return-value]


def length_zero(text: bytes) -> bytes:
    rows = [json.loads(line) for line in text.splitlines()]
    rows[BAD]["length"] = 0
    return "\n".join(map(json.dumps, rows)).encode()


def info(**fields: object) -> Callable[[Path], None]:
    return rewrite("meta/info.json", lambda text: json.dumps(json.loads(text) | fields).encode())


ONE_EPISODE = {
    "truncated mp4": (rewrite(CLIP, lambda data: data[: len(data) // 2]), r"truncated|unreadable|broken"),
    "wrong frame count": (
        lambda root: shutil.copy(root / "short.mp4", root / CLIP),
        r"12 frames, but need 20",
    ),
    "missing parquet": (lambda root: (root / PARQUET).unlink(), r"no such file"),
    "missing clip": (lambda root: (root / CLIP).unlink(), r"no such file"),
    "nan action": (
        column("action", lambda rows: [*rows[:7], [0.0, float("nan"), 0.0, 0.0], *rows[8:]]),
        r"NaN or infinity at step 7",
    ),
    "task out of range": (
        column("annotation.human.action.task_description", lambda rows: [*rows[:3], 41, *rows[4:]]),
        r"step 3: found task index 41",
    ),
    "zero length": (rewrite("meta/episodes.jsonl", length_zero), r"0 steps"),
    "unknown codec": (rewrite(CLIP, lambda data: data.replace(b"avc1", b"zzzz")), r"codec"),
    "garbage clip": (rewrite(CLIP, lambda data: b"\0" * len(data)), r"unreadable video"),
    "fewer rows": (
        lambda root: pq.write_table(pq.read_table(root / PARQUET).slice(0, 9), root / PARQUET),
        r"9 rows, but need the 20",
    ),
}
WHOLE = {
    "bad json": (rewrite("meta/info.json", lambda text: text[:-20]), r"broken JSON"),
    "bad line": (rewrite("meta/episodes.jsonl", lambda text: text + b'{"episode_index": '), r"line 6: found broken"),
    "climbing path": (info(data_path="../../{episode_index}.parquet"), r"inside the dataset"),
    "climbing video": (info(video_path="videos/../../{video_key}/{episode_index}.mp4"), r"inside the dataset"),
    "no tasks": (lambda root: (root / "meta/tasks.jsonl").unlink(), r"list of task texts"),
}


@pytest.fixture
def spoiled(good: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    from toy_dataset import pictures

    from svms_gr00t.data.lerobot.video import encode_video

    root = shutil.copytree(good, tmp_path / "set")
    if request.param[0] is ONE_EPISODE["wrong frame count"][0]:
        encode_video(root / "short.mp4", pictures(12), fps=20)
    request.param[0](root)
    return root


def snapshot(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.parent.rglob("*"))
        if path.is_file()
    }


def read_all(root: Path) -> None:
    dataset = LeRobotDataset.open(root)
    for one in dataset.episodes:
        dataset.check_episode(one.index)
        dataset.frames(one.index, "front", range(one.length))


def cases(table: dict) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("spoiled", "sentence"), [(case, case[1]) for case in table.values()], ids=list(table), indirect=["spoiled"]
    )


@cases(ONE_EPISODE)
def test_one_bad_episode_is_one_sentence_or_a_named_skip(spoiled: Path, sentence: str) -> None:
    before = snapshot(spoiled)
    with pytest.raises(DataError, match=sentence) as caught:
        read_all(spoiled)
    assert "\n" not in str(caught.value)
    dataset, skipped = open_sound(spoiled)
    assert [skip.episode for skip in skipped] == [BAD]
    assert "\n" not in skipped[0].reason
    assert [one.index for one in dataset.episodes] == [0, 1, 3, 4]
    for one in dataset.episodes:
        dataset.frames(one.index, "front", range(one.length))
    report = examine(spoiled)
    assert not report.healthy
    assert all(finding.episodes in ((), (BAD,)) for finding in report.findings if finding.severity == "error")
    assert any(finding.episodes == (BAD,) for finding in report.findings)
    assert snapshot(spoiled) == before, "a reader wrote into the source"


@cases(WHOLE)
def test_broken_metadata_stops_with_one_sentence(spoiled: Path, sentence: str) -> None:
    before = snapshot(spoiled)
    for read in (read_all, open_sound):
        with pytest.raises(DataError, match=sentence) as caught:
            read(spoiled)
        assert "\n" not in str(caught.value)
    report = examine(spoiled)
    assert [finding.severity for finding in report.findings] == ["error"]
    assert all(finding.todo for finding in report.findings)
    assert snapshot(spoiled) == before


def test_a_sound_set_skips_nothing_and_a_ruin_is_refused(good: Path, tmp_path: Path) -> None:
    dataset, skipped = open_sound(good)
    assert (len(dataset.episodes), skipped) == (5, ())
    assert examine(good).healthy
    root = shutil.copytree(good, tmp_path / "ruin")
    for index in (1, 3):
        (root / f"data/chunk-000/episode_{index:06d}.parquet").unlink()
    with pytest.raises(DataError, match=r"2 broken of 5 episodes, first: .*000001"):
        open_sound(root)
    assert len(open_sound(root, most=0.5)[0].episodes) == 3


def test_a_broken_picture_inside_a_clip_is_one_sentence(good: Path, tmp_path: Path) -> None:
    root = shutil.copytree(good, tmp_path / "set")
    data = bytearray((root / CLIP).read_bytes())
    start = data.index(b"mdat") + 1200  # beyond the encoder's own notes
    data[start : start + 400] = np.random.default_rng(0).bytes(400)
    (root / CLIP).write_bytes(bytes(data))
    dataset = LeRobotDataset.open(root)
    with pytest.raises(DataError, match=r"broken|no picture"):
        dataset.frames(BAD, "front", range(20))
