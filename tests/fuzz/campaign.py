"""Many damaged copies of a file, each read in the same process: what comes back is the value or one of our sentences.

    pytest tests/fuzz                                          seconds, the same cases every time
    SVMS_FUZZ=50 SVMS_FUZZ_REPORT=out.md pytest tests/fuzz     50 times as many, and a row of a table for each file

Time is of the processor, so a busy machine fails nothing; memory is the kernel's high-water mark of each single trial.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from peak import peak_of

from svms_gr00t.core.errors import SvmsError

TIMES = int(os.environ.get("SVMS_FUZZ", "1"))
REPORT = os.environ.get("SVMS_FUZZ_REPORT")
MOST_BYTES, MOST_SECONDS, MOST_LETTERS = 300 << 20, 10.0, 4_000
_EDGES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**62, 2**64 - 1]


@dataclass
class Tally:
    """What became of the trials of one file."""

    trials: int = 0
    refused: int = 0
    slowest: float = 0.0
    peak: int = 0

    def __str__(self) -> str:
        read = self.trials - self.refused
        return f"{self.trials:,} | {self.refused:,} | {read:,} | {self.slowest:.2f} s | {self.peak / 2**20:.0f} MB"


def survives(read: Callable[[], Any], tally: Tally) -> None:
    """Run `read` once. Anything but a value or our own error fails, and so do a long time and much memory."""
    began = time.process_time()
    said: list[str] = []

    def tried() -> None:
        try:
            read()
        except SvmsError as error:
            said.append(str(error))

    peak = peak_of(tried, collect=False)
    seconds = time.process_time() - began
    tally.trials += 1
    tally.refused += len(said)
    tally.peak, tally.slowest = max(tally.peak, peak), max(tally.slowest, seconds)
    assert peak < MOST_BYTES, f"took {peak >> 20} MB"
    assert not any("\n" in text or len(text) > MOST_LETTERS for text in said), (
        f"more than a sentence: {said[0][:500]!r}"
    )
    assert seconds < MOST_SECONDS, f"took {seconds:.1f} s"


def campaign(
    name: str,
    case: Callable[[Random], Any],
    write: Callable[[Any], Any],
    read: Callable[[], Any],
    *,
    trials: int = 40,
) -> Tally:
    """Write the case of each seed where the file was, and read it. Fails with the first seed that does harm.

    A tally says how many were refused and how many read: damage that is always refused tests one line.
    """
    tally = Tally()

    @settings(
        max_examples=trials * TIMES,
        phases=[Phase.generate],  # a smaller seed is no smaller damage
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**48))
    def attack(seed: int) -> None:
        write(case(Random(seed)))
        survives(read, tally)

    attack()
    if REPORT:
        with Path(REPORT).open("a", encoding="utf-8") as file:
            file.write(f"| {name} | {tally} |\n")
    return tally


def damaged(data: bytes, rng: Random) -> bytes:
    """A few edits: bytes changed, numbers at their edges, ends and middles cut out, parts twice."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out)) if out else 0
        match rng.choice(("byte", "byte", "number", "number", "cut", "drop", "twice", "noise")):
            case "byte":
                out[at : at + 1] = rng.randbytes(1)
            case "number":
                size, order = rng.choice((1, 2, 4, 8)), rng.choice(("big", "little"))
                out[at : at + size] = (rng.choice(_EDGES) % 256**size).to_bytes(size, order)
            case "cut":
                del out[at:]
            case "drop":
                del out[at : at + rng.randint(1, 64)]
            case "twice":
                out[at:at] = out[at : at + rng.randint(1, 64)]
            case _:
                out[at : at + 8] = rng.randbytes(8)
    return bytes(out)
