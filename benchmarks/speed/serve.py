"""What the server adds to the policy: latency of the same observation, asked directly and through a socket.

    python benchmarks/speed/serve.py --out benchmarks        writes serve_<date>.md

Direct and served calls alternate in rounds, so that a slow moment of the machine hits both. The policy runs in the
server's process, which is another one than the client's, as in use. "Over the bare policy" is the client's time minus
the policy's own time for the very same request, which the server's process takes; its quantiles are the cost of the
socket, the bytes, the checks and the threads.
"""

import argparse
import datetime
import multiprocessing
import platform
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from svms_gr00t.core.provenance import commit
from svms_gr00t.monitor import Judge
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.serve.client import PolicyClient
from svms_gr00t.serve.service import Service
from svms_gr00t.serve.zmq_server import ZmqServer

TARGET_MS = 3.0


class Timed:
    """The policy, and how long each call of it took."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.times = policy, []
        self.reset, self.get_modality_config = policy.reset, policy.get_modality_config

    def get_action(self, observation: Any, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        began = time.perf_counter()
        found = self.policy.get_action(observation, options)
        self.times.append(1e3 * (time.perf_counter() - began))
        return found


def serve(pipe: Connection, threads: int) -> None:
    """The server's process: says its port, and its own times at the end."""
    torch.set_num_threads(threads)
    policy = Timed(Policy.from_pretrained(shipped("tiny_base"), dtype="float32"))
    service = Service(policy=policy, token="benchmark", judge=Judge())
    server = ZmqServer(service, port=0)
    pipe.send(server.port)
    server.run()
    pipe.send(policy.times)


def observation(policy: Any, side: int) -> dict[str, Any]:
    """One robot, three cameras of noise."""
    config, rng = policy.get_modality_config(), np.random.default_rng(0)
    sizes = {"base_rotation": 4, "end_effector_rotation_relative": 4, "gripper_qpos": 2}
    pictures = {k: rng.integers(0, 255, (1, 1, side, side, 3), dtype=np.uint8) for k in config["video"].modality_keys}
    states = {k: np.zeros((1, 1, sizes.get(k, 3)), np.float32) for k in config["state"].modality_keys}
    return {
        "video": pictures,
        "state": states,
        "language": {config["language"].modality_keys[0]: [["open the left drawer"]]},
    }


def measure(requests: int, side: int, threads: int) -> dict[str, np.ndarray]:
    """Milliseconds by request: direct calls in this process, the client's view, and the policy inside the server."""
    torch.set_num_threads(threads)
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, threads))
    process.start()
    port, policy = ours.recv(), Policy.from_pretrained(shipped("tiny_base"), dtype="float32")
    seen = observation(policy, side)
    direct, served = [], []
    with PolicyClient(port=port, api_token="benchmark") as client:
        for one in range(requests + 20):
            began = time.perf_counter()
            policy.get_action(seen, {"seed": one})
            middle = time.perf_counter()
            client.get_action(seen, {"seed": one})
            direct.append(1e3 * (middle - began))
            served.append(1e3 * (time.perf_counter() - middle))
        client.kill_server()
    inside = ours.recv()
    process.join(timeout=20)
    columns = {"direct": direct, "served": served, "inside": inside}
    return {name: np.array(values[20:]) for name, values in columns.items()}  # the first ones warm up


def report(found: dict[str, np.ndarray], args: argparse.Namespace) -> str:
    """Markdown."""
    added = found["served"] - found["inside"]
    rows = (
        ("the policy called directly, in the client's process", found["direct"]),
        ("the client's call, through the server", found["served"]),
        ("the policy inside the server", found["inside"]),
        ("**over the bare policy**, by request", added),
    )
    cells = [
        f"| {name} | {np.quantile(ms, 0.5):.2f} | {np.quantile(ms, 0.95):.2f} | {ms.max():.2f} |" for name, ms in rows
    ]
    p50, p95 = np.quantile(added, [0.5, 0.95])
    across = [np.quantile(found["served"], q) - np.quantile(found["direct"], q) for q in (0.5, 0.95)]
    verdict = "met" if max(p50, p95) <= TARGET_MS else "missed"
    size = 3 * args.side**2 * 3 / 1024
    return "\n".join(
        [
            "# What the server adds",
            "",
            f"torch {torch.__version__}, {platform.machine()}, {args.threads} thread(s), {args.date}. "
            f"Command: `python benchmarks/speed/serve.py --requests {args.requests} --side {args.side}`, "
            f"commit {commit() or 'unknown'}.",
            "",
            f"The shipped tiny policy, one robot, three {args.side}-pixel cameras ({size:.0f} KiB a request), ZMQ on "
            f"the loopback, {len(added)} requests after 20 to warm up. Milliseconds:",
            "",
            "| | p50 | p95 | longest |",
            "|---|---:|---:|---:|",
            *cells,
            "",
            f"Target: at most {TARGET_MS:g} ms at p50 and p95 over the bare policy: **{verdict}**. "
            f"The difference of the quantiles of the client's and the direct call, which are two processes on the same "
            f"cores, is {across[0]:+.2f} and {across[1]:+.2f} ms.",
            "",
        ]
    )


def main() -> None:
    """Measure, print, and write when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--side", type=int, default=96, help="pixels of a camera's side")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.date = datetime.date.today().isoformat()
    text = report(measure(args.requests, args.side, args.threads), args)
    print(text)
    if args.out is not None:
        (args.out / f"serve_{args.date}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
