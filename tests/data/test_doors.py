"""A hostile dataset reads and writes nothing outside: every way in goes through the same two checks."""

import json
from pathlib import Path

import av
import pytest
from lerobot_files import as_v3, change_json
from toy_dataset import open_writer, write_toy

from svms_gr00t.cli.main import main
from svms_gr00t.core.errors import DataError
from svms_gr00t.data.convert.to_v3 import convert_to_v3
from svms_gr00t.data.convert.to_v21 import convert_to_v21
from svms_gr00t.data.doctor.examine import examine
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.staging import Staging
from svms_gr00t.data.lerobot.video import VideoReader
from svms_gr00t.data.paths import FOLLOW_LINKS

FEATURE = "observation.images.front"
BAD = "observation.images.x/../../../ESCAPED"


def renamed(root: Path) -> Path:
    """The dataset with a camera whose name climbs out of any folder."""
    info, modality = (json.loads((root / "meta" / name).read_text()) for name in ("info.json", "modality.json"))
    features = {BAD if name == FEATURE else name: value for name, value in info["features"].items()}
    change_json(root / "meta" / "info.json", features=features)
    change_json(root / "meta" / "modality.json", video={**modality["video"], "front": {"original_key": BAD}})
    return root


@pytest.mark.parametrize("version", [2, 3])
def test_a_camera_that_climbs_out_is_refused_and_nothing_is_written(tmp_path: Path, version: int) -> None:
    root = write_toy(tmp_path / "data")
    root = renamed(as_v3(root) if version == 3 else root)
    before = set(tmp_path.rglob("*"))
    convert = convert_to_v21 if version == 3 else convert_to_v3
    for attempt in (lambda: convert(root, tmp_path / "out"), lambda: LeRobotDataset.open(root)):
        with pytest.raises(DataError, match="the name"):
            attempt()
    assert any("the name" in finding.found for finding in examine(root).findings)
    assert set(tmp_path.rglob("*")) == before


def test_no_writer_leaves_its_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the name"):
        open_writer(tmp_path / "made", videos={BAD: (48, 48)})
    with Staging(tmp_path / "staged", {"a": 1}) as staging, pytest.raises(DataError, match="the name"):
        staging.make("videos/../../../gone.txt", lambda path: path.write_text("x"))
    assert not list(tmp_path.rglob("gone.txt"))


@pytest.mark.parametrize("where", ["meta/notes.json", "extras/mine", "data/chunk-000/episode_000001.parquet"])
def test_a_link_outside_is_neither_read_nor_copied(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, place = write_toy(tmp_path / "data"), tmp_path / "data" / where
    secret = tmp_path / "secret"
    place.unlink(missing_ok=True)
    place.parent.mkdir(exist_ok=True)
    secret.write_text(json.dumps({"key": "mine"}))
    place.symlink_to(secret)
    for attempt in (lambda: convert_to_v3(root, tmp_path / "out"), lambda: LeRobotDataset.open(root)):
        with pytest.raises(DataError, match="a link to"):
            attempt()
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit) as stopped:
        main(["data", "doctor", str(root)])
    assert stopped.value.code == 1
    assert "--follow-links" in capsys.readouterr().out
    monkeypatch.setenv(FOLLOW_LINKS, "1")
    LeRobotDataset.open(root)


def test_big_data_may_be_linked_on_purpose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLLOW_LINKS, "")
    root = write_toy(tmp_path / "data")
    (root / "videos").rename(tmp_path / "elsewhere")
    (root / "videos").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SystemExit) as stopped:
        main(["data", "show", str(root), "--output", str(tmp_path / "page.html")])
    assert stopped.value.code == 2
    with pytest.raises(SystemExit) as stopped:
        main(["data", "--follow-links", "show", str(root), "--output", str(tmp_path / "page.html")])
    assert stopped.value.code == 0


def test_a_clip_that_is_a_play_list_is_not_played(tmp_path: Path) -> None:
    """Of another clip, which FFmpeg would open: the same file begins to play when FFmpeg may guess."""
    root = write_toy(tmp_path / "data")
    real = next(root.rglob("*.mp4"))
    playlist = tmp_path / "clip.mp4"
    playlist.write_text(f"ffconcat version 1.0\nfile {real.relative_to(tmp_path)}\n")
    with av.open(str(playlist)) as guessed:
        assert guessed.format.name == "concat", "mutant: this is what it would do"
    with pytest.raises(DataError, match="begins like none"):
        VideoReader(playlist)
    for text in ("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n", ""):
        playlist.write_text(text)
        with pytest.raises(DataError, match="begins like none"):
            VideoReader(playlist)
    assert len(VideoReader(real))
