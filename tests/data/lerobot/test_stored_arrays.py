"""Pictures that stand in the parquet files as arrays: read where they mean one thing, named where they do not."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_files import change_json
from toy_dataset import LENGTHS, pictures, write_toy
from toy_samples import build

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.doctor.examine import examine
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.init_modality import propose_for
from svms_gr00t.data.lerobot.metadata import read_info

COLUMN = "observation.images.front"


def store(root: Path, films: list[np.ndarray], *, flat: bool = False) -> None:
    """Put each episode's pictures (T, ...) into its table instead of its clip."""
    dtype = str(films[0].dtype)
    for index, film in enumerate(films):
        path = root / f"data/chunk-000/episode_{index:06d}.parquet"
        leaf = pa.from_numpy_dtype(film.dtype)
        kind = pa.list_(leaf)
        for _ in range(0 if flat else film.ndim - 2):
            kind = pa.list_(kind)
        rows = film.reshape(len(film), -1) if flat else film
        table = pq.read_table(path).append_column(COLUMN, pa.array(rows.tolist(), type=kind))
        pq.write_table(table, path)
    features = read_info(root).model_dump()["features"]
    features[COLUMN] = {"dtype": dtype, "shape": list(films[0].shape[1:]), "names": None}
    change_json(root / "meta" / "info.json", features=features, video_path=None)


@pytest.fixture
def films() -> list[np.ndarray]:
    return [pictures(length, seed=index, size=32)[:, :, :28] for index, length in enumerate(LENGTHS)]


@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flat"])
@pytest.mark.parametrize("first", [False, True], ids=["channels last", "channels first"])
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
def test_bytes_and_fractions_in_either_order_are_the_same_picture(
    tmp_path: Path, films: list[np.ndarray], kind: str, first: bool, flat: bool
) -> None:
    root = write_toy(tmp_path / "toy")
    stored = films if kind == "uint8" else [(film / 255).astype(kind) for film in films]
    store(root, [np.moveaxis(film, -1, 1) for film in stored] if first else stored, flat=flat)
    dataset = LeRobotDataset.open(root)
    for index, film in enumerate(films):
        np.testing.assert_array_equal(dataset.frames(index, "front", [0, 4, 2]), film[[0, 4, 2]])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda film: film.astype(np.float32), r"step 0: found float32 \(32, 28, 3\) from 0 to 25\d.*\.astype"),
        (lambda film: film.astype(np.float32) / 127.5 - 1, r"from -1 to .*floats are read from 0 to 1"),
        (lambda film: film.astype(np.uint16) * 256, r"found uint16 .*no 16 bits"),
        (lambda film: film[:, :3], r"found uint8 \(3, 28, 3\).*transpose to \(H, W, 3\)"),
    ],
    ids=["0 to 255 as floats", "-1 to 1", "16 bits", "three rows"],
)
def test_what_may_mean_two_things_is_named_with_its_place(
    tmp_path: Path, films: list[np.ndarray], spoil, sentence: str
) -> None:
    root = write_toy(tmp_path / "toy")
    store(root, [spoil(film) for film in films])
    with pytest.raises(DataError, match=sentence):
        LeRobotDataset.open(root).frames(0, "front", [0])


def test_training_doctor_and_proposal_know_them(tmp_path: Path, films: list[np.ndarray]) -> None:
    root = write_toy(tmp_path / "toy")
    store(root, [np.moveaxis(film, -1, 1) for film in films])
    sample = build(root)[1][3]
    assert sample.images[0].shape[0] == 3
    assert not [one for one in examine(root).findings if one.severity == "error"]
    proposal = propose_for(root)
    assert proposal.modality.video["front"].original_key == COLUMN
    assert not proposal.missing
    assert not [reason for reason in proposal.reasons if "no row of numbers" in reason]
