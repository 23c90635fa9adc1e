"""A wrong request is the client's to mend: one sentence in its words, short, and nothing in the server's log."""

import pickle
import re
from typing import Any

import msgpack
import numpy as np
import pytest

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.escape import MOST_ECHO
from svms_gr00t.policy import Policy
from svms_gr00t.serve.service import Service
from svms_gr00t.serve.websocket import _request
from svms_gr00t.serve.wire import pack, unpack

Observation = dict[str, Any]


@pytest.fixture(scope="module")
def service(policy: Policy) -> Service:
    return Service(policy=policy)


def asked(service: Service, observation: Any, **options: Any) -> Any:
    """The reply to a request that came in as bytes."""
    request, reply = service.receive(pack({"endpoint": "get_action", "data": {"observation": observation} | options}))
    return reply if isinstance(reply, dict) else service.answer(request)


def error(service: Service, observation: Any, caplog: pytest.LogCaptureFixture, **options: Any) -> str:
    reply = asked(service, observation, **options)
    assert not caplog.records, "no traceback: this is the client's fault"
    return str(reply["error"])


def pictures(observation: Observation, change: Any) -> Observation:
    return observation | {"video": {key: change(value) for key, value in observation["video"].items()}}


def batch(observation: Observation, count: int) -> Observation:
    """As many robots, but their texts as they were."""
    return observation | {
        part: {key: np.repeat(value, count, axis=0) for key, value in observation[part].items()}
        for part in ("video", "state")
    }


