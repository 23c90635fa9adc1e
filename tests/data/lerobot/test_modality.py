import json

import pytest

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.lerobot.modality import Modality


def test_defaults_of_original_key_are_the_documented_ones():
    modality = Modality.from_dict(
        {
            "state": {"arm": {"start": 0, "end": 7}, "base": {"start": 0, "end": 3, "original_key": "odometry"}},
            "action": {"arm": {"start": 0, "end": 7}},
            "video": {"wrist": {}, "left": {"original_key": "observation.images.agentview_left"}},
            "annotation": {"human.validity": {}, "human.coarse_action": {"original_key": "annotation.note"}},
        }
    )
    columns = {f"{k}.{key}": modality.column(k, key) for k in Modality.model_fields for key in getattr(modality, k)}
    assert columns == {
        "state.arm": "observation.state",
        "state.base": "odometry",
        "action.arm": "action",
        "video.wrist": "observation.images.wrist",
        "video.left": "observation.images.agentview_left",
        "annotation.human.validity": "annotation.human.validity",
        "annotation.human.coarse_action": "annotation.note",
    }
    assert modality.state["arm"].absolute
    assert modality.state["arm"].rotation_type is None
    with pytest.raises(KeyError, match="wrist, left"):
        modality.column("video", "right")


def test_the_real_file_round_trips(shared, tmp_path):
    path = shared / "robot_sim.PickNPlace" / "meta" / "modality.json"
    modality = Modality.load(path)
    assert modality.to_dict() == json.loads(path.read_text())
    assert modality.instruction_key == "human.action.task_description"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["human.validity", "human.task_name", "human.task_description"], "human.task_description"),
        (["human.coarse_action", "human.action.task_description"], "human.action.task_description"),
        (["language.instruction"], "language.instruction"),
        (["human.validity"], None),
    ],
)
def test_the_instruction_is_found_among_the_annotations(keys, expected):
    assert Modality.from_dict({"annotation": {key: {} for key in keys}}).instruction_key == expected


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"state": {"arm": {"start": 3, "end": 3}}}, "state.arm.*an end greater than start"),
        ({"state": {"arm": {"start": 0}}}, "found no state.arm.end, but need this field"),
        ({"state": {"arm": {"start": "0", "end": 2}}}, "'0' at state.arm.start"),
        ({"action": {"arm": {"start": -1, "end": 2}}}, "-1 at action.arm.start"),
        ({"action": {"arm": {"start": 0, "end": 2, "orignal_key": "a"}}}, "orignal_key, but need only documented"),
        ({"action": {"arm": {"start": 0, "end": 2, "rotation_type": "euler"}}}, "'euler' at action.arm.rotation_type"),
        ({"vidoe": {}}, "at vidoe, but need only documented"),
        ([], "at the top level"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_place(tmp_path, value, sentence):
    path = tmp_path / "modality.json"
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match=sentence) as caught:
        Modality.load(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
