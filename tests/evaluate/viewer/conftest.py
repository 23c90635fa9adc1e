"""Two watched episodes."""

import pytest

from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.evaluate.viewer.record import Recording
from svms_gr00t.evaluate.viewer.watch import watch
from svms_gr00t.policy import Policy


@pytest.fixture(scope="session")
def watched(dataset: LeRobotDataset, policy: Policy) -> Recording:
    return watch(dataset, [3, 1], title="kitchen", policy=policy, name="svms", split={3: "held out"})