def flat(observation: Observation) -> Observation:
    """One robot, as openpi's clients write it."""
    arrays = {f"{part}.{key}": value[0, 0] for part in ("video", "state") for key, value in observation[part].items()}
    return arrays | {"prompt": "open the left drawer"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v: v[:, 0], r"\(1, 96, 96, 3\), but need uint8 \(1, 1, height, width, 3\).*robot, past step, row"),
        (lambda v: v[0, 0], r"uint8 \(96, 96, 3\), but need"),
        (lambda v: np.moveaxis(v[0], -1, 1), r"uint8 \(1, 3, 96, 96\), but need"),
        (lambda v: np.concatenate([v, v[..., :1]], -1), "alpha channel"),
        (lambda v: v[..., :1], "Grey"),
    ],
    ids=["no steps", "no robots", "channels first without steps", "alpha", "grey"],
)
def test_pictures_are_refused_by_the_shape_that_was_sent(
    service: Service, observation: Observation, change: Any, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = error(service, pictures(observation, change), caplog)
    assert re.search(says, text), text


def test_channels_first_is_read(service: Service, observation: Observation) -> None:
    turned = pictures(observation, lambda v: np.moveaxis(v, -1, 2))
    again = asked(service, turned, options={"seed": 3})[0]
    for key, value in asked(service, observation, options={"seed": 3})[0].items():
        np.testing.assert_array_equal(again[key], value)


def test_a_batch_that_contradicts_its_texts_blames_the_texts(
    service: Service, observation: Observation, caplog: pytest.LogCaptureFixture
) -> None:
    text = error(service, batch(observation, 3), caplog)
    assert "observation language: found 1 instruction, but need 3, one for each robot" in text
    assert "[[text]] * 3" in text
    key = next(iter(observation["language"]))
    many = observation | {"language": {key: [["a"], ["b"], ["c"]]}}
    assert "language: found 3 instructions, but need 1, one for each robot" in error(service, many, caplog)
    odd = observation | {"video": batch(observation, 3)["video"]}
    assert "video.res256_image_side_0: found uint8 (3," in error(service, odd, caplog), "texts agree with the states"


def test_arrays_of_msgpack_numpy_are_understood(service: Service, policy: Policy, observation: Observation) -> None:
    def theirs(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            parts = {b"type": value.dtype.str, b"kind": b"", b"shape": value.shape, b"data": value.tobytes()}
            return {b"nd": True} | parts
        raise TypeError(type(value))

    sent = msgpack.packb(
        {"endpoint": "get_action", "data": {"observation": observation, "options": {"seed": 3}}}, default=theirs
    )
    reply = service.answer(service.receive(sent)[0])
    for key, value in policy.get_action(observation, {"seed": 3})[0].items():
        np.testing.assert_array_equal(reply[0][key], value)
    number = {b"nd": False, b"type": "<f4", b"data": np.float32(0.5).tobytes()}
    assert unpack(msgpack.packb(number)) == np.float32(0.5)
    for hostile in (
        {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": [1], b"data": pickle.dumps([1])},
        {b"nd": True, b"type": [["a", "<f4"]], b"kind": b"V", b"shape": [1], b"data": b"1234"},
        {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [1 << 40], b"data": b"1234"},
    ):
        with pytest.raises(DataError):
            unpack(msgpack.packb(hostile))


def test_clients_of_openpi_are_told_their_own_keys(
    policy: Policy, observation: Observation, caplog: pytest.LogCaptureFixture
) -> None:
    config, given = policy.get_modality_config(), flat(observation)
    assert _request(given, config)["endpoint"] == "get_action"
    droid = {"observation/image": np.zeros((96, 96, 3), np.uint8), "observation/state": np.zeros(8), "prompt": "a"}
    for sent, says in (
        ({key: value for key, value in given.items() if key != "prompt"}, "no prompt "),
        (droid, "only observation/image, observation/state, prompt"),
        (droid, "need keys video.res256_image_side_0, .*, prompt. The metadata on connecting lists them"),
        (given | {"prompt": None}, "prompt as NoneType"),
        (given | {"prompt": " "}, "prompt as str ' ', but need a text"),
        ([1], "found a list, but need a map"),
    ):
        with pytest.raises(DataError, match=says):
            _request(sent, config)


def test_states_that_are_texts_are_refused_in_words(
    service: Service, policy: Policy, observation: Observation, caplog: pytest.LogCaptureFixture
) -> None:
    sent = flat(observation) | {"state.base_position": np.array(["a", "b", "c"])}
    request = _request(sent, policy.get_modality_config())
    assert "state.base_position: found <U1" in service.answer(request)["error"]
    assert not caplog.records


def test_requests_of_n15_get_a_hint(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    data = {"video.ego_view": np.zeros((1, 96, 96, 3), np.uint8), "annotation.human.task_description": ["a"]}
    reply = service.answer({"endpoint": "get_action", "data": data})
    assert "as clients of GR00T N1.5 send it" in reply["error"]
    for torch_or_pickle in (b"PK\x03\x04" + b"x" * 60, pickle.dumps({"endpoint": "ping"})):
        assert "clients of GR00T N1.5" in service.receive(torch_or_pickle)[1]["error"]
    assert "N1.5" not in service.receive(b"\xc1\xc1")[1]["error"]
    assert not caplog.records


LONG = "\N{PILE OF POO}" * 1500
"""Shorter than an instruction may be, and like nothing that a server says by itself."""


@pytest.mark.parametrize(
    "spoil",
    [
        lambda o: {LONG: 1},
        lambda o: {LONG + str(i): 1 for i in range(50)},
        lambda o: o | {"language": {LONG: [["a"]]}},
        lambda o: o | {"language": {key: [[[LONG]]] for key in o["language"]}},
        lambda o: o | {"video": dict.fromkeys(o["video"], LONG)},
        lambda o: o | {"state": {key: [[LONG, 1], [2]] for key in o["state"]}},
        lambda o: o | {"step": LONG},
        lambda o: o | {"video": LONG, "state": {}},
        lambda o: LONG,
    ],
    ids=["key", "keys", "language key", "text", "picture", "ragged", "step", "part", "observation"],
)
def test_an_error_repeats_at_most_two_hundred_letters(
    service: Service, observation: Observation, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert error(service, spoil(observation), caplog).count(LONG[0]) <= MOST_ECHO


@pytest.mark.parametrize(
    "request_",
    [
        {"endpoint": LONG},
        {"endpoint": [LONG]},
        {"endpoint": "get_action", "data": LONG},
        {"endpoint": "get_action", "client": LONG},
        {"endpoint": "reset", "data": {"options": {LONG: LONG, "seed": LONG}}},
        {"endpoint": "reset", "data": {"options": LONG}},
        {"endpoint": "get_action", "data": {b"__npgeneric__": True, b"data": LONG, b"dtype": LONG}},
        {"endpoint": "get_action", "data": {b"__ndarray__": True, b"data": b"", b"dtype": LONG, b"shape": [0]}},
    ],
)
def test_nor_does_one_about_the_request_itself(service: Service, request_: Any) -> None:
    request, reply = service.receive(msgpack.packb(request_))
    reply = reply if isinstance(reply, dict) else service.answer(request)
    assert "error" in reply or reply == {}
    assert str(reply).count(LONG[0]) <= MOST_ECHO


def test_many_rows_are_not_repeated(service: Service, observation: Observation) -> None:
    reply = asked(service, observation, options={"rows": list(range(9000))})
    assert "but need 1 different numbers" in reply["error"]
    assert len(reply["error"]) < MOST_ECHO + 200
