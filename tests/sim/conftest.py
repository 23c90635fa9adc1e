"""One kitchen for all tests of this folder, because building it takes seconds."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

if find_spec("robosuite") is None:
    pytest.skip("needs the sim extra", allow_module_level=True)

from svms_gr00t.sim.env import KitchenEnv


@pytest.fixture(scope="session")
def one_kitchen() -> Iterator[KitchenEnv]:
    env = KitchenEnv(image_size=96)
    yield env
    env.close()


@pytest.fixture
def kitchen(one_kitchen: KitchenEnv) -> KitchenEnv:
    one_kitchen.drawing = True
    return one_kitchen
