"""A few bytes may not buy gigabytes; what a camera and a person say is let through."""

from typing import Any

import numpy as np
import pytest

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.serve.limits import Limits, check_exposure, check_size


def frames(height: int, width: int, robots: int = 1) -> dict[str, Any]:
    return {"video": {"left": np.broadcast_to(np.uint8(0), (robots, 1, height, width, 3))}}


@pytest.mark.parametrize(
    ("observation", "says"),
    [
        ({"language": {"task": [["go"]] * 100_000}}, "100000 robots"),
        ({"task": ["go"] * 65}, "65 robots"),
        ({"state.joints": np.zeros((65, 1, 7), np.float32)}, "65 robots"),
        ({"language": {"task": [["x" * 5000]]}}, "5000 letters"),
        ({"task": "x" * 5000}, "5000 letters"),
        ({"language": {"task": np.array([["x" * 5000]])}}, "5000 letters"),
        (frames(1, 80_000_000), "1 x 80000000"),
        ({"video.left": np.broadcast_to(np.uint8(0), (1, 1, 3, 8192, 8192))}, "8192 x 8192"),
        (frames(3000, 300), "3000 x 300"),
        (frames(8192, 8192), "8192 x 8192"),
    ],
    ids=[
        "robots",
        "flat robots",
        "states",
        "long text",
        "long flat text",
        "array",
        "one row",
        "first",
        "narrow",
        "huge",
    ],
)
def test_what_asks_too_much_is_refused(observation: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        check_size(observation, Limits())


def test_what_robots_send_is_let_through(observation: dict[str, Any]) -> None:
    check_size(observation, Limits())
    check_size(frames(1080, 1920, robots=64) | {"task": ["open the left drawer"] * 64}, Limits())
    check_size({"video.left": np.zeros((1, 1, 3, 96, 128)), "task": np.array(["open the left drawer"])}, Limits())
    check_size({"odd": {"very": {"deep": [[[[["text"]]]]]}}}, Limits())


def test_limits_and_hosts_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_robots"):
        Limits(max_robots=0)
    for host in ("127.0.0.1", "localhost", "::1"):
        check_exposure(host, None)
    for host in ("0.0.0.0", "*", "192.168.0.7", ""):
        with pytest.raises(ConfigError, match="loopback interface, or a token"):
            check_exposure(host, None)
        check_exposure(host, "secret")
