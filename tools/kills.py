"""Kill a job at random moments, start it again until it is done, and compare what it made with an uninterrupted one.

    python tools/kills.py [--kills 50] [--jobs train convert record cache] [--seed 0]

A job runs once alone, which gives its duration and its result. Then it is started in a fresh folder, killed (SIGKILL)
after a random share of that duration, started again, up to four times, and at last left to finish; rounds go on until
there were enough kills. What was made must be equal to the byte, but for the numbers that tell the time. Jobs are forks
of this process, which has imported everything, so that no kill is spent on an import. Takes minutes.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of torch do not survive a fork

from svms_gr00t.cli.main import main as command_line
from svms_gr00t.data.convert import to_v3

ASSETS = Path(to_v3.__file__).parents[2] / "assets"
KITCHEN, BASE = ASSETS / "kitchen", ASSETS / "tiny_base"
ENDED = ("convert", "record")
"""Jobs whose folder appears when it is complete; the others look again at what is there."""
TIMES = ("seconds", "data_wait", "samples_per_second", "memory_gib")
"""Fields of a row of metrics that say how long it took."""


def train(made: Path, data: Path) -> list[str]:
    """Two short phases with a checkpoint after every step."""
    flags = ["--max-steps", "2", "--global-batch-size", "4", "--save-steps", "1", "--base-model-path", str(BASE)]
    flags += ["--phase", "1", "2"]
    return ["train", "--dataset-path", str(data), "--output-dir", str(made), *flags]


def convert(made: Path, data: Path) -> list[str]:
    """To v3.0, a file for each episode."""
    return ["data", "convert", "v3", str(data), str(made), "--data-mb", "0", "--video-mb", "0"]


def record(made: Path, _data: Path) -> list[str]:
    """Demonstrations in the embedded kitchen."""
    flags = ["--episodes", "4", "--image-size", "32", "--tasks", "CloseDrawer", "StartCoffeeMachine"]
    return ["sim", "record", "--output-dir", str(made), *flags]


def cache(made: Path, data: Path) -> list[str]:
    """Hidden states of every demonstration."""
    return [
        "data",
        "cache",
        "build",
        "--dataset-path",
        str(data),
        "--base-model-path",
        str(BASE),
        "--output",
        str(made),
    ]


JOBS: dict[str, Callable[[Path, Path], list[str]]] = {
    "train": train,
    "convert": convert,
    "record": record,
    "cache": cache,
}


def nine(target: Path) -> Path:
    """The first nine of the shipped demonstrations, one of each task."""

    def later(_folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name.startswith("episode_") and int(name[8:14]) >= 9]

    shutil.copytree(KITCHEN, target, ignore=later)
    meta = target / "meta"
    for name in ("episodes.jsonl", "episodes_stats.jsonl"):
        lines = (meta / name).read_text(encoding="utf-8").split("\n")[:9]
        (meta / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = [json.loads(line) for line in (meta / "episodes.jsonl").read_text(encoding="utf-8").split("\n") if line]
    info = json.loads((meta / "info.json").read_text(encoding="utf-8"))
    info |= {"total_episodes": 9, "total_frames": sum(row["length"] for row in rows), "splits": {"train": "0:9"}}
    (meta / "info.json").write_text(json.dumps(info), encoding="utf-8")
    return target


def result(made: Path) -> dict[str, str]:
    """Digest of every file, without what tells the time or the process."""
    found = {}
    for path in sorted(made.rglob("*")):
        if not path.is_file() or path.name == ".lock":
            continue
        raw = path.read_bytes()
        if path.name == "metrics.jsonl":
            rows = [json.loads(line) for line in raw.split(b"\n") if line]
            raw = json.dumps([{k: v for k, v in row.items() if k not in TIMES} for row in rows]).encode()
        if path.name == "passport.json":  # written at every start: "accepted" is there from the second on
            raw = json.dumps({k: v for k, v in json.loads(raw).items() if k != "accepted"}).encode()
        found[path.relative_to(made).as_posix()] = hashlib.sha256(raw).hexdigest()
    return found


def start(command: Sequence[str], log: Path) -> int:
    """The job as a process of its own; returns its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with log.open("a", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            command_line(list(command))
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


def wait(child: int, seconds: float = float("inf")) -> int | None:
    """Exit status of the job; None when it was killed because it was not done after so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def finish(command: Sequence[str], log: Path) -> None:
    """Run the job to its end. SystemExit when it fails."""
    if code := wait(start(command, log)):
        raise SystemExit(f"exit status {code}:\n{log.read_text(encoding='utf-8')[-2000:]}")


def rounds(name: str, kills: int, scratch: Path, rng: random.Random) -> int:
    """Kill job `name` so many times; the number of rounds whose result differs."""
    log, data, done, differ = scratch / f"{name}.log", scratch / "nine", 0, 0
    began = time.monotonic()
    finish(JOBS[name](scratch / "whole", data), log)
    duration, expected, count = time.monotonic() - began, result(scratch / "whole"), 0
    print(f"{name}: uninterrupted {duration:.1f} s", flush=True)
    while done < kills:
        made, count = scratch / "made", count + 1
        command = JOBS[name](made, data)
        for _ in range(min(4, kills - done)):
            if name in ENDED and made.exists():
                break
            done += wait(start(command, log), rng.uniform(0, duration)) is None
        if name not in ENDED or not made.exists():
            finish(command, log)
        odd = sorted(dict(expected.items() ^ result(made).items()))
        differ += bool(odd)
        for left in (made, scratch / ".made.partial"):
            shutil.rmtree(left, ignore_errors=True)
        print(f"{name}, round {count}, {done} kills: {'equal' if not odd else f'differ: {odd[:4]}'}", flush=True)
    shutil.rmtree(scratch / "whole")
    print(f"{name}: {done} kills, {differ} of {count} results differ", flush=True)
    return differ


def main() -> int:
    """0 when every result is equal to the uninterrupted one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, differ, jobs = random.Random(given.seed), 0, given.jobs
    with tempfile.TemporaryDirectory() as folder:
        nine(Path(folder) / "nine")
        for at, name in enumerate(jobs):
            share = given.kills // len(jobs) + (at < given.kills % len(jobs))
            differ += rounds(name, share, Path(folder), rng)
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main())
