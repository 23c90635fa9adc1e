"""The real tiny model behind evaluation: open loop, streams, and where words and patches go."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.protocols import ActionPolicy, Factory, FlowScorer
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.lerobot.writer import LeRobotWriter
from svms_gr00t.data.loading.samples import SampleDataset
from svms_gr00t.data.processor.embodiment import from_modality
from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.data.processor.statistics import compute_statistics
from svms_gr00t.data.processor.tokenizer import load_tokenizer
from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig, evaluate_open_loop
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.training.evidence import read_routes, read_streams
from svms_gr00t.recipes.training.presets import PRESETS

MODALITY = {
    "state": {"arm": {"start": 0, "end": 3}, "gripper": {"start": 3, "end": 4}},
    "action": {"arm": {"start": 0, "end": 3}, "gripper_close": {"start": 3, "end": 4}},
    "video": {"front": {}},
    "annotation": {"human.action.task_description": {}},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> LeRobotDataset:
    root = tmp_path_factory.mktemp("evaluate") / "toy"
    rng = np.random.default_rng(0)
    names = {"observation.state": list("xyzg"), "action": list("xyzg")}
    with LeRobotWriter(
        root,
        fps=20.0,
        robot_type="toy",
        modality=Modality.from_dict(MODALITY),
        lowdim=names,
        videos={"observation.images.front": (48, 48)},
        provenance={"made_by": "the tests"},
    ) as writer:
        for index, length in enumerate((20, 24, 18, 22)):
            columns = {name: rng.uniform(-1, 1, (length, 4)).astype(np.float32) for name in names}
            columns["action"][:, 3] = np.sign(columns["action"][:, 3])
            film = rng.integers(0, 255, (1, 48, 48, 3)).repeat(length, 0).astype(np.uint8)
            text = f"open the {('red drawer', 'left door')[index % 2]} then wait"
            writer.add_episode(columns, {"observation.images.front": film}, text)
    return LeRobotDataset.open(root)


def build(dataset: LeRobotDataset, *, svms: bool) -> Policy:
    preset = PRESETS["tiny"]
    tokenizer = load_tokenizer(preset.tokenizer)
    config = preset.config(tokenizer, use_sheaf_streams=svms)
    torch.manual_seed(0)
    model = Gr00tN1d6(config)
    embodiment = from_modality(dataset.modality, horizon=16)
    statistics = compute_statistics(dataset, [0, 1])
    return Policy(
        model, Processor(preset.processor_config("new_embodiment", embodiment, config), tokenizer, statistics)
    )


@pytest.fixture(scope="module")
def policy(dataset) -> Policy:
    return build(dataset, svms=True)


def score(policy: Policy, dataset: LeRobotDataset, **config):
    statistics = compute_statistics(dataset, [0, 1])
    settings = OpenLoopConfig(stride=10, **config)
    return evaluate_open_loop(policy, dataset, [2, 3], statistics=statistics, train_episodes=[0, 1], config=settings)


def test_a_saved_policy_is_built_by_path_and_acts_alike(policy, dataset, tmp_path):
    policy.save_pretrained(tmp_path / "policy")
    path = "svms_gr00t.policy:Policy.from_pretrained"
    loaded = Factory(path=path, kwargs={"folder": str(tmp_path / "policy")}).build()
    assert score(loaded, dataset) == score(policy, dataset)


def test_the_policy_fits_the_protocols(policy):
    assert isinstance(policy, ActionPolicy)
    assert isinstance(policy, FlowScorer)


def test_open_loop_is_reproducible_whatever_the_batch(policy, dataset):
    """Only the order of floating point sums may differ between batch sizes."""
    one, three = (score(policy, dataset, batch_size=size) for size in (1, 3))
    assert score(policy, dataset, batch_size=3) == three
    assert one.scores.mse == pytest.approx(three.scores.mse, rel=1e-4)
    assert one.scores.flow_loss == pytest.approx(three.scores.flow_loss, rel=1e-4)
    assert one.scores.keys["gripper_close"].accuracy is not None
    assert set(one.methods) == {"policy", "mean", "hold", "nearest"}


def test_fresh_svms_scores_exactly_as_the_plain_model(policy, dataset):
    """The merge starts at zero, so the two see no difference; after a push on the merge they do."""
    plain = build(dataset, svms=False)
    plain.model.load_state_dict({k: v for k, v in policy.model.state_dict().items() if not k.startswith("svms.")})
    assert score(policy, dataset) == score(plain, dataset)
    pushed = build(dataset, svms=True)
    torch.nn.init.normal_(pushed.model.svms.merge.weight, std=0.5)
    assert score(pushed, dataset).scores.mse != score(policy, dataset).scores.mse


def labeler(instruction: str):
    """Colours and places are visual, "then" is temporal, "wait" is state."""
    visual, temporal, state = np.eye(3).tolist()
    kinds = {"red": visual, "left": visual, "drawer": visual, "then": temporal, "wait": state}
    return [
        (instruction.index(word), instruction.index(word) + len(word), label)
        for word, label in kinds.items()
        if word in instruction
    ]


def test_streams_are_reported_from_a_model(policy, dataset):
    steps = SampleDataset(dataset, policy.processor, episodes=[2, 3], labeler=labeler, stride=6)
    found, ranks = read_streams(policy.model, steps, batch_size=4)
    assert found.samples == len(steps)
    assert found.streams == ("visual", "temporal", "state")
    assert 0 < found.scores["temporal"].prior < 0.5
    assert all(0 <= rho.mean <= 2 for rho in found.rho.values())
    assert found.effective_rank == ranks
    assert all(1 <= rank <= 32 for pair in ranks.values() for rank in pair)
    assert sum(found.shares["image"].routes) == pytest.approx(1, abs=1e-5)
    assert found.task_information is not None, "two instructions"
    with pytest.raises(DataError, match="labeler"):
        read_streams(policy.model, SampleDataset(dataset, policy.processor, episodes=[2], stride=9))


def test_routes_are_read_from_a_model(policy, dataset):
    """Every word of the instruction, and a 3 x 3 grid for a picture of 84 pixels."""
    steps = SampleDataset(dataset, policy.processor, episodes=[2], stride=9)
    (words,), (patch,) = read_routes(policy.model, steps, [0])
    assert [word.word for word in words.words] == ["open", "the", "red", "drawer", "then", "wait"]
    assert np.array(patch.routes).shape == (3, 3, 3)
    np.testing.assert_allclose(np.array(patch.routes).sum(-1), 1, atol=1e-5)
    assert np.ptp(Image.open(io.BytesIO(patch.picture)).size) == 0, "square as the camera"
