"""The processor: round trips, padding, labels, files, and what it refuses."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_robot import HORIZON, chunk, observation, processor, robot, statistics

from svms_gr00t.core.errors import CheckpointError, ConfigError, DataError
from svms_gr00t.data.labels.tokens import TokenLabels
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.loading.collate import collate
from svms_gr00t.data.processor.config import ProcessorConfig
from svms_gr00t.data.processor.embodiment import ROBOCASA_PANDA_OMRON, ActionConfig, EmbodimentConfig, from_modality
from svms_gr00t.data.processor.images import ImagePipeline
from svms_gr00t.data.processor.observation import Observation
from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.data.processor.statistics import compute_statistics
from svms_gr00t.data.processor.tokenizer import load_tokenizer

PLAIN = processor()
RELATIVE = processor(arm=ActionConfig(rep="relative"))


def label(text: str) -> list:
    return [(text.index("red cube"), text.index("red cube") + 8, (1.0, 0.0, 0.0)), (0, 4, (0.0, 1.0, 0.0))]


@pytest.mark.parametrize("p", [PLAIN, RELATIVE], ids=["absolute", "relative"])
@given(seed=st.integers(0, 2**31))
def test_decode_inverts_encode(p, seed):
    seen = observation(seed=seed)
    actions = chunk(seed)
    # Stay inside the statistics, else clipping changes the action by design.
    actions["arm"] = seen.state["arm"][0] + 0.4 * actions["arm"]
    sample = p.encode(seen, actions)
    decoded = p.decode(sample.action[None], seen)
    for key, expected in actions.items():
        assert decoded[key].dtype == np.float32
        np.testing.assert_allclose(decoded[key][0], expected, atol=1e-6)


def test_relative_actions_depend_on_the_state_and_need_it_back():
    seen, actions = observation(), chunk()
    assert not torch.equal(RELATIVE.encode(seen, actions).action, PLAIN.encode(seen, actions).action)
    with pytest.raises(DataError, match="reference state"):
        RELATIVE.decode(torch.zeros(1, 6, 7))
    assert set(PLAIN.decode(torch.zeros(1, 6, 7))) == {"arm", "gripper"}


@pytest.mark.parametrize("p", [PLAIN, RELATIVE], ids=["absolute", "relative"])
def test_actions_in_bfloat16_decode_as_the_numbers_that_they_are(p):
    """Numpy has no such type, and a model in bfloat16 samples nothing else."""
    seen, actions = observation(), chunk()
    sampled = p.encode(seen, actions).action[None].bfloat16().requires_grad_()
    low, exact = p.decode(sampled, seen), p.decode(sampled.detach().float(), seen)
    for key, rows in exact.items():
        assert low[key].dtype == np.float32
        np.testing.assert_array_equal(low[key], rows)
        assert not np.array_equal(rows, p.decode(p.encode(seen, actions).action[None], seen)[key]), "it is coarser"


def test_relative_actions_are_taken_and_given_back_in_float64():
    """At 1e7 a float32 has steps of 1: two states that it tells apart are all that can be asked, and no less."""
    far = np.float32(2**24 - 3)
    seen = Observation.single(video={}, state={"arm": np.full(3, far), "gripper": np.zeros(1)}, language="go")
    step = np.float64(0.25)
    actions = {"arm": np.full((HORIZON, 3), np.float64(far) + step), "gripper": np.zeros((HORIZON, 1))}
    assert np.float32(np.float64(far) + step) == far, "what single precision would make of it"
    sample = RELATIVE.encode(seen, actions, image_tokens=(1,))
    np.testing.assert_allclose(
        sample.action[:HORIZON, :3].numpy(), 0.25 / np.arange(1, 5)[:, None].repeat(3, 1), rtol=1e-6
    )
    decoded = RELATIVE.decode(sample.action[None] * 4, seen)["arm"][0]  # 1 away, which float32 can hold
    np.testing.assert_array_equal(decoded, np.full((HORIZON, 3), far + 1))


def test_padding_and_mask():
    pad = np.array([False, False, True, True])
    sample = PLAIN.encode(observation(), chunk(), pad)
    assert sample.state.shape == (1, 6)
    assert sample.action.shape == sample.action_mask.shape == (6, 7)
    assert not sample.state[:, 4:].any()
    assert not sample.action[:, 4:].any()
    assert not sample.action[HORIZON:].any()
    expected = torch.zeros(6, 7)
    expected[:2, :4] = 1
    assert torch.equal(sample.action_mask, expected)


def test_same_draw_for_all_views_and_none_in_evaluation():
    seen = observation()
    seen = replace(seen, video=dict.fromkeys(("front", "wrist"), seen.video["front"]))
    evaluated = PLAIN.encode(seen)
    trained = PLAIN.encode(seen, rng=np.random.default_rng(0))
    assert torch.equal(trained.images[0], trained.images[1])
    assert not torch.equal(trained.images[0], evaluated.images[0])
    assert torch.equal(trained.images[0], PLAIN.encode(seen, rng=np.random.default_rng(0)).images[0])
    assert torch.equal(evaluated.images[0], PLAIN.encode(seen).images[0])


def test_the_prompt_holds_one_token_for_each_image_cell():
    sample = PLAIN.encode(observation())
    assert int((sample.input_ids == PLAIN.tokenizer.image_token_id).sum()) == 2 * 4
    assert PLAIN.tokenizer.decode(sample.input_ids[sample.instruction_mask].tolist()) == "pick up the red cube"
    assert PLAIN.encode(observation(seed=1)).input_ids is sample.input_ids  # tokenised once


def test_labels_sit_on_the_words_and_nowhere_else():
    sample = PLAIN.encode(observation(), labels=TokenLabels(label))
    words = [PLAIN.tokenizer.decode([int(i)]).strip() for i in sample.input_ids]
    assert [w for w, on in zip(words, sample.labels[:, 0], strict=True) if on] == ["red", "cube"]
    assert [w for w, on in zip(words, sample.labels[:, 1], strict=True) if on] == ["pick"]
    assert not sample.labels[:, 2].any()
    assert torch.equal(sample.label_mask, sample.instruction_mask)
    assert int(sample.label_mask.sum()) == 5


def test_a_word_in_pieces_labels_each_piece_and_overlaps_join():
    seen = observation(text="grab the tupperware")
    spans = [(9, 19, (1.0, 0.0, 0.0)), (17, 19, (0.0, 0.0, 1.0))]
    sample = PLAIN.encode(seen, labels=TokenLabels(lambda text: spans))
    pieces = sample.labels[:, 0].nonzero().squeeze(-1)
    assert len(pieces) >= 2
    assert sample.labels[pieces[-1]].tolist() == [1.0, 0.0, 1.0]
    assert PLAIN.encode(seen, labels=TokenLabels(lambda text: [])).labels.shape == (len(sample.input_ids), 3)
    with pytest.raises(DataError, match="a range within 0:19"):
        PLAIN.encode(seen, labels=TokenLabels(lambda text: [(9, 40, (1.0, 0.0, 0.0))]))


def test_two_labelers_never_share_a_cache():
    for value in (1.0, 0.0):
        sample = PLAIN.encode(observation(), labels=TokenLabels(lambda text, v=value: [(0, 4, (v, 0.0, 0.0))]))
        assert sample.labels[:, 0].sum() == value


def test_files_round_trip(tmp_path):
    p = processor(arm=ActionConfig(rep="relative"), use_percentiles=True, images=ImagePipeline.cheap(84))
    p.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("processor_config.json", "statistics.json", "embodiment_id.json", "tokenizer.json")
    }
    loaded = Processor.load(tmp_path)
    assert loaded.config == p.config
    before, after = p.encode(observation(), chunk()), loaded.encode(observation(), chunk())
    assert torch.equal(before.input_ids, after.input_ids)
    assert torch.equal(before.action, after.action)
    assert torch.equal(before.images[0], after.images[0])
    pickled = pickle.loads(pickle.dumps(loaded))  # data loader workers get one
    assert torch.equal(pickled.encode(observation()).state, before.state)


def test_a_plain_n16_folder_loads(tmp_path):
    """Names in capitals, nulls, several tags, sizes instead of fractions, and no tokenizer: as NVIDIA writes it."""
    p = processor()
    p.save(tmp_path)
    path = tmp_path / "processor_config.json"
    value = json.loads(path.read_text())
    del value["svms"]
    kwargs = value["processor_kwargs"]
    kwargs["modality_configs"]["robocasa_panda_omron"] = ROBOCASA_PANDA_OMRON.to_dict()
    kwargs |= {"shortest_image_edge": None, "crop_fraction": None, "color_jitter_params": None}
    kwargs |= {"image_target_size": [256, 256], "image_crop_size": [230, 230], "letter_box_transform": False}
    path.write_text(json.dumps(value))
    with pytest.raises(CheckpointError, match="an embodiment tag among new_embodiment, robocasa_panda_omron"):
        Processor.load(tmp_path, tokenizer=load_tokenizer("tiny"))
    loaded = Processor.load(tmp_path, embodiment_tag="new_embodiment", tokenizer=load_tokenizer("tiny"))
    assert loaded.config.images.short_side == 256
    assert loaded.config.images.crop_fraction == pytest.approx(230 / 256)
    assert loaded.config.embodiments["robocasa_panda_omron"] == ROBOCASA_PANDA_OMRON
    assert kwargs["modality_configs"]["robocasa_panda_omron"]["action"]["action_configs"][0] == {
        "rep": "ABSOLUTE",
        "type": "NON_EEF",
        "format": "DEFAULT",
        "state_key": None,
    }
    value["processor_kwargs"]["use_mean_std"] = True
    path.write_text(json.dumps(value))
    with pytest.raises(CheckpointError, match="use_mean_std"):
        Processor.load(tmp_path, embodiment_tag="new_embodiment", tokenizer=load_tokenizer("tiny"))
    with pytest.raises(CheckpointError, match="no such file"):
        Processor.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"embodiment_tag": "gr1"}, "one of new_embodiment"),
        ({"embodiment_ids": {"gr1": 20}}, "an id for new_embodiment"),
        ({"max_action_dim": 0}, "at least 1"),
    ],
)
def test_impossible_configs_are_refused(changes, complaint):
    with pytest.raises(ConfigError, match=complaint):
        processor(**changes)


def test_data_that_does_not_fit_is_refused():
    with pytest.raises(DataError, match="found 4, but need at most 3"):
        processor(max_state_dim=3)
    wrong = observation()
    wrong = replace(wrong, state={**wrong.state, "arm": np.zeros((1, 1, 5), np.float32)})
    with pytest.raises(DataError, match=r"state\.arm: found shape \(1, 5\), but need \(steps, 3\)"):
        PLAIN.encode(wrong)
    with pytest.raises(DataError, match="3 steps, but need 4"):
        PLAIN.encode(observation(), {key: rows[:3] for key, rows in chunk().items()})
    with pytest.raises(DataError, match="Pass what the model sampled"):
        PLAIN.decode(torch.zeros(1, 6, 3))
    with pytest.raises(DataError, match="found nothing, but need new_embodiment"):
        Processor(PLAIN.config, PLAIN.tokenizer, {})
    lacking = statistics()
    del lacking["action"]["gripper"]
    with pytest.raises(DataError, match="statistics action: found only arm, but need gripper"):
        Processor(PLAIN.config, PLAIN.tokenizer, lacking)


def test_observations_say_what_was_expected():
    fine = observation()
    with pytest.raises(DataError, match=r"keys front, wrist"):
        PLAIN.encode(replace(fine, video={"front": fine.video["front"]}))
    with pytest.raises(DataError, match=r"uint8 \(1, T, height, width, 3\)"):
        replace(fine, video={"front": fine.video["front"].astype(np.float32)})
    with pytest.raises(DataError, match=r"float32 \(1, T, numbers\)"):
        replace(fine, state={"arm": np.zeros(3, np.float32)})
    with pytest.raises(DataError, match="NaN or infinity"):
        replace(fine, state={"arm": np.full((1, 1, 3), np.nan, np.float32)})
    with pytest.raises(DataError, match="found 2 steps, but need 1"):
        PLAIN.encode(replace(fine, state={key: rows.repeat(2, axis=1) for key, rows in fine.state.items()}))
    with pytest.raises(DataError, match="need one"):
        PLAIN.encode(Observation(video={}, state={}, language=("a", "b")))


def test_a_batch_splits_by_robot():
    arm = np.arange(6, dtype=np.float32).reshape(2, 1, 3)
    frames = np.zeros((2, 1, 8, 8, 3), np.uint8)
    second = Observation(video={"front": frames}, state={"arm": arm}, language=("open", "close")).split()[1]
    np.testing.assert_array_equal(second.state["arm"], arm[1:])
    assert second.video["front"].shape == (1, 1, 8, 8, 3)
    assert second.language == ("close",)


def test_one_robot_may_bring_its_past_steps():
    rows = np.arange(6, dtype=np.float64).reshape(2, 3)
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    past = Observation.single(video={"front": frames}, state={"arm": rows}, language="open")
    now = Observation.single(video={"front": frames[1]}, state={"arm": rows[1]}, language="open")
    assert (past.video["front"].shape, now.video["front"].shape) == ((1, 2, 8, 8, 3), (1, 1, 8, 8, 3))
    np.testing.assert_array_equal(past.state["arm"][:, 1:], now.state["arm"])


def test_a_batch_of_robots_decodes_each_with_its_own_state():
    robots = [observation(seed=i) for i in range(2)]
    both = Observation(
        video={},
        state={k: np.concatenate([r.state[k] for r in robots]) for k in ("arm", "gripper")},
        language=("a", "b"),
    )
    batch = collate([RELATIVE.encode(r, chunk(i)) for i, r in enumerate(robots)])
    decoded = RELATIVE.decode(batch.action, both)
    for i, one in enumerate(robots):
        alone = RELATIVE.decode(batch.action[i : i + 1], one)
        np.testing.assert_array_equal(decoded["arm"][i], alone["arm"][0])


def test_a_config_from_modality_keeps_the_file_order():
    modality = Modality.from_dict(
        {
            "state": {"legs": {"start": 3, "end": 5}, "arm": {"start": 0, "end": 3}},
            "action": {"arm": {"start": 0, "end": 3}},
            "video": {"ego_view": {}},
            "annotation": {"human.action.task_description": {}},
        }
    )
    config = from_modality(modality, horizon=8)
    assert config.state.modality_keys == ("legs", "arm")
    assert config.action.horizon == 8
    assert config.language.modality_keys == ("annotation.human.action.task_description",)
    assert EmbodimentConfig.from_dict(config.to_dict()) == config
    assert from_modality(modality, states=["arm"]).state.modality_keys == ("arm",)
    with pytest.raises(DataError, match="names among ego_view"):
        from_modality(modality, views=["side"])
    with pytest.raises(ConfigError, match="Relative actions need their state"):
        replace(robot(arm=ActionConfig(rep="relative", state_key="elbow")))


def test_the_gr1_sample_has_44_numbers(shared):
    modality = Modality.load(shared / "robot_sim.PickNPlace" / "meta" / "modality.json")
    config = from_modality(modality)
    assert config.video.modality_keys == ("ego_view",)
    assert sum(modality.state[key].width for key in config.state.modality_keys) == 44
    assert sum(modality.action[key].width for key in config.action.modality_keys) == 44


def test_unknown_fields_of_a_config_are_refused():
    value = ProcessorConfig(embodiment_tag="new_embodiment", embodiments={"new_embodiment": robot()}).to_dict()
    broken = json.loads(json.dumps(value))
    broken["processor_kwargs"]["modality_configs"]["new_embodiment"]["state"]["modality_kyes"] = ["arm"]
    with pytest.raises(ConfigError, match="modality_kyes"):
        ProcessorConfig.from_dict(broken)
    with pytest.raises(CheckpointError, match="no processor_kwargs"):
        ProcessorConfig.from_dict({})


def test_a_recorded_dataset_goes_through_and_comes_back(toy):
    """Files -> statistics -> configuration -> sample -> actions, with nothing named by hand."""
    dataset = LeRobotDataset.open(toy)
    config = from_modality(dataset.modality, horizon=HORIZON)
    settings = {"embodiment_tag": "new_embodiment", "embodiments": {"new_embodiment": config}}
    p = Processor(
        ProcessorConfig(**settings, images=ImagePipeline.cheap(28)), load_tokenizer("tiny"), compute_statistics(dataset)
    )
    rows = dataset.lowdim(0)
    seen = Observation.single(
        video={"front": dataset.frames(0, "front", [3])[0]},
        state={key: rows[f"state.{key}"][3] for key in config.state.modality_keys},
        language="open the drawer",
    )
    actions = {key: rows[f"action.{key}"][3 : 3 + HORIZON] for key in config.action.modality_keys}
    sample = p.encode(seen, actions)
    assert sample.state.abs().max() <= 1
    for key, decoded in p.decode(sample.action[None]).items():
        np.testing.assert_allclose(decoded[0], actions[key], atol=1e-5)
