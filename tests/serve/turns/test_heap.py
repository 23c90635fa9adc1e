"""A process that serves gives back what clients left behind, and leaves alone what was loaded before them."""

import json
import subprocess
import sys

import pytest

PROBE = """
import gc, json, sys, weakref
import psutil
from svms_gr00t.serve.loop import _give_back, few_heaps, settle

class Connection:
    def __init__(self):
        self.itself, self.message = self, bytearray(4 << 20)

def mb():
    return psutil.Process().memory_info().rss / 2**20

gc.disable()  # what Python does by itself, and when, is no promise
few_heaps()
loaded = [[number] for number in range(200_000)]
if sys.argv[1] == "settled":
    settle()
before, seen = mb(), gc.get_objects()
connections = [Connection() for _ in range(50)]
watched = [weakref.ref(one) for one in connections]
del connections
_give_back()
print(json.dumps({"alive": sum(one() is not None for one in watched), "grown": mb() - before,
    "looked at": any(one is loaded for one in seen)}))
"""


@pytest.mark.parametrize("settled", [True, False], ids=["settled", "not settled"])
def test_what_closed_connections_left_in_cycles_goes_back_to_the_system(settled: bool) -> None:
    command = [sys.executable, "-c", PROBE, "settled" if settled else "as it was"]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert said["looked at"] is not settled, "a collection passes over what was loaded"
    assert said["alive"] == (0 if settled else 50), "elsewhere it waits for Python's own collection"
    assert (said["grown"] < 20) is settled, "MB, of 200 that were taken"
