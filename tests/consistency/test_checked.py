"""A checked policy acts to the bit as before, remembers the last look of each robot, and says so in `info`."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from svms_gr00t.cli.evaluate.streams import unseen
from svms_gr00t.cli.main import main
from svms_gr00t.cli.serve import Serve
from svms_gr00t.consistency.checked import Checked
from svms_gr00t.consistency.file import check_lag, load, save
from svms_gr00t.core.errors import CheckpointError, ConfigError, DataError
from svms_gr00t.core.protocols import ActionPolicy
from svms_gr00t.evaluate.closed_loop.episode import read_sensors
from svms_gr00t.evaluate.closed_loop.result import SensorCheck
from svms_gr00t.evaluate.open_loop.baselines import split_lowdim
from svms_gr00t.evaluate.open_loop.recorded import Recorded
from svms_gr00t.evaluate.streams.study import study_detectors
from svms_gr00t.groot.checkpoint.loading import read_config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.monitor import CONSISTENCY, Judge
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.serve.service import Service
from svms_gr00t.serve.wire import pack, unpack


def seen(trained, steps: list[int], episode: int = 50) -> list[dict[str, Any]]:
    states, _ = split_lowdim(trained.dataset.lowdim(episode))
    found = Recorded(trained.dataset, episode, states, list(trained.dataset.instructions(episode))).at(steps)
    return [{key: value for key, value in one.items() if key != "step"} for one in found]


def asked(observations: list[dict[str, Any]]) -> dict[str, Any]:
    """As a client asks for several robots at once."""
    found: dict[str, Any] = {}
    for key in observations[0]:
        values = [one[key] for one in observations]
        if isinstance(values[0], str):
            found[key] = values
        else:
            found[key] = np.stack([np.asarray(v, np.float32) if key.startswith("state.") else v for v in values])[
                :, None
            ]
    return found


def test_no_bit_of_the_actions_changes(trained):
    checked, observations = Checked(trained.policy, trained.monitor), seen(trained, [0, 8])
    assert isinstance(checked, ActionPolicy)
    plain, _ = trained.policy.act(observations, seeds=[1, 2])
    chunks, said = checked.act(observations, seeds=[1, 2])
    for one, two in zip(plain, chunks, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], two[key])
    checked.reset({"seed": 0})
    action, _ = trained.policy.get_action(asked(observations), {"seeds": [1, 2]})
    other, info = checked.get_action(asked(observations), {"seeds": [1, 2]})
    for key in action:
        np.testing.assert_array_equal(action[key], other[key])
    np.testing.assert_allclose(info[CONSISTENCY]["score"], said[CONSISTENCY]["score"])
    assert not trained.policy.model.backbone._forward_hooks, "nothing is left behind"


def test_it_says_what_the_monitor_says_of_recorded_frames(trained):
    """Through pictures, request and hook the same residuals as from the table of the dataset."""
    (observation,) = seen(trained, [16])
    _, said = Checked(trained.policy, trained.monitor).act([observation], seeds=[0])
    frames, monitor = trained.frames, trained.monitor
    row = np.flatnonzero((frames.episode == 50) & (frames.step == 16))
    names = [edge.name for edge in monitor.facts.edges]
    told = monitor.see(frames.tokens[row])
    sections = {"visual": told[:, :11], "state": np.pad(frames.now[row], ((0, 0), (0, 1)))}
    for name in ("visual-state hand", "visual-state gripper"):
        edge = monitor.facts.edges[names.index(name)]
        found = said[CONSISTENCY]["edges"][name]
        np.testing.assert_allclose(found["residual"], edge.residual(sections), rtol=0.02, atol=0.02)
        assert found["unit"] == "cm"


def residual(info: dict[str, Any], row: int = 0) -> float:
    return float(info[CONSISTENCY]["edges"]["temporal-state hand"]["residual"][row])


def test_expectations_belong_to_a_robot_its_episode_and_the_right_distance_of_steps(trained):
    checked, (one, other) = Checked(trained.policy, trained.monitor), seen(trained, [0, 8])

    def ask(observation, step=None, **options):
        given = asked([observation]) | ({} if step is None else {"step": step})
        return residual(checked.get_action(given, {"seed": 0, **options})[1])

    assert np.isnan(ask(one)), "nothing is expected of a first look"
    assert np.isfinite(ask(other))
    assert np.isnan(ask(one, client="b")), "another client's robot is another robot"
    assert np.isnan(ask(one, rows=[3])), "and so is another row"
    checked.reset({"seed": 0})
    assert np.isnan(ask(one, step=0)), "a new episode"
    assert np.isfinite(ask(other, step=8))
    assert np.isnan(ask(other, step=11)), "three steps later is not what was trained"
    assert np.isfinite(ask(other, step=19))
    assert np.isfinite(ask(other, client="b")), "resetting one client is not resetting another"
    assert np.isnan(ask(one, step=0)), "steps that go back are a new episode"


def test_a_frozen_sensor_is_far_from_what_was_commanded(trained):
    """The state stays while chunks say that the hand moves: the residual is the way that it should have gone."""
    checked, (one,) = Checked(trained.policy, trained.monitor), seen(trained, [8])
    given = asked([one])
    action, _ = checked.get_action(given, {"seed": 0})
    _, info = checked.get_action(given, {"seed": 0})
    way = np.linalg.norm(action["end_effector_position"][0, :8].sum(0))
    assert way > 1, "it does command a motion"
    assert residual(info) > 2
    assert info[CONSISTENCY]["phase"][0].startswith("still")


def test_the_reply_of_a_server_holds_it_and_survives_the_wire(trained):
    service = Service(policy=Checked(trained.policy, trained.monitor), judge=Judge())
    request = {"endpoint": "get_action", "data": {"observation": asked(seen(trained, [0, 8]))}}
    for dialect in ("n1d6", "openpi"):
        _, info = unpack(pack(service.answer(unpack(pack(request, dialect))), dialect))
        said = info[CONSISTENCY]
        assert set(said) == {"alarm", "score", "p", "phase", "threshold", "edges"}
        assert set(said["edges"]) == {edge.name for edge in trained.monitor.facts.edges}
        assert len(said["alarm"]) == len(said["phase"]) == 2
        assert said["edges"]["visual-state hand"]["unit"] == "cm"
    assert service.errors == 0


def test_two_connections_of_a_server_share_no_expectation(trained):
    service = Service(policy=Checked(trained.policy, trained.monitor), judge=Judge())
    one, other = ({"data": {"observation": asked([seen])}} for seen in seen(trained, [0, 8]))
    assert np.isnan(residual(service.answer(one, "a")[1]))
    assert np.isnan(residual(service.answer(other, "b")[1]))
    assert np.isfinite(residual(service.answer(other, "a")[1]))


def test_a_robot_that_executes_another_number_of_steps_is_refused(trained):
    check_lag(trained.monitor.facts, 8, "here")
    with pytest.raises(ConfigError, match="monitor's lag, 8"):
        check_lag(trained.monitor.facts, 4, "here")


def test_another_backbone_or_other_pictures_are_refused(trained, small_kitchen):
    fresh = Experiment.prepare(small_kitchen, seed=0)
    with pytest.raises(CheckpointError, match="another backbone"):
        Checked(fresh.policy(fresh.model(use_sheaf_streams=False)), trained.monitor)
    (one,) = seen(trained, [0])
    wide = {k: np.repeat(v, 2, axis=1) if k.startswith("video.") else v for k, v in one.items()}
    with pytest.raises(DataError, match="image tokens"):
        Checked(trained.policy, trained.monitor).act([wide], seeds=[0])


def test_the_command_trains_shows_and_refuses(small_kitchen, tmp_path, capsys):
    path = tmp_path / "new" / "m.safetensors"
    asked = ["monitor", "train", "shipped", str(small_kitchen), "--output", str(path)]
    for more, code in ((["--alpha", "0.05"], 2), (["--alpha", "0.3", "--steps", "20", "--max-frames", "60"], 0)):
        with pytest.raises(SystemExit) as stopped:
            main([*asked, *more])
        assert stopped.value.code == code
    said = capsys.readouterr()
    assert "held-out episodes or more" in said.err
    assert load(path).facts.alpha == 0.3
    with pytest.raises(SystemExit) as stopped:
        main(["monitor", "show", str(path)])
    assert stopped.value.code == 0
    assert "visual-state rotation" in capsys.readouterr().out


@pytest.mark.whole
def test_the_study_of_a_plain_policy_shows_the_monitor_beside_the_others(trained, small_kitchen, tmp_path, capsys):
    path, page = save(trained.monitor, tmp_path / "m.safetensors"), tmp_path / "page.html"
    asked = ["--checkpoint", str(shipped("tiny_base")), "--dataset-path", str(small_kitchen)]
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "streams", *asked, "--validation", "0.45", "--monitor", str(path), "--html", str(page)])
    assert stopped.value.code == 0
    assert '<th scope="row">state 1 s stale</th>' in page.read_text()
    said = capsys.readouterr().out
    assert "state 1 s stale" in said
    assert "Paired difference of AUROC" in said


def test_a_monitor_is_not_tried_on_its_own_episodes(trained):
    everyone, facts = tuple(range(54)), trained.monitor.facts
    left = unseen(trained.monitor, trained.dataset, everyone)
    assert set(left) == set(everyone) - {*facts.train, *facts.spread, *facts.calibration}
    other = SimpleNamespace(facts=replace(facts, data="content:other"))
    assert unseen(other, trained.dataset, everyone) == everyone


def test_the_monitor_leads_on_staleness_and_needs_its_own_stride(trained):
    found = study_detectors(trained.policy, trained.dataset, trained.tried, draws=1, monitor=trained.monitor)[1]
    ours = found["state 1 s stale"]["consistency"]
    assert ours.auroc > 0.9
    others = {name: one for name, one in found["state 1 s stale"].items() if name != "consistency"}
    assert all(one.auroc < ours.auroc and one.behind.estimate > 0 for one in others.values())
    assert found["state 1 s stale"]["mahalanobis"].auroc == pytest.approx(0.5)
    with pytest.raises(ConfigError, match="lag"):
        study_detectors(trained.policy, trained.dataset, trained.tried, stride=4, monitor=trained.monitor)


def test_svms_on_the_same_backbone_is_served_with_rho_beside_it(trained):
    config = read_config(shipped("tiny_base"))
    sizes = {"d_stream": 48, "d_overlap": 24, "adapter_rank": 8}
    config = replace(config, use_sheaf_streams=True, **sizes)
    model = Gr00tN1d6.from_pretrained(shipped("tiny_base"), config=config)
    with torch.no_grad():
        model.svms.merge.weight.normal_(std=0.2)
    policy, given = Policy(model, trained.policy.processor), asked(seen(trained, [0, 8]))
    _, info = Checked(policy, trained.monitor).get_action(given)
    _, plain = Checked(trained.policy, trained.monitor).get_action(given)
    said = Judge()(info)
    assert {"rho", CONSISTENCY} <= said.keys()
    np.testing.assert_array_equal(
        said[CONSISTENCY]["score"], plain[CONSISTENCY]["score"], "it reads the backbone alone"
    )


def test_the_server_of_the_command_line_checks(trained, tmp_path):
    path = save(trained.monitor, tmp_path / "m.safetensors")
    service = Serve(model_path=str(shipped("tiny_base")), monitor=path)._service()
    _, info = service.answer({"data": {"observation": asked(seen(trained, [0]))}})
    assert info[CONSISTENCY]["threshold"] == trained.monitor.facts.threshold
    with pytest.raises(ConfigError, match="lag"):
        Serve(model_path=str(shipped("tiny_base")), monitor=path, n_action_steps=4)._service()


def test_a_rollout_keeps_what_the_monitor_said(trained):
    policy = Checked(trained.policy, trained.monitor)
    one, other = (policy.act([look], seeds=[0])[1] for look in seen(trained, [0, 8]))
    first, second = read_sensors(one, 0), read_sensors(other, 8)
    assert first.residuals["temporal-state hand"] is None
    assert second.residuals["temporal-state hand"] == pytest.approx(residual(other))
    assert (second.step, second.threshold) == (8, trained.monitor.facts.threshold)
    assert SensorCheck.from_json(second.to_json()) == second
    assert read_sensors({}, 0) is None
