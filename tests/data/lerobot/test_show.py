"""The sheet shows the frames that it says it shows, and each sampled episode gets its plot."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from svms_gr00t.cli.main import parse
from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.show import draw_dataset


def test_the_sheet_holds_the_frames_in_order(toy: Path, tmp_path: Path) -> None:
    dataset = LeRobotDataset.open(toy)
    made = draw_dataset(dataset, tmp_path / "out", count=2, frames=3, height=48)
    sheet = np.asarray(Image.open(made.contact_sheet))
    assert sheet.shape == (2 * (14 + 48 + 2), 3 * 50, 3)
    for row, index in enumerate((0, 2)):
        length = dataset.episode(index).length
        for column, step in enumerate((0, round((length - 1) / 2), length - 1)):
            top, left = row * 64 + 14, column * 50
            cell = sheet[top : top + 48, left : left + 48]
            np.testing.assert_array_equal(cell, dataset.frames(index, "front", [step])[0])
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
