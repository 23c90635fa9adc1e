"""A message becomes little more than it is: no list, recording or picture buys gigabytes with a megabyte."""

from pathlib import Path

import msgpack
import numpy as np
import pytest
from peak import peak_of

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.sizes import RAISED
from svms_gr00t.data.pictures import as_plain_array, as_uint8_rgb
from svms_gr00t.serve.limits import Limits, check_size
from svms_gr00t.serve.service import Service
from svms_gr00t.serve.traffic import replay
from svms_gr00t.serve.wire import pack, unpack

MB = 1 << 20
WORDS = ["x" * 1_000_000, *["y"] * 450]
"""A megabyte. As one array of texts, all as wide as the widest, it is 1.8 GB."""


def test_words_of_unequal_length_are_not_made_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    message = pack({"video.front": WORDS})
    assert len(message) < 1_100_000

    def refused() -> None:
        request = unpack(message)
        with pytest.raises(DataError, match=r"a text of 1000000 letters|451 robots"):
            check_size(request, Limits())
        with pytest.raises(DataError, match=r"a list that would become an array of 1,804,000,000 bytes.*list_bytes"):
            as_plain_array("observation video.front", request["video.front"])

    assert peak_of(refused) < 20 * MB
    monkeypatch.setenv(RAISED, "list_bytes=2e9")
    short = ["x" * 100_000, *["y"] * 450]
    assert peak_of(lambda: as_plain_array("here", short)) > 100 * MB, "mutant: numpy alone"


def test_a_list_of_arrays_is_measured_at_the_widest_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RAISED, "list_bytes=1e6")
    parts = [np.zeros(30_000, np.uint8)] * 10
    assert as_plain_array("here", parts).nbytes == 300_000
    with pytest.raises(DataError, match="2,640,000 bytes"):
        as_plain_array("here", [*parts, np.zeros(30_000)])
    with pytest.raises(DataError, match="--limit list_bytes"):
        as_plain_array("here", [np.zeros(30_000), np.full(30_000, "x")])
    np.testing.assert_array_equal(as_plain_array("here", [[1, 2], [3, 4]]), [[1, 2], [3, 4]])


def test_pictures_in_fractions_are_turned_one_by_one() -> None:
    film = np.linspace(0, 1, 24 * 256 * 256 * 3).reshape(24, 1, 256, 256, 3).astype(np.float16)
    kept: list[np.ndarray] = []
    assert peak_of(lambda: kept.append(as_uint8_rgb("here", film))) < 2 * film.nbytes, "mutant: three times float32"
    np.testing.assert_array_equal(kept[0], np.rint(film.astype(np.float32) * np.float32(255)).astype(np.uint8))


class Nothing:
    """A policy that is never asked."""

    def get_action(self, _observation: object, _options: object = None) -> tuple[dict, dict]:
        raise AssertionError("asked")

    reset = get_modality_config = get_action


@pytest.mark.parametrize(
    "exchange",
    [
        {"request": 10**10, "reply": b""},
        {"request": b"", "reply": 2**40},
        {"request": [], "reply": b""},
        {"request": "text", "reply": b""},
        [b"", b""],
        7,
        b"\xdd\x7f\xff\xff\xff",
        b"\xdf\x7f\xff\xff\xff",
    ],
)
def test_a_number_in_a_recording_is_no_number_of_bytes(tmp_path: Path, exchange: object) -> None:
    path = tmp_path / "traffic"
    path.write_bytes(exchange if isinstance(exchange, bytes) else msgpack.packb(exchange))

    def refused() -> None:
        with pytest.raises(DataError, match="traffic: found broken bytes"):
            list(replay(path, Service(policy=Nothing())))

    assert peak_of(refused) < 20 * MB
