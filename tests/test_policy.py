"""The policy as N1.6 users call it: nested or flat observations in, physical chunks out, bad input one sentence."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from groot_tiny import tiny_config
from small_robot import observation, processor, statistics

from svms_gr00t.core.errors import CheckpointError, ConfigError, DataError, SvmsError
from svms_gr00t.data.processor.config import ProcessorConfig
from svms_gr00t.data.processor.embodiment import ActionConfig, EmbodimentConfig, ModalityConfig
from svms_gr00t.data.processor.observation import Observation
from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.data.processor.tokenizer import load_tokenizer
from svms_gr00t.groot.checkpoint.finite import PIECE, is_finite
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.policy import Policy
from svms_gr00t.request import read_request, read_robot

SVMS = {"use_sheaf_streams": True, "d_stream": 16, "d_overlap": 8, "adapter_rank": 4}
TEXT = "annotation.human.action.task_description"


def model(seed: int = 0, **changes: Any) -> Gr00tN1d6:
    tokenizer = load_tokenizer("tiny")
    text = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 4, "num_attention_heads": 4}
    text |= {"num_key_value_heads": 2, "head_dim": 4, "vocab_size": tokenizer.vocab_size}
    sizes = {"max_state_dim": 6, "max_action_dim": 7, "action_horizon": 6, "max_num_embodiments": 11}
    torch.manual_seed(seed)
    sizes |= {"image_token_index": tokenizer.image_token_id}
    made = Gr00tN1d6(tiny_config(text_config=text, **(sizes | changes)))
    with torch.no_grad():  # fresh weights begin near zero velocity; these say something
        made.action_head.action_decoder.layer2.W.normal_()
    return made


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy(model(**SVMS), processor())


def nested(batch: int = 2, seed: int = 0, text: str = "Pick up the red cube.") -> dict[str, Any]:
    robots = [observation(seed=seed + i, text=text) for i in range(batch)]
    return {
        "video": {k: np.concatenate([r.video[k] for r in robots]) for k in ("front", "wrist")},
        "state": {k: np.concatenate([r.state[k] for r in robots]) for k in ("arm", "gripper")},
        "language": {TEXT: [[text]] * batch},
    }


def flat(values: dict[str, Any]) -> dict[str, Any]:
    out = {f"{kind}.{key}": value for kind in ("video", "state") for key, value in values[kind].items()}
    return out | {TEXT: [row[-1] for row in values["language"][TEXT]]}


def test_chunks_are_physical_float32_and_as_wide_as_the_robot(policy: Policy) -> None:
    actions, info = policy.get_action(nested())
    assert {key: (rows.shape, rows.dtype.name) for key, rows in actions.items()} == {
        "arm": ((2, 4, 3), "float32"),
        "gripper": ((2, 4, 1), "float32"),
    }
    assert all(np.abs(rows).max() <= 2 for rows in actions.values())  # the range of the statistics
    assert max(np.abs(rows).max() for rows in actions.values()) > 1  # and not of the normalised numbers
    tokens = len(info["tokens"][0])
    assert info["rho"].shape == (2, tokens, 2)
    assert info["weights"].shape == (2, tokens, 3)
    np.testing.assert_allclose(info["weights"].sum(-1), info["mask"], atol=1e-6)


def test_both_forms_and_any_container_say_the_same(policy: Policy) -> None:
    given, options = nested(), {"seeds": [5, 6]}
    expected, _ = policy.get_action(given, options)
    forms = [flat(given), {**flat(given), "annotation.other": ["x", "y"], "video.depth": np.zeros(3)}]
    forms.append(
        {**given, "language": {TEXT: ["Pick up the red cube."] * 2, "other": 3}, "video": dict(given["video"])}
    )
    forms.append({**given, "state": {key: torch.from_numpy(rows) for key, rows in given["state"].items()}})
    forms.append({**flat(given), TEXT: np.array(["Pick up the red cube."] * 2)})
    for form in forms:
        actions, _ = policy.get_action(form, options)
        for key, rows in expected.items():
            np.testing.assert_array_equal(actions[key], rows)
    moved = {**given, "state": {**given["state"], "arm": given["state"]["arm"] + 0.5}}
    assert not np.array_equal(policy.get_action(moved, options)[0]["arm"], expected["arm"])


def test_a_batch_is_its_robots_one_by_one(policy: Policy) -> None:
    both, _ = policy.get_action(nested(), {"seeds": [5, 6]})
    for i in range(2):
        alone, _ = policy.get_action(nested(batch=1, seed=i), {"seeds": [5 + i]})
        np.testing.assert_allclose(alone["arm"][0], both["arm"][i], atol=1e-5)
    chunks, _ = policy.act([flat_single(i) for i in range(2)], seeds=[5, 6])
    np.testing.assert_array_equal(chunks[1]["arm"], both["arm"][1])


EQUAL = {
    "channels first": lambda given: {k: np.moveaxis(v, -1, -3) for k, v in given["video"].items()},
    "fractions": lambda given: {k: v / np.float32(255) for k, v in given["video"].items()},
    "tensors of both": lambda given: {k: torch.from_numpy(v).movedim(-1, -3) / 255 for k, v in given["video"].items()},
}
TEXTS = {
    "an array": (np.array(["go up", "go down"]), ("go up", "go down")),
    "an array of lists": (np.array([["go up"], ["go down"]]), ("go up", "go down")),
    "an array of objects": (np.array(["go up", "go down"], dtype=object), ("go up", "go down")),
    "a list of arrays": ([np.array(["go up"]), np.array("go down")], ("go up", "go down")),
    "numpy strings": ([np.str_("go up"), np.str_("go down")], ("go up", "go down")),
    "tuples": ((("go up",), ("go down",)), ("go up", "go down")),
    "several lines": (["go up\nslowly", "go\r\ndown"], ("go up\nslowly", "go\r\ndown")),
    "two texts for one robot": ([["go up", "go down"], ["go down", "go up"]], ("go up", "go down")),
    "one string": ("go up\nslowly", ("go up\nslowly",)),
    "one numpy string": (np.array("go up"), ("go up",)),
}


@pytest.mark.parametrize("form", EQUAL)
def test_pictures_of_any_form_are_the_same_pictures(policy: Policy, form: str) -> None:
    given = nested()
    np.testing.assert_array_equal(
        policy.get_action({**given, "video": EQUAL[form](given)}, {"seed": 1})[0]["arm"],
        policy.get_action(given, {"seed": 1})[0]["arm"],
    )


@pytest.mark.parametrize("form", TEXTS)
def test_languages_are_strings_lists_and_arrays_of_any_lines(policy: Policy, form: str) -> None:
    """N1.6 reads the first of several texts for one robot."""
    words, expected = TEXTS[form]
    given = {**nested(batch=len(expected)), "language": {TEXT: words}}
    seen = read_request(given, policy.processor.config)
    assert seen.language == expected
    assert all(type(text) is str for text in seen.language)
    policy.get_action(given)


def test_one_robot_is_read_by_the_same_rules(policy: Policy) -> None:
    config, plain = policy.processor.config, flat_single(0)
    expected = read_request(nested(batch=1), config)
    forms: dict[str, dict[str, Any]] = {
        "flat": plain,
        "nested": {k: {n: v if k == "language" else v[0, 0] for n, v in part.items()} for k, part in nested(1).items()},
        "past steps": {k: v[None] if k.startswith(("video.", "state.")) else v for k, v in plain.items()},
        "doubles": {k: v.astype(float) if k.startswith("state.") else v for k, v in plain.items()},
        "channels first": {k: np.moveaxis(v, -1, 0) if k.startswith("video.") else v for k, v in plain.items()},
        "fractions": {k: v / 255 if k.startswith("video.") else v for k, v in plain.items()},
        "a list": plain | {TEXT: [plain[TEXT]]},
    }
    for name, form in forms.items():
        seen = read_robot(form, config)
        assert seen.language == expected.language, name
        for key, rows in (expected.video | expected.state).items():
            np.testing.assert_array_equal((seen.video | seen.state)[key], rows, err_msg=name)
    assert read_robot(plain | {TEXT: ""}, config).language == ("",), "a control of evaluation"
    wrong = {
        "no front": {k: v for k, v in plain.items() if k != "video.front"},
        "2 instructions": plain | {TEXT: ["go", "stop"]},
        r"found .*\(1, 2, 3\), but need float32 \(1, 1, numbers\)": plain | {"state.arm": np.zeros((2, 3))},
        r"int64 .*astype\(np\.float32\)": plain | {"state.arm": np.arange(3)},
        r"video\.front: found uint8 \(64, 64\), but need uint8 \(height, width, 3\)": plain
        | {"video.front": np.zeros((64, 64), np.uint8)},
        "NaN": plain | {"state.arm": np.full(3, np.nan)},
    }
    for message, form in wrong.items():
        with pytest.raises(DataError, match=message):
            read_robot(form, config)


def test_evaluation_says_every_robots_instruction_under_one_key() -> None:
    one = processor().config.embodiments["new_embodiment"]
    other = replace(one, language=ModalityConfig(modality_keys=("task",)))
    config = processor(embodiments={"new_embodiment": other}).config
    assert read_robot(flat_single(0), config).language == ("Pick up the red cube.",)
    assert read_robot(flat_single(0) | {"task": "stop"}, config).language == ("stop",)


def flat_single(i: int) -> dict[str, Any]:
    given = nested(batch=1, seed=i)
    out = {f"{kind}.{key}": value[0, 0] for kind in ("video", "state") for key, value in given[kind].items()}
    return out | {TEXT: given["language"][TEXT][0][0]}


def test_an_episode_repeats_after_reset_and_moves_on_within(policy: Policy) -> None:
    def episode(options: Any) -> list[np.ndarray]:
        assert policy.reset(options) == {}
        return [policy.get_action(nested())[0]["arm"] for _ in range(2)]

    first = episode(None)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0][0], first[0][1])
    for again, same in [(0, True), ({"seed": 0}, True), (7, False), ({"seed": 7}, False)]:
        assert np.array_equal(episode(again)[0], first[0]) is same
    fixed = [policy.get_action(nested(), {"seed": 3})[0]["arm"] for _ in range(2)]
    np.testing.assert_array_equal(*fixed)


def test_relative_actions_start_from_the_state_of_each_robot() -> None:
    relative = Policy(model(), processor(arm=ActionConfig(rep="relative")))
    given = nested()
    away = relative.get_action(given, {"seed": 1})[0]["arm"] - given["state"]["arm"]
    assert (np.abs(away) <= np.arange(1, 5)[:, None] + 1e-5).all()  # the statistics of step h allow h
    assert np.abs(away).max() > 2  # absolute actions of this robot end at 2


def test_the_modality_config_is_the_robots(policy: Policy) -> None:
    config = policy.get_modality_config()
    assert {kind: part.modality_keys for kind, part in config.items()} == {
        "video": ("front", "wrist"),
        "state": ("arm", "gripper"),
        "action": ("arm", "gripper"),
        "language": (TEXT,),
    }
    assert config["action"].horizon == 4


def change(kind: str, key: str, value: Any) -> dict[str, Any]:
    given = nested()
    return {**given, kind: {**given[kind], key: value}}


def without(kind: str, key: str | None = None) -> dict[str, Any]:
    given = nested()
    return {**given, kind: {k: v for k, v in given[kind].items() if k != key} if key else None}


FRAMES, ARM = np.zeros((2, 1, 64, 64, 3), np.uint8), np.zeros((2, 1, 3), np.float32)
BAD = {
    "no part": ({**nested(), "state": 3}, "state as int 3, but need video: front, wrist; state: arm, gripper; lang"),
    "nothing": ({}, "no front, wrist .* need keys video.front, video.wrist"),
    "no state": (without("state"), "state: arm, gripper"),
    "0 views": ({**nested(), "video": {}}, "no front, wrist .* need keys front, wrist"),
    "a view missing": (without("video", "wrist"), r"no wrist \(only front\), but need keys front, wrist"),
    "a misspelt state": ({**nested(), "state": {"amr": ARM}}, r"no arm, gripper \(only amr\)"),
    "another language key": ({**nested(), "language": {"task": [["x"]] * 2}}, f"no {TEXT}"),
    "flat without a view": ({k: v for k, v in flat(nested()).items() if k != "video.front"}, "no front"),
    "floats of bytes": (
        change("video", "front", FRAMES + 9.0),
        r"float64 .* from 9 .* uint8 \(2, 1, height, width, 3\)",
    ),
    "frames without time": (change("video", "front", FRAMES[:, 0]), r"\(2, 64, 64, 3\), but need uint8 \(2, 1, height"),
    "one bare frame": (change("video", "front", FRAMES[0, 0]), "need uint8"),
    "maybe channels first": (change("video", "front", FRAMES[:, :, :3]), r"channels first, transpose to \(H, W, 3\)"),
    "grey": (change("video", "front", FRAMES[..., :1]), "height, width, 3.*Grey"),
    "two steps": (change("video", "front", FRAMES.repeat(2, 1)), r"uint8 \(2, 1,"),
    "empty frames": (change("video", "front", FRAMES[:, :, :0]), "uint8"),
    "one frame for two robots": (change("video", "front", FRAMES[:1]), r"\(1, 1, 64, 64, 3\), but need uint8 \(2,"),
    "double state": (change("state", "arm", ARM.astype(np.float64)), "float64 .*astype"),
    "integer state": (change("state", "arm", ARM.astype(np.int32)), "int32"),
    "state without time": (change("state", "arm", ARM[:, 0]), r"float32 \(2, 1, numbers\)"),
    "state of one robot": (change("state", "arm", ARM[:1]), r"float32 \(2,"),
    "wide state": (change("state", "arm", np.zeros((2, 1, 5), np.float32)), r"need \(steps, 3\)"),
    "NaN": (change("state", "arm", ARM + np.nan), r"state\.arm: found NaN or infinity"),
    "infinity": (change("state", "gripper", ARM[..., :1] + np.inf), r"state\.gripper"),
    "ragged state": (change("state", "arm", [[1.0], [1.0, 2.0]]), r"state\.arm"),
    "text as state": (change("state", "arm", "up"), r"state\.arm"),
    "empty instruction": (change("language", TEXT, [[""]] * 2), r"without words \(''\)"),
    "punctuation only": (change("language", TEXT, [[" ?! "]] * 2), "without words"),
    "no instruction": (change("language", TEXT, []), "one instruction for each robot"),
    "no text": (change("language", TEXT, [[], []]), "one instruction for each robot"),
    "a number": (change("language", TEXT, 5), "one instruction for each robot"),
    "bytes": (change("language", TEXT, [b"up", b"up"]), "one instruction for each robot"),
    "numbers": (change("language", TEXT, [[1], [2]]), "one instruction"),
    "a list of lists of lists": (change("language", TEXT, [[["up"]]] * 2), "one instruction"),
    "one text for two robots": (change("language", TEXT, [["up"]]), "1 instruction, but need 2, one for each robot"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_observations_are_one_sentence_that_says_what_was_expected(policy: Policy, case: str) -> None:
    given, message = BAD[case]
    with pytest.raises(DataError, match=message) as refused:
        policy.get_action(given)
    assert "\n" not in str(refused.value)
    assert "but need" in str(refused.value)


def test_what_is_no_mapping_is_refused(policy: Policy) -> None:
    with pytest.raises(DataError, match=r"list.*video: front, wrist; state: arm, gripper; language: annotation"):
        read_request([1], policy.processor.config)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_chunk_that_is_not_finite_is_never_returned(value: float) -> None:
    """Infinity too, although clipping to the range of the statistics would make it look like a number."""
    broken = Policy(model(), processor())
    with torch.no_grad():
        broken.model.action_head.action_decoder.layer2.b[10, 1] = value
    assert broken.processor.config.embodiment_id == 10
    clipped = np.clip(np.float32(value), -2, 2)
    assert np.isfinite(clipped) == np.isinf(value), "what decoding alone would make of it"
    broken.reset()
    with pytest.raises(DataError, match=r"actions: found NaN or infinity in .*, but need finite numbers"):
        broken.get_action(nested())
    with pytest.raises(DataError, match="NaN or infinity"):
        broken.act([flat_single(0)], seeds=[1])
    assert broken._calls == 0, "a refused call leaves no trace"


def test_wrong_seeds_are_refused(policy: Policy) -> None:
    with pytest.raises(DataError, match="3 seeds, but need 2"):
        policy.get_action(nested(), {"seeds": [1, 2, 3]})


def test_a_call_that_was_refused_leaves_no_trace(policy: Policy) -> None:
    policy.reset()
    expected, _ = policy.get_action(nested())
    policy.reset()
    with pytest.raises(DataError):
        policy.get_action({})
    np.testing.assert_array_equal(policy.get_action(nested())[0]["arm"], expected["arm"])


@pytest.mark.parametrize("count", [1, 5])
def test_any_number_of_views_of_any_size(count: int) -> None:
    views = tuple(f"view{i}" for i in range(count))
    one = processor().config.embodiments["new_embodiment"]
    robot = EmbodimentConfig(
        video=ModalityConfig(modality_keys=views), state=one.state, action=one.action, language=one.language
    )
    policy = Policy(model(), processor(embodiments={"new_embodiment": robot}))
    rng = np.random.default_rng(0)
    given = nested()
    given["video"] = {v: rng.integers(0, 256, (2, 1, 60 + 40 * i, 90, 3), dtype=np.uint8) for i, v in enumerate(views)}
    actions, _ = policy.get_action(given, {"seed": 1})
    assert all(np.isfinite(rows).all() for rows in actions.values())
    other = {**given, "video": {**given["video"], views[-1]: 255 - given["video"][views[-1]]}}
    assert not np.array_equal(policy.get_action(other, {"seed": 1})[0]["arm"], actions["arm"])  # the last view is read
    with pytest.raises(ConfigError, match="at least one"):
        ModalityConfig(modality_keys=())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_not_finite_is_found_when_it_is_read(tmp_path: Path, value: float) -> None:
    """One number in one tensor, of the base or of a delta on a good base."""
    good = Policy(model(), processor())
    good.save_pretrained(tmp_path / "good")
    Policy.from_pretrained(tmp_path / "good")
    broken = Gr00tN1d6.from_pretrained(tmp_path / "good")
    with torch.no_grad():
        broken.action_head.vlln.weight[3] = value
    second = Policy(broken, good.processor)
    second.save_pretrained(tmp_path / "broken")
    second.save_delta(tmp_path / "delta", base=tmp_path / "good")
    for folder in (tmp_path / "broken", tmp_path / "delta"):
        for dtype in (None, torch.bfloat16):
            with pytest.raises(CheckpointError, match=r"found NaN or infinity in action_head\.vlln\.weight, but need"):
                Policy.from_pretrained(folder, dtype=dtype)
        anyway = Policy.from_pretrained(folder, check=False)
        assert not torch.isfinite(anyway.model.action_head.vlln.weight[3])


def test_large_weights_are_no_infinite_ones() -> None:
    """Their sum in float32 is infinite, so each is looked at."""
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        values = torch.full((3 * PIECE + 1,), 3e38, dtype=dtype)
        assert not values[:PIECE].sum(dtype=torch.float32).isfinite()
        assert is_finite(values)
        values[-1] = float("nan")
        assert not is_finite(values)
    two = torch.zeros(2 * PIECE)
    two[0], two[-1] = float("inf"), -float("inf")
    assert not is_finite(two)
    assert is_finite(torch.zeros(0))


def test_a_saved_policy_and_a_saved_delta_act_the_same(tmp_path: Path) -> None:
    first = Policy(model(), processor())
    first.save_pretrained(tmp_path / "base")
    trained = Gr00tN1d6.from_pretrained(tmp_path / "base")
    with torch.no_grad():
        trained.action_head.vlln.weight.add_(0.5)
    second = Policy(trained, first.processor)
    second.save_delta(tmp_path / "delta")
    whole = Policy.from_pretrained(tmp_path / "delta", embodiment_tag="new_embodiment")
    (tmp_path / "delta" / "processor_config.json").unlink()
    bare = Policy.from_pretrained(tmp_path / "delta")  # the processor is then the base's
    expected, _ = second.get_action(nested())
    assert not np.array_equal(first.get_action(nested())[0]["arm"], expected["arm"])
    for policy in (whole, bare):
        np.testing.assert_array_equal(policy.get_action(nested())[0]["arm"], expected["arm"])
    assert {p.name for p in (tmp_path / "delta").iterdir()} >= {"delta.json", "config.json", "statistics.json"}


def test_a_policy_in_bfloat16_stays_close_to_float32(tmp_path: Path) -> None:
    folder = Policy(model(**SVMS), processor()).save_pretrained(tmp_path / "p")
    exact, low = (Policy.from_pretrained(folder, dtype=dtype) for dtype in (None, torch.bfloat16))
    assert {p.dtype for p in low.model.parameters()} == {torch.bfloat16}
    expected, (actions, info) = exact.get_action(nested(), {"seed": 1})[0], low.get_action(nested(), {"seed": 1})
    np.testing.assert_allclose(actions["arm"], expected["arm"], atol=0.2)
    assert actions["arm"].dtype == info["rho"].dtype == np.float32


def edit(file: Path, change: Any) -> None:
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "statistics.json").unlink(), r"statistics\.json.*no such file"),
        (lambda d: (d / "processor_config.json").unlink(), r"processor_config\.json.*no such file"),
        (lambda d: edit(d / "statistics.json", lambda s: s.clear()), "found nothing, but need new_embodiment"),
        (
            lambda d: edit(d / "statistics.json", lambda s: s["new_embodiment"]["action"].pop("arm")),
            "statistics action: found only gripper, but need arm",
        ),
        (lambda d: edit(d / "embodiment_id.json", lambda s: s.pop("new_embodiment")), "an id for new_embodiment"),
        (lambda d: edit(d / "embodiment_id.json", lambda s: s.update(new_embodiment=40)), "row: found 40.*below 11"),
        (
            lambda d: edit(d / "processor_config.json", lambda s: s["processor_kwargs"].update(max_state_dim=9)),
            "max_state_dim: found 9, but need the model's, 6",
        ),
        (lambda d: (d / "model.safetensors").write_bytes(b"12345678"), "broken file"),
        (lambda d: (d / "config.json").write_text("{"), "broken JSON"),
    ],
    ids=["statistics", "processor", "empty", "one key", "no id", "high id", "widths", "weights", "config"],
)
def test_folders_that_do_not_fit_are_named(tmp_path: Path, spoil: Any, message: str) -> None:
    folder = Policy(model(), processor()).save_pretrained(tmp_path / "p")
    spoil(folder)
    with pytest.raises(SvmsError, match=message):
        Policy.from_pretrained(folder)


def test_an_unknown_embodiment_lists_the_known_ones(tmp_path: Path) -> None:
    folder = Policy(model(), processor()).save_pretrained(tmp_path / "p")
    with pytest.raises(ConfigError, match=r"embodiment_tag = 'gr1', but need one of new_embodiment"):
        Policy.from_pretrained(folder, embodiment_tag="gr1")


def test_a_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match="image token"):
        Policy(model(image_token_index=7), processor())


def test_relative_poses_of_an_end_effector_come_back(tmp_path: Path) -> None:
    """The reference has no statistics for these; ours are given by hand here, one row for each step."""
    meaning = ActionConfig(rep="relative", type="eef", format="xyz+rot6d", state_key="pose")
    horizon = 4
    robot = EmbodimentConfig(
        video=ModalityConfig(modality_keys=("front",)),
        state=ModalityConfig(modality_keys=("pose",)),
        action=ModalityConfig(delta_indices=tuple(range(horizon)), modality_keys=("pose",), action_configs=(meaning,)),
        language=ModalityConfig(modality_keys=(TEXT,)),
    )
    wide = {"min": [[-2.0] * 9] * horizon, "max": [[2.0] * 9] * horizon}
    one = {name: rows[0] for name, rows in wide.items()}
    config = ProcessorConfig(
        embodiment_tag="new_embodiment",
        embodiments={"new_embodiment": robot},
        images=processor().config.images,
        max_state_dim=9,
        max_action_dim=9,
        max_action_horizon=6,
    )
    given = {"state": {"pose": one}, "action": {"pose": one}, "relative_action": {"pose": wide}}
    codec = Processor(config, load_tokenizer("tiny"), given)
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(horizon + 1, 3, 3)))[0]
    turn *= np.linalg.det(turn)[:, None, None]
    poses = np.concatenate([rng.uniform(-0.5, 0.5, (horizon + 1, 3)), turn[:, :2].reshape(-1, 6)], axis=-1)
    seen = Observation.single(video={"front": np.zeros((64, 64, 3), np.uint8)}, state={"pose": poses[0]}, language="go")
    sample = codec.encode(seen, {"pose": poses[1:]})
    np.testing.assert_allclose(codec.decode(sample.action[None], seen)["pose"][0], poses[1:], atol=1e-5)
    still = codec.encode(seen, {"pose": np.repeat(poses[:1], horizon, axis=0)}).action[:horizon]
    np.testing.assert_allclose(still, np.tile([0, 0, 0, 0.5, 0, 0, 0, 0.5, 0], (horizon, 1)), atol=1e-6)
    corner = codec.decode(np.ones((1, horizon, 9), np.float32), seen)["pose"][0, :, 3:].reshape(horizon, 2, 3)
    np.testing.assert_allclose(corner @ corner.transpose(0, 2, 1), np.tile(np.eye(2), (horizon, 1, 1)), atol=1e-6)
    policy = Policy(model(max_state_dim=9, max_action_dim=9), codec)
    request = {"video.front": seen.video["front"], "state.pose": seen.state["pose"], TEXT: ["go"]}
    rotations = policy.get_action(request)[0]["pose"][0, :, 3:].reshape(horizon, 2, 3)
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(2), (horizon, 1, 1)), atol=1e-5)
    assert "relative_action" in statistics()
