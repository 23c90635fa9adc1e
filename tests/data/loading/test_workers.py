"""Processes that make batches while the model computes: how many, what they do meanwhile, and the memory for a GPU."""

import time
from pathlib import Path

import pytest
import torch
from toy_samples import build, equal

from svms_gr00t.data.loading.batches import MOST, ROOM, TINY, Batches, chosen_workers, cores_of_this_rank
from svms_gr00t.data.loading.samples import SampleDataset


def test_processes_are_chosen_by_device_set_cores_and_shared_memory() -> None:
    room = 10 * ROOM
    assert chosen_workers(50_000, "cuda", cores=16, room=room) == MOST
    assert chosen_workers(50_000, "cuda", cores=3, room=room) == 2
    assert chosen_workers(50_000, "cuda", cores=1, room=room) == 0
    assert chosen_workers(TINY - 1, "cuda", cores=16, room=room) == 0
    assert chosen_workers(50_000, "cpu", cores=16, room=room) == 0
    assert chosen_workers(50_000, "cuda", cores=16, room=64 << 20) == 0, "a container's /dev/shm"


def test_ranks_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert cores_of_this_rank() == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert cores_of_this_rank() == 2


class Noted(SampleDataset):
    """Writes down every sample that is made, in whichever process."""

    note: Path

    def __getitem__(self, index: int) -> object:
        with self.note.open("a") as file:
            file.write(f"{int(index)}\n")
        return super().__getitem__(index)

    def made(self) -> list[int]:
        return [int(line) for line in self.note.read_text().split()]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_next_batch_is_made_while_nobody_has_asked_for_it(toy: Path, tmp_path: Path, workers: int) -> None:
    noted = object.__new__(Noted)
    noted.__dict__ |= build(toy)[1].__dict__ | {"note": tmp_path / "made"}
    batches = Batches(noted, 4, seed=0, workers=workers)
    batches(0)
    later = [int(i) for i in batches.indices(1)]
    until = time.monotonic() + (30 if workers else 0.3)
    while noted.made()[4:8] != later and time.monotonic() < until:
        time.sleep(0.01)
    assert (noted.made()[4:8] == later) == bool(workers)
    batches.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_pinned_batches_are_the_same(toy: Path) -> None:
    _, steps = build(toy, augment=True)
    pinned = Batches(steps, 4, seed=0, pin=True)(3)
    assert pinned.images.pixels.is_pinned()
    assert equal(pinned, Batches(steps, 4, seed=0)(3))
