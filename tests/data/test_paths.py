"""Names and links of somebody else's dataset do not lead out of its folder."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.paths import FOLLOW_LINKS, check_tree, inside, safe_name


@given(st.text(max_size=40))
def test_a_safe_name_is_one_part_of_a_path(name: str) -> None:
    folder = Path("/somewhere/deep")
    try:
        kept = safe_name(name, "here")
    except DataError:
        return
    assert kept == name
    made = Path(os.path.normpath(folder / kept))
    assert made.parent == folder
    assert made.name == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "C:", "a\nb", "a\x1b]0;", "\x00", "é" * 101, "\u202e"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="Rename it"):
        safe_name(name, "here")


@pytest.mark.parametrize("name", ["observation.images.left wrist", "ego_view", "相机", ".hidden", "é" * 100, "a..b"])
def test_usual_names_pass(name: str) -> None:
    assert safe_name(name, "here") == name


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b.mp4", "/", "\\..", "~"]), max_size=5).map("/".join))
def test_what_is_inside_stays_inside(relative: str) -> None:
    folder = Path("/somewhere/deep")
    try:
        made = inside(folder, relative)
    except DataError:
        return
    assert Path(os.path.normpath(made)).is_relative_to(folder)
    assert Path(os.path.normpath(made)) != folder


def test_links_inside_pass_and_links_outside_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, secret = tmp_path / "data", tmp_path / "secret.txt"
    (root / "meta").mkdir(parents=True)
    secret.write_text("mine")
    (root / "meta" / "own.json").write_text("{}")
    (root / "alias.json").symlink_to("meta/own.json")
    (root / "loop").symlink_to(".")
    check_tree(root)
    (tmp_path / "by_another_name").symlink_to(root)
    check_tree(tmp_path / "by_another_name")
    (root / "meta" / "notes.json").symlink_to(secret)
    with pytest.raises(DataError, match="--follow-links"):
        check_tree(root)
    monkeypatch.setenv(FOLLOW_LINKS, "1")
    check_tree(root)
    monkeypatch.delenv(FOLLOW_LINKS)
    (root / "meta" / "notes.json").unlink()
    (root / "videos").symlink_to(tmp_path)
    with pytest.raises(DataError, match="a link to"):
        check_tree(root)


def test_the_hub_cache_links_into_its_own_blobs(tmp_path: Path) -> None:
    root = tmp_path / "datasets--a--b" / "snapshots" / "abc"
    root.mkdir(parents=True)
    (tmp_path / "datasets--a--b" / "blobs").mkdir()
    (tmp_path / "datasets--a--b" / "blobs" / "f").write_text("x")
    (root / "info.json").symlink_to("../../blobs/f")
    check_tree(root)
    (root / "other.json").symlink_to(tmp_path / "datasets--a--b")
    with pytest.raises(DataError, match="a link to"):
        check_tree(root)


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_refused_before_anybody_waits_for_it(
    tmp_path: Path, linked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLLOW_LINKS, "1")
    (tmp_path / "data").mkdir()
    pipe = tmp_path / ("pipe" if linked else "data/pipe")
    os.mkfifo(pipe)
    if linked:
        (tmp_path / "data" / "link").symlink_to(pipe)
    with pytest.raises(DataError, match="a pipe"):
        check_tree(tmp_path / "data")
