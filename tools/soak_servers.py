"""Attack a server of both protocols for minutes, and watch what good clients notice.

    python tools/soak_servers.py [--minutes 10] [--connections 1000] [--descriptors 200] [--rate 50]

The server is `svms-gr00t serve` with the shipped tiny policy, in a process that may open so many descriptors. Attackers
hold so many connections in all, of every kind in `KINDS`, and open so many new ones a second in the place of others
(0: as many as they can, which fills the server's one interpreter). Beside them a client
of each protocol asks all the time over one connection, and another one opens a new connection for each request, and
comes again when it is turned away. At the end the server is stopped while good clients ask. Prints what a page of
`benchmarks/` wants; exits with 1 when a promise is not kept: an answer was lost or came later than two seconds, the
memory is not back to within a tenth, stopping took longer than two seconds. Attackers have low priority (nice 10).

How late this program itself wakes up is printed too: where a machine is busy with other things, answers come no sooner.
"""

import argparse
import os
import random
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing import Process, Queue
from typing import Any

import msgpack
import numpy as np
import psutil
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from svms_gr00t.core.provenance import commit
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.serve.client import PolicyClient, ServerError
from svms_gr00t.serve.wire import pack
from svms_gr00t.serve.zmq_server import GREETING, READY, _frame

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HALF = 4 << 20
SOON = 2.0
WRONG = pack({"endpoint": "get_action", "data": {"observation": {"x" * 500: 1}}})
LISTS = msgpack.packb({"a": [[{1: 1}] * 9 for _ in range(5000)]})
"""As many as a message may hold: slow to read."""


def web_frame(flags: int, body: bytes) -> bytes:
    """A masked websocket frame; the mask is zero."""
    size = bytes([128 | len(body)]) if len(body) < 126 else b"\xff" + struct.pack(">Q", len(body))
    return bytes([flags]) + size + bytes(4) + body


KINDS: dict[str, Callable[[random.Random], tuple[bool, bytes]]] = {
    "silent": lambda r: (r.random() < 0.5, b""),
    "noise": lambda r: (r.random() < 0.5, r.randbytes(300)),
    "idle websocket": lambda r: (True, UPGRADE),
    "idle zmq": lambda r: (False, GREETING + _frame(4, READY)),
    "half websocket message": lambda r: (True, UPGRADE + web_frame(0x82, bytes(HALF))[: HALF - 9]),
    "half zmq message": lambda r: (False, GREETING + _frame(4, READY) + b"\1\0" + _frame(0, bytes(HALF))[: HALF - 9]),
    "wrong requests, never read": lambda r: (False, GREETING + _frame(4, READY) + (b"\1\0" + _frame(0, WRONG)) * 200),
    "wrong requests over websocket": lambda r: (True, UPGRADE + web_frame(0x82, WRONG) * 200),
    "pings, never read": lambda r: (True, UPGRADE + web_frame(0x89, bytes(125)) * 2000),
    "fragments": lambda r: (True, UPGRADE + web_frame(0x02, b"a") + web_frame(0x00, b"a") * 2000),
    "crumbs over websocket": lambda r: (True, UPGRADE + web_frame(0x82, b"\x80") * 20_000),
    "crumbs over zmq": lambda r: (False, GREETING + _frame(4, READY) + b"\1\0\0\1\xc0" * 20_000),
    "lists": lambda r: (False, GREETING + _frame(4, READY) + (b"\1\0" + _frame(0, LISTS)) * 20),
}
"""Name -> whether it is for the websocket's port, and the bytes."""


class Server:
    """The command, in a process with few descriptors."""

    def __init__(self, descriptors: int) -> None:
        command = [sys.executable, "-m", "svms_gr00t", "serve", "--model-path", str(shipped("tiny_base"))]
        command += ["--protocol", "both", "--port", "0", "--websocket-port", "0", "--max-mb", "16", "--device", "cpu"]

        def few() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=few)
        assert self.process.stdout is not None
        self.zmq, self.web = (int(self.process.stdout.readline().rpartition(":")[2]) for _ in range(2))
        self.seen = psutil.Process(self.process.pid)

    @property
    def mb(self) -> float:
        return self.seen.memory_info().rss / 2**20


