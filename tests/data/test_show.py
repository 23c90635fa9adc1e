"""The sheet shows the frames that it says it shows, and each sampled episode gets its plot."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from svms_gr00t.cli.main import parse
from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.elements import keys_of, names_of, unit_of
from svms_gr00t.data.lerobot.modality import LowDim
from svms_gr00t.data.show import draw_dataset


def test_the_sheet_holds_the_frames_in_order(toy: Path, tmp_path: Path) -> None:
    dataset = LeRobotDataset.open(toy)
    made = draw_dataset(dataset, tmp_path / "out", count=2, frames=3, height=48)
    sheet = np.asarray(Image.open(made.contact_sheet))
    assert sheet.shape == (2 * (14 + 48 + 2 + 14), 3 * 50, 3)
    for row, index in enumerate((0, 2)):
        length = dataset.episode(index).length
        for column, step in enumerate((0, round((length - 1) / 2), length - 1)):
            top, left = row * 78 + 14, column * 50
            cell = sheet[top : top + 48, left : left + 48]
            np.testing.assert_array_equal(cell, dataset.frames(index, "front", [step])[0])
        below = sheet[row * 78 + 64 : row * 78 + 78]
        assert len({below[:, column * 50 : column * 50 + 50].tobytes() for column in range(3)}) == 3, "their steps"
    assert [path.name for path in made.plots] == ["episode_000000_numbers.png", "episode_000002_numbers.png"]
    plot = np.asarray(Image.open(made.plots[0]).convert("RGB")).reshape(-1, 3)
    assert len(np.unique(plot, axis=0)) > 100  # lines were drawn


def test_the_command(small_kitchen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert (
        parse(["data", "show", str(small_kitchen), "--output", str(out), "--episodes", "3", "--frames", "2"]).run() == 0
    )
    assert sorted(path.name for path in out.iterdir()) == ["contact_sheet.png", "episode_000003_numbers.png"]
    assert "contact_sheet.png" in capsys.readouterr().out
    with pytest.raises(DataError, match="episode 99"):
        parse(["data", "show", str(small_kitchen), "--output", str(out), "--episodes", "99"]).run()
    with pytest.raises(ConfigError, match="at least 1"):
        parse(["data", "show", str(small_kitchen), "--output", str(out), "--frames", "0"]).run()


def drawn_text(dataset: LeRobotDataset, index: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text of the plot of an episode's numbers."""
    seen: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (seen.append(self), save(self, *a, **k)))
    draw_dataset(dataset, folder, episodes=[index], frames=1)
    return [text.get_text() for text in seen[0].findobj(Text) if text.get_text()]


def test_plots_name_axes_units_and_what_they_leave_out(
    small_kitchen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = drawn_text(LeRobotDataset.open(small_kitchen), 3, tmp_path, monkeypatch)
    assert "state: end_effector_position_relative" in texts, "the state, also where no action has its name"
    assert {"x", "y", "z", "m", "change"} <= set(texts)
    assert not any(text.startswith("action: control_mode") for text in texts)
    assert any("hardly change here: " in text and "action.control_mode" in text for text in texts)


def test_the_dataset_names_its_numbers_and_units_are_claimed_only_where_values_agree(toy: Path) -> None:
    dataset = LeRobotDataset.open(toy)
    keys = {f"{key.kind}.{key.name}": key for key in keys_of(dataset, 0)}
    assert keys["state.arm"].elements == ("x", "y", "z")
    assert keys["action.arm"].elements == ("x", "y", "z"), "columns 1 to 3 of gxyz"
    assert keys["state.gripper"].elements == ("g",)
    assert {key.unit for key in keys.values()} == {""}
    entry, far = LowDim(start=0, end=3), np.full((2, 3), 350.0, np.float32)
    assert unit_of("eef_position", entry, far / 1000) == "m"
    assert unit_of("eef_position", entry, far) == "", "millimetres"
    assert unit_of("eef_position", entry.model_copy(update={"absolute": False}), far / 1000) == "change"
    turned = LowDim(start=0, end=3, rotation_type="euler_angles_ypr")
    assert unit_of("wrist", turned, far / 1000) == "rad"
    assert unit_of("wrist", turned, far) == "", "degrees"
    assert names_of("wrist", turned, ()) == ("yaw", "pitch", "roll")
    assert names_of("arm", LowDim(start=0, end=2), ("arm_0", "arm_1")) == ("0", "1")
    assert names_of("arm", LowDim(start=0, end=2), ("arm_lift.pos", "arm_turn.pos")) == ("lift.pos", "turn.pos")
