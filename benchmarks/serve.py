"""What the server adds to a policy's own time: the tiny policy called directly and through a loopback socket, in turn.

python benchmarks/serve.py --rounds 300 --out benchmarks        writes serve_<date>.md
"""

import argparse
import datetime
import os
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from svms_gr00t.core.provenance import commit, versions
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.serve.client import PolicyClient
from svms_gr00t.serve.service import Service
from svms_gr00t.serve.zmq_server import ZmqServer

WIDTHS = {"base_rotation": 4, "end_effector_rotation_relative": 4, "gripper_qpos": 2}


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    args = parser.parse_args()
    policy = Policy.from_pretrained(shipped("tiny_base"))
    given = observation(policy, args.pixels)
    server = ZmqServer(Service(policy=policy), port=0)
    threading.Thread(target=server.run, daemon=True).start()
    bare, served = [], []
    with PolicyClient(port=server.port) as client:
        for round_ in range(args.rounds + 10):
            times = [
                timed(lambda: policy.get_action(given, {"seed": 0})),
                timed(lambda: client.get_action(given, {"seed": 0})),
            ]
            if round_ >= 10:  # the first rounds warm caches up
                bare.append(times[0])
                served.append(times[1])
    server.service.stopping.set()
    page = args.out / f"serve_{datetime.date.today().isoformat()}.md"
    page.write_text(report(np.array(bare), np.array(served), args), encoding="utf-8")


def observation(policy: Policy, pixels: int) -> dict:
    """One robot with three views."""
    config, rng = policy.get_modality_config(), np.random.default_rng(0)
    frames = {k: rng.integers(0, 255, (1, 1, pixels, pixels, 3), dtype=np.uint8) for k in config["video"].modality_keys}
    state = {k: np.zeros((1, 1, WIDTHS.get(k, 3)), np.float32) for k in config["state"].modality_keys}
    return {
        "video": frames,
        "state": state,
        "language": {config["language"].modality_keys[0]: [["open the left drawer"]]},
    }


def timed(call: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - began)


def report(bare: np.ndarray, served: np.ndarray, args: argparse.Namespace) -> str:
    """The page."""
    rows = [
        f"| {q:.0%} | {np.quantile(bare, q):.2f} | {np.quantile(served, q):.2f} | {gap(bare, served, q):+.2f} |"
        for q in (0.5, 0.95)
    ]
    ran = ", ".join(f"{name} {number}" for name, number in versions().items())
    return "\n".join(
        [
            "# What serving adds",
            "",
            f"`python benchmarks/serve.py --rounds {args.rounds} --pixels {args.pixels}`, commit {commit()}.",
            f"{ran}; {platform.machine()}, {os.cpu_count()} cores. Client and server share the machine.",
            f"Tiny policy, three views of {args.pixels} pixels; direct and served calls in turn.",
            "",
            "| quantile | direct, ms | served, ms | difference of quantiles, ms |",
            "|---|---:|---:|---:|",
            *rows,
            "",
            f"Median of the paired differences: {np.median(served - bare):+.2f} ms. Target: at most 3 ms.",
            "",
        ]
    )


def gap(bare: np.ndarray, served: np.ndarray, share: float) -> float:
    """Served minus direct at a quantile."""
    return float(np.quantile(served, share) - np.quantile(bare, share))


if __name__ == "__main__":
    main()
