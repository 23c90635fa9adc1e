"""The doctor finds what was planted, names the episodes, says what to do, and finds nothing in sound data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omron_dataset import STEPS, write_omron

from svms_gr00t.cli.main import parse
from svms_gr00t.data.doctor.examine import CHECKS, examine
from svms_gr00t.data.doctor.finding import Report
from svms_gr00t.data.lerobot.robocasa import ACTION_ORDERS


def errors(report: Report) -> list[str]:
    return [f"{finding.check}: {finding.found}" for finding in report.findings if finding.severity != "note"]


def test_sound_data_is_healthy(tmp_path: Path, shared: Path) -> None:
    assert errors(examine(write_omron(tmp_path / "set"))) == []
    real = examine(shared / "robot_sim.PickNPlace")
    assert [finding.check for finding in real.findings if finding.severity != "note"] == ["seek"]
    assert "208 frames" in real.of("seek")[0].found
    assert {"left_leg", "neck"} <= set(real.of("idle")[0].found.replace(",", "").split())


def planted(name: str) -> Any:
    def change(index: int, columns: dict[str, np.ndarray], videos: dict[str, np.ndarray]) -> None:
        state, action = columns["observation.state"], columns["action"]
        if name == "quaternion scale":
            state[:, 3:7] *= 1.5
        if index != 1:
            return
        if name == "sign flip":
            state[10:, 10:14] *= -1
        elif name == "position jump":
            state[12:, 0] += 0.8
        elif name == "turn":
            state[12:, 10:14] = state[12:, [13, 12, 11, 10]]
        elif name == "mixed coding":
            action[:, 11] = action[:, 11] > 0
        elif name == "stuck camera":
            videos["observation.images.robot0_eye_in_hand"][:] = videos["observation.images.robot0_eye_in_hand"][0]
        elif name == "black camera":
            videos["observation.images.robot0_eye_in_hand"][:] = 0

    return change


FAULTS = {
    "quaternion scale": ("quaternion", "error", "0.5 away from 1", (0, 1, 2)),
    "sign flip": ("quaternion", "warning", "flips at 1 of 87 steps", (1,)),
    "position jump": ("jump", "warning", "jumps by 0.80 m after step 11 of episode 1", (1,)),
    "turn": ("jump", "warning", "rad after step 11 of episode 1", (1,)),
    "mixed coding": ("coding", "error", "different codings: -1/1, 0/1", (1,)),
    "stuck camera": ("stuck", "error", "every picture equals the first", (1,)),
    "black camera": ("picture", "error", "of one colour", (1,)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_where_it_is(tmp_path: Path, name: str) -> None:
    check, severity, text, episodes = FAULTS[name]
    report = examine(write_omron(tmp_path / "set", episodes=3, change=planted(name)))
    found = [finding for finding in report.of(check) if finding.severity == severity and text in finding.found]
    assert found, errors(report)
    assert found[0].episodes == episodes


@pytest.mark.parametrize("order", ACTION_ORDERS)
@pytest.mark.parametrize("said", ACTION_ORDERS)
def test_the_action_order_is_read_from_the_numbers(tmp_path: Path, order: Any, said: Any) -> None:
    report = examine(write_omron(tmp_path / "set", order=order, said=said))
    wrong = [finding for finding in report.of("order") if finding.severity == "error"]
    assert bool(wrong) == (order != said)
    if wrong:
        assert f"in {order} order, but modality.json says {said}" in wrong[0].found
        gripper = ACTION_ORDERS[order]["gripper_close"]
        assert f"gripper_close {gripper['start']}:{gripper['end']}" in wrong[0].todo


def test_an_order_that_the_numbers_do_not_tell_is_no_error(tmp_path: Path) -> None:
    def silent(_index: int, columns: dict[str, np.ndarray], _videos: dict[str, np.ndarray]) -> None:
        columns["action"][:] = 0.5

    report = examine(write_omron(tmp_path / "set", change=silent))
    assert [finding.severity for finding in report.of("order")] == ["note"]


def edit_json(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_metadata_faults_do_not_hide_each_other(tmp_path: Path) -> None:
    root = write_omron(tmp_path / "set")
    modality = json.loads((root / "meta/modality.json").read_text())
    modality["state"]["gripper_qpos"]["end"] = 18
    modality["state"]["base_rotation"]["end"] = 6
    modality["video"]["wrist"] = {}
    modality["action"]["torso"] = {"start": 3, "end": 4}
    (root / "meta/modality.json").write_text(json.dumps(modality))
    edit_json(root / "meta/info.json", total_episodes=9)
    with (root / "meta/tasks.jsonl").open("a") as file:
        file.write('{"task_index": 5, "task": "OpenDrawer"}\n')
    path = root / "data/chunk-000/episode_000001.parquet"
    table = pq.read_table(path)
    times = pa.array(np.arange(STEPS) / 10, pa.float32())
    pq.write_table(table.set_column(table.column_names.index("timestamp"), "timestamp", times), path)
    report = examine(root)
    text = "\n".join(f"{finding.severity} {finding.check} {finding.found}" for finding in report.findings)
    for line in (
        "error modality state.gripper_qpos ends at 18 of 16",
        "error modality video.wrist is read from observation.images.wrist",
        "error modality state.base_rotation is 3 numbers wide, but quaternion has 4",
        "warning modality action[3] is both base_motion and torso",
        "note modality observation.state[6:7, 14:16] has no state name",
        "warning totals total_episodes 9, but 2 are listed",
        "note totals total_tasks 1, but the list has 2 (also 'OpenDrawer')",
        "warning times timestamps",
        "warning tasks task indices 1, 2, 3, 4 are missing",
    ):
        assert line in text
    (root / "meta/modality.json").unlink()
    report = examine(root)
    assert "data init-modality" in report.of("modality")[0].todo
    assert not report.of("order")


def test_rows_that_stand_still_while_the_robot_is_commanded(tmp_path: Path) -> None:
    def stuck(index: int, columns: dict[str, np.ndarray], videos: dict[str, np.ndarray]) -> None:
        if index == 1:
            for table in (columns, videos):
                for name, rows in table.items():
                    table[name] = np.concatenate([rows] * 3)
            columns["observation.state"][:50] = columns["observation.state"][0]

    report = examine(write_omron(tmp_path / "set", change=stuck))
    assert report.of("stuck")[0].episodes == (1,)


def test_statistics_of_other_data_are_noticed(tmp_path: Path) -> None:
    root = write_omron(tmp_path / "set")
    stats = json.loads((root / "meta/stats.json").read_text())
    stats["action"]["max"][11] = 0.5
    (root / "meta/stats.json").write_text(json.dumps(stats))
    assert examine(root).of("statistics")[0].found == "action.gripper_close leave the stored range"
    (root / "meta/stats.json").unlink()
    assert [finding.severity for finding in examine(root).of("statistics")] == ["note"]


def test_the_command_prints_json_and_fails_on_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], small_kitchen: Path
) -> None:
    assert parse(["data", "doctor", str(small_kitchen), "--json"]).run() == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["healthy"], report["episodes"], report["examined"]) == (True, 9, 9)
    assert all(finding["todo"] for finding in report["findings"])
    root = write_omron(tmp_path / "set", said="eef-first")
    assert parse(["data", "doctor", str(root), "--episodes", "1"]).run() == 1
    shown = capsys.readouterr().out
    assert "error order: action" in shown
    assert "looked into 1 of 2 episodes" in shown
    assert parse(["data", "doctor", str(tmp_path / "nothing")]).run() == 1


def test_every_check_has_a_name_of_its_own() -> None:
    assert len({check.__name__ for check in CHECKS}) == len(CHECKS)