def attack(ports: dict[bool, int], count: int, seconds: float, pause: float, seed: int, told: Any) -> None:
    """Hold `count` connections, and change one after the other, one in `pause` seconds."""
    os.nice(10)
    rng, held, made = random.Random(seed), list[socket.socket](), Counter[str]()
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        if len(held) >= count and (early := (made.total() - count) * pause - now) > 0:
            time.sleep(min(early, 0.1))
            continue
        if len(held) >= count:
            held.pop(rng.randrange(len(held))).close()
        name = rng.choice(list(KINDS))
        websocket, message = KINDS[name](rng)
        with suppress(OSError):
            one = socket.create_connection(("127.0.0.1", ports[websocket]), timeout=1)
            held.append(one)
            made[name] += 1
            one.settimeout(0.2)
            one.sendall(message)
        time.sleep(0.01)
    told.put(made)


class Good(threading.Thread):
    """Asks until the end, and keeps how long every answer took."""

    def __init__(self, name: str, ask: Callable[[], float | None], pause: float, ends: float) -> None:
        super().__init__(name=name)
        self.ask, self.pause, self.ends = ask, pause, ends
        self.took: list[float] = []
        self.lost: list[str] = []

    def run(self) -> None:
        while time.monotonic() < self.ends:
            began = time.monotonic()
            try:
                answered = self.ask()
                self.took.append((answered or time.monotonic()) - began)
            except (ServerError, OSError, WebSocketException, AssertionError) as error:
                self.lost.append(f"{type(error).__name__} {error}"[:120])
            time.sleep(self.pause)

    def row(self) -> str:
        times = np.array(self.took or [np.inf])
        p50, p99, worst = np.quantile(times, 0.5), np.quantile(times, 0.99), times.max()
        return f"| {self.name} | {len(self.took)} | {len(self.lost)} | {p50:.3f} | {p99:.3f} | {worst:.3f} |"


turned: Counter[str] = Counter()
"""Why new websockets were turned away before they were answered."""


def good_clients(server: Server, ends: float) -> list[Good]:
    """Steady and new ones of both protocols."""
    config = Policy.from_pretrained(shipped("tiny_base")).get_modality_config()
    widths = {"base_rotation": 4, "end_effector_rotation_relative": 4, "gripper_qpos": 2}
    video = {f"video.{key}": np.zeros((96, 96, 3), np.uint8) for key in config["video"].modality_keys}
    state = {f"state.{key}": np.zeros(widths.get(key, 3), np.float32) for key in config["state"].modality_keys}
    one = pack(video | state | {"prompt": "open the drawer"}, "openpi")
    batch: dict[str, Any] = {key: value[None, None] for key, value in (video | state).items()}
    batch[config["language"].modality_keys[0]] = ["open the drawer"]
    steady = PolicyClient(port=server.zmq, timeout_ms=10_000)
    web = ExitStack().enter_context(connect(f"ws://127.0.0.1:{server.web}", ping_interval=None))
    web.recv()

    def over_zmq() -> None:
        steady.get_action(batch)

    def over_web() -> None:
        web.send(one)
        assert isinstance(web.recv(timeout=10), bytes)

    def new_zmq() -> float:
        """When it was answered; the goodbye takes its own time."""
        with PolicyClient(port=server.zmq, timeout_ms=10_000) as robot:
            robot.get_action(batch)
            return time.monotonic()

    def new_web() -> float:
        gives_up = time.monotonic() + 10
        while True:
            try:
                with connect(f"ws://127.0.0.1:{server.web}", ping_interval=None) as robot:
                    robot.recv(timeout=5)
                    robot.send(one)
                    assert isinstance(robot.recv(timeout=5), bytes)
                    return time.monotonic()
            except (OSError, WebSocketException, AssertionError) as error:
                turned[str(error)[:60] or type(error).__name__] += 1
                if time.monotonic() > gives_up:
                    raise
                time.sleep(0.05)

    asked: dict[str, Callable[[], float | None]]
    asked = {"zmq, one connection": over_zmq, "websocket, one connection": over_web}
    asked |= {"zmq, a new connection each": new_zmq, "websocket, a new connection each": new_web}
    return [Good(name, ask, 0.5 if "new" in name else 0.1, ends) for name, ask in asked.items()]


