"""Mixtures draw each dataset's share, every step once an epoch, and go on where they stopped; soups find folders."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statistics_oracle import check
from toy_dataset import LENGTHS, MODALITY, episode, open_writer, write_toy

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.lerobot.robocasa import TASK_SETS, filter_episodes
from svms_gr00t.data.loading.mixture import MixedSampler, Part, open_mixture, soup


def draws(sampler: MixedSampler, batches: int) -> list[tuple[int, int]]:
    return [(int(draw), draw.epoch) for batch in islice(sampler, batches) for draw in batch]  # type: ignore[attr-defined]


@settings(max_examples=15, deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(1, 60), st.floats(0.05, 5)), min_size=1, max_size=5),
    batch=st.integers(1, 40),
    seed=st.integers(0, 9),
)
def test_shares_are_the_weights_and_epochs_have_no_repeats(
    parts: list[tuple[int, float]], batch: int, seed: int
) -> None:
    sizes, weights = zip(*parts, strict=True)
    taken = draws(MixedSampler(sizes, weights, batch, seed), -(-2048 // batch))[:2048]
    edges = np.cumsum([0, *sizes])
    for kind, size in enumerate(sizes):
        mine = [(i, e) for i, e in taken if edges[kind] <= i < edges[kind + 1]]
        share = 2048 * weights[kind] / sum(weights)
        assert abs(len(mine) - share) <= 4  # two blocks, each within one draw at either edge
        assert len(set(mine)) == len(mine)  # each step once an epoch
        assert [e for _, e in mine] == [k // size for k in range(len(mine))]


def test_a_resume_gives_the_very_next_batch() -> None:
    def fresh() -> MixedSampler:
        return MixedSampler((50, 7, 300), (1.0, 1.0, 3.0), 16, seed=4)

    whole = draws(fresh(), 200)
    for batch in (1, 63, 64, 131):
        later = fresh()
        later.batch = batch
        assert draws(later, 3) == whole[batch * 16 : (batch + 3) * 16]
    assert draws(MixedSampler((50, 7, 300), (1.0, 1.0, 3.0), 16, seed=5), 3) != whole[:48]


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """The toy of 28 steps, and one of 200 steps."""
    with open_writer(tmp_path / "long") as writer:
        for index in range(10):
            writer.add_episode(*episode(20, seed=index), "close the door")
    return write_toy(tmp_path / "toy"), tmp_path / "long"


def test_weights_come_from_the_caller_or_from_the_sizes(two: tuple[Path, Path]) -> None:
    toy, long = two
    sizes = np.array([sum(LENGTHS), 200.0])
    for alpha in (0.0, 0.4, 1.0):
        expected = sizes**alpha / (sizes**alpha).sum()
        np.testing.assert_allclose(open_mixture([Part(path=toy), Part(path=long)], alpha=alpha).weights, expected)
    given_ = open_mixture([Part.parse(f"{toy}*3"), Part.parse(f"{long}@4_demos*1")])
    assert given_.weights == (0.75, 0.25)
    assert len(given_.datasets[1].episodes) == 4
    with pytest.raises(ConfigError, match="1 weights for 2 datasets"):
        open_mixture([Part.parse(f"{toy}*3"), Part(path=long)])
    for text in (f"{toy}*0", f"{toy}*-1", f"{toy}*1e999"):
        with pytest.raises(ConfigError, match="a number above 0"):
            Part.parse(text)


def test_statistics_cover_all_data_once(two: tuple[Path, Path]) -> None:
    mixture = open_mixture([Part(path=path, weight=w) for path, w in zip(two, (9.0, 1.0), strict=True)])
    rows = [d.lowdim(e.index)["action.arm"] for d in mixture.datasets for e in d.episodes]
    check(mixture.statistics()["action"]["arm"], np.concatenate(rows))


def test_what_does_not_go_together_is_one_sentence(two: tuple[Path, Path], tmp_path: Path) -> None:
    other = {**MODALITY, "state": {"arm": {"start": 0, "end": 4}}}
    with open_writer(tmp_path / "other", modality=Modality.from_dict(other)) as writer:
        writer.add_episode(*episode(9, seed=0), "open the door")
    with open_writer(tmp_path / "slow", fps=10.0) as writer:
        writer.add_episode(*episode(9, seed=0), "open the door")
    for name, text in (("other", "state keys .*'arm': 4.*one robot"), ("slow", "10 steps a second, but need 20")):
        with pytest.raises(DataError, match=text):
            open_mixture([Part(path=two[0]), Part(path=tmp_path / name)])


def test_broken_episodes_are_named(two: tuple[Path, Path]) -> None:
    (two[1] / "data/chunk-000/episode_000003.parquet").unlink()
    mixture = open_mixture([Part(path=path) for path in two])
    assert [[skip.episode for skip in skips] for skips in mixture.skipped] == [[], [3]]


def test_filter_keys_are_those_of_robocasa() -> None:
    """Python's own generator, seed 0, shuffled, the first N: computed once with `random.seed(0); random.shuffle`."""
    assert filter_episodes(list(range(10)), "3_demos") == sorted([7, 8, 1])
    assert filter_episodes([4, 2], "5_demos") == [4, 2]
    for key in ("all", "0_demos", "-3_demos", "3_tasks"):
        with pytest.raises(ConfigError, match="N_demos"):
            filter_episodes([1, 2], key)


def test_soups_find_the_published_folders(tmp_path: Path) -> None:
    def publish(split: str, kind: str, task: str, rest: str) -> Path:
        folder = tmp_path / "v1.0" / split / kind / task / rest
        folder.mkdir(parents=True)
        return folder

    folders = [publish("target", "atomic", task, "20250816/lerobot") for task in TASK_SETS["atomic_seen"]]
    publish("target", "atomic", "OpenDrawer", "20250101/lerobot")
    publish("target", "atomic", "AnotherTask", "20250816/lerobot")
    human = publish("pretrain", "composite", "ServeTea", "20250820/lerobot")
    made = publish("pretrain", "composite", "ServeTea", "20250820/mg/demo/2025-08-20-21-21-37/lerobot")
    assert [part.path for part in soup(tmp_path, "target_atomic_seen")] == folders
    assert {part.filter_key for part in soup(tmp_path, "target_atomic_seen_10p")} == {"50_demos"}
    assert [part.path for part in soup(tmp_path, "pretrain_human300")] == [human]
    assert [part.path for part in soup(tmp_path, "pretrain_human300_mg60")] == [human, made]
    assert [len(TASK_SETS[name]) for name in ("atomic_seen", "composite_seen", "composite_unseen")] == [18, 16, 16]
    with pytest.raises(DataError, match="none for DeliverStraw, GetToastedBread"):
        soup(tmp_path, "target_composite_seen")
    with pytest.raises(ConfigError, match="one of target50"):
        soup(tmp_path, "pretrain_human51")


def test_a_subset_is_a_dataset(two: tuple[Path, Path]) -> None:
    some = LeRobotDataset.open(two[1]).only([2, 5])
    assert [e.index for e in some.episodes] == [2, 5]
    with pytest.raises(DataError, match="episode 3, but need one of the 2 episodes"):
        some.lowdim(3)
