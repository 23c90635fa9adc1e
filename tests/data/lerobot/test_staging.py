"""An unfinished folder: one job at a time, nothing made twice, nothing published before its time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lerobot_files import as_v3, tree

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.lock import only_one
from svms_gr00t.data.convert.to_v3 import convert_to_v3
from svms_gr00t.data.convert.to_v21 import convert_to_v21
from svms_gr00t.data.lerobot import staging as module
from svms_gr00t.data.lerobot.staging import Staging, content_of

KEY = {"job": "test"}


def flip(file: Path) -> None:
    """One bit in the middle: the size stays."""
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


@pytest.mark.parametrize("begun", [True, False], ids=["renamed", "not yet renamed"])
def test_a_job_killed_while_it_finishes_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    target, made, real = tmp_path / "set", [], module.publish

    def job() -> None:
        with Staging(target, KEY) as staging:
            staging.make("a/b", lambda path: made.append(path.write_text("x")))
            staging.finish()

    def killed(folder: Path, where: Path) -> None:
        if begun:
            real(folder, where)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        job()
    monkeypatch.setattr(module, "publish", real)
    if begun:
        with pytest.raises(DataError, match="something there already"):
            job()
    else:
        job()
    assert len(made) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert tree(target).keys() == {"a/b"}


def test_two_jobs_never_share_an_unfinished_folder(tmp_path: Path) -> None:
    target = tmp_path / "set"
    with Staging(target, KEY), pytest.raises(DataError, match="another process at work"):
        Staging(target, KEY)
    with Staging(target, KEY) as staging:
        assert staging.resumed
    with pytest.raises(DataError, match="unfinished job with another job"):
        Staging(target, {"job": "other"})
    with only_one(tmp_path / ".set.partial"):
        pass  # a refused job holds nothing


def test_other_code_does_not_go_on_with_half_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Staging(tmp_path / "set", KEY):
        pass
    monkeypatch.setattr(module, "source_digest", lambda: "newer")
    with pytest.raises(DataError, match="unfinished job with another code"):
        Staging(tmp_path / "set", KEY)


def test_what_was_never_claimed_is_thrown_away(tmp_path: Path) -> None:
    home = tmp_path / ".set.partial"
    (home / "files").mkdir(parents=True)
    (home / "files" / "half").write_text("torn")
    with Staging(tmp_path / "set", KEY) as staging:
        assert not staging.resumed
        assert not list(staging.folder.iterdir())


def test_the_content_of_a_folder_is_every_byte_and_name_but_hidden_ones(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "x").write_text("1")
    seen = [content_of(folder)]
    (folder / ".cache").mkdir()
    (folder / ".cache" / "lock").write_text("fetched")
    assert content_of(folder) == seen[0]
    flip(folder / "a" / "x")
    seen.append(content_of(folder))
    (folder / "a" / "x").rename(folder / "a" / "y")
    seen.append(content_of(folder))
    assert len(set(seen)) == 3


def stopped(monkeypatch: pytest.MonkeyPatch, job: Callable[[], Any], after: int = 1) -> None:
    """Run `job` until it has made so many files."""
    real, count = Staging.make, 0

    def make(self: Staging, relative: str, write: Callable[[Path], object]) -> bool:
        nonlocal count
        count += 1
        if count > after:
            raise KeyboardInterrupt
        return real(self, relative, write)

    monkeypatch.setattr(Staging, "make", make)
    with pytest.raises(KeyboardInterrupt):
        job()
    monkeypatch.setattr(Staging, "make", real)


@pytest.mark.parametrize("kind", ["*.parquet", "*.mp4", "info.json"])
@pytest.mark.parametrize("way", ["v3", "v21"])
def test_a_conversion_goes_on_only_with_an_unchanged_source(
    toy: Path, monkeypatch: pytest.MonkeyPatch, way: str, kind: str
) -> None:
    source, convert = (toy, convert_to_v3) if way == "v3" else (as_v3(toy), convert_to_v21)
    target = toy.with_name("made")
    stopped(monkeypatch, lambda: convert(source, target))
    file = sorted(source.rglob(kind))[0]
    before = file.read_bytes()
    if kind == "info.json":
        file.write_text(json.dumps(json.loads(before) | {"robot_type": "another"}))
    else:
        flip(file)
    with pytest.raises(DataError, match="unfinished job with another content"):
        convert(source, target)
    file.write_bytes(before)
    convert(source, target)
    assert target.is_dir()