def main() -> int:
    """Attack, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--descriptors", type=int, default=200)
    parser.add_argument("--rate", type=float, default=50.0, help="new hostile connections a second, of all attackers")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (given.connections + 512,) * 2)
    server = Server(given.descriptors)
    for good in (calm := good_clients(server, time.monotonic() + 5)):
        good.start()
    for good in calm:
        good.join()
    before, most, descriptors = server.mb, 0.0, 0
    began = time.monotonic()
    ends, seconds, told = began + 60 * given.minutes, 60 * given.minutes, Queue()
    goods = good_clients(server, ends)
    share, ports = given.connections // 4, {True: server.web, False: server.zmq}
    attackers = [
        Process(target=attack, args=(ports, share, seconds, 4 / given.rate if given.rate else 0.0, seed, told))
        for seed in range(4)
    ]
    for thread in [*attackers, *goods]:
        thread.start()
    used, late = server.seen.cpu_times(), [0.0]
    while time.monotonic() < ends and server.process.poll() is None:
        most, descriptors = max(most, server.mb), max(descriptors, server.seen.num_fds())
        slept = time.monotonic()
        time.sleep(0.05)
        late.append(time.monotonic() - slept - 0.05)
    alive = server.process.poll() is None
    share = sum(now - then for now, then in zip(server.seen.cpu_times()[:2], used[:2], strict=True)) / seconds
    made = sum((told.get(timeout=60) for _ in attackers), Counter[str]())
    for thread in [*goods, *attackers]:
        thread.join()
    time.sleep(5)
    after = server.mb if alive else float("nan")
    code, stopping = stop(server)
    command = f"python tools/soak_servers.py --minutes {given.minutes:g} --rate {given.rate:g}"
    print(f"Command: `{command}`, commit {commit()}. Hostile connections:")
    print(f"{given.connections} at a time, {sum(made.values())} in all, of {len(KINDS)} kinds. The server had", end=" ")
    print(f"{100 * share:.0f} % of a processor; load {os.getloadavg()[0]:.0f} on {os.cpu_count()} processors.", end=" ")
    print(
        f"This program woke up to {np.quantile(late, 0.99):.3f} s late in 99 of 100 cases, {max(late):.3f} s at most."
    )
    lost, slow = sum(len(good.lost) for good in goods), sum(took > SOON for good in goods for took in good.took)
    memory = f"{before:.0f} MB before, {most:.0f} at most, {after:.0f} after ({100 * (after / before - 1):+.1f} %)"
    promises = [
        ("the process lives", "yes" if alive else "no", alive),
        ("nothing lost", f"{lost} lost", not lost),
        (f"answered within {SOON:g} s throughout", f"{slow} later", not slow),
        ("memory back to within 10 %", memory, after <= 1.1 * before),
        ("descriptors", f"at most {descriptors} of {given.descriptors}", descriptors < given.descriptors),
        (f"stops within {SOON:g} s while clients ask", f"exit {code}, {stopping:.1f} s", not code and stopping <= SOON),
    ]
    return report(goods, promises, made)


def report(goods: list[Good], promises: list[tuple[str, str, bool]], made: Counter[str]) -> int:
    """Print the tables; 1 when a promise is not kept."""
    print("\n| good client | answers | lost | p50 s | p99 s | longest s |\n|---|---:|---:|---:|---:|---:|")
    print("\n".join(good.row() for good in goods))
    print("\n| promise | measured | |\n|---|---|---|")
    print("\n".join(f"| {what} | {found} | {'**met**' if met else '**not met**'} |" for what, found, met in promises))
    print("\nConnections:", ", ".join(f"{name} {number}" for name, number in made.most_common()) + ".")
    print("New websockets were turned away:", ", ".join(f"{why} {n}" for why, n in turned.items()) or "never")
    for why in sorted({why for good in goods for why in good.lost}):
        print("lost:", why)
    return int(not all(met for *_, met in promises))


def stop(server: Server) -> tuple[int, float]:
    """Exit code, and seconds from the signal to the process's end while good clients ask without a pause."""
    asking = good_clients(server, time.monotonic() + 3600)[:2]
    for good in asking:
        good.daemon, good.pause = True, 0.0
        good.start()
    time.sleep(1.0)
    began = time.monotonic()
    server.process.terminate()
    code = server.process.wait(30)
    took = time.monotonic() - began
    for good in asking:
        good.ends = 0.0
    return code, took


if __name__ == "__main__":
    sys.exit(main())
