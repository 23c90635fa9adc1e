"""What is written tensor by tensor is the library's own file, and holds no second copy of anything."""

import hashlib
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from svms_gr00t.groot.checkpoint.streaming import write_tensors
from svms_gr00t.groot.checkpoint.tensors import DTYPES, Lazy, header


def every_type() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    values = {f"z.{name}": torch.randn(3, 5).mul(9).to(dtype) for name, dtype in DTYPES.items()}
    values |= {f"a.{name}": torch.ones(7, dtype=dtype) for name, dtype in DTYPES.items()}
    return values | {"number": torch.tensor(2.5), "empty": torch.zeros(0, 4), 'ρ "quoted"': torch.ones(2)}


def test_the_file_is_the_librarys_to_the_byte_and_so_is_its_digest(tmp_path: Path) -> None:
    save_file(every_type(), tmp_path / "theirs")
    said = write_tensors(tmp_path / "ours", every_type())
    content = (tmp_path / "ours").read_bytes()
    assert content == (tmp_path / "theirs").read_bytes()
    assert said == hashlib.sha256(content).hexdigest()
    read = load_file(tmp_path / "ours")
    assert all(torch.equal(value, read[name]) for name, value in every_type().items())


def test_what_does_not_lie_in_order_is_written_as_it_reads(tmp_path: Path) -> None:
    across = torch.arange(12.0).view(3, 4).T
    write_tensors(tmp_path / "file", {"w": across})
    lazy = Lazy(header(tmp_path / "file"))
    assert torch.equal(lazy["w"], across)
    assert lazy.shapes() == {"w": (4, 3)}


def test_a_type_without_a_name_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="complex64"):
        write_tensors(tmp_path / "file", {"w": torch.zeros(2, dtype=torch.complex64)})
    assert not (tmp_path / "file").exists()


def test_tensors_of_another_device_reach_the_host_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many copies are alive at once as there are tensors, unless each goes before the next comes."""
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0
    to = torch.Tensor.to

    def moved(value: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        nonlocal most
        found = to(value, *args, **kwargs).clone()  # as a copy from a card is a tensor of its own
        alive.add(found)
        most = max(most, len(alive))
        return found

    monkeypatch.setattr(torch.Tensor, "to", moved)
    write_tensors(tmp_path / "file", {f"w{i}": torch.ones(64, 64) for i in range(8)})
    assert most <= 2, "the one being written, and the one that takes its place"
    kept = [value.to("cpu") for value in (torch.ones(2), torch.ones(2), torch.ones(2))]
    assert most == len(kept) == 3, "the count sees copies that stay"
