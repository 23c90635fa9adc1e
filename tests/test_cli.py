"""What a user meets at the command line: help, one-sentence errors with exit code 2, and nothing lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from svms_gr00t.cli.main import main

KITCHEN = Path(__file__).parents[1] / "src" / "svms_gr00t" / "assets" / "kitchen"


def run(*args: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    return int(stopped.value.code or 0)


@pytest.mark.parametrize("command", ["demo", "train", "inspect", "labels"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    assert "usage: svms-gr00t" in capsys.readouterr().out


def test_a_missing_dataset_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "--dataset-path", tmp_path / "nowhere", "--output-dir", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "nowhere" in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_an_unknown_preset_lists_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "--dataset-path", KITCHEN, "--preset", "huge", "--output-dir", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "'tiny'" in error
    assert "'n1d6'" in error


def test_an_output_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    assert run("demo", "--smoke", "--output-dir", tmp_path / "file" / "demo") == 2
    assert "error:" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_an_output_folder_of_other_settings_is_refused_and_untouched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text('{"seed": 5}\n')
    assert run("demo", "--smoke", "--rollouts", 0, "--output-dir", tmp_path) == 2
    assert "other settings" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_a_missing_simulator_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['robosuite'] = None\n"
        "from svms_gr00t.cli.main import main\n"
        f"main(['sim', 'record', '--output-dir', {str(tmp_path / 'd')!r}, '--episodes', '1'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "svms-gr00t[sim]" in done.stderr
    assert not (tmp_path / "d").exists()


def test_inspect_shows_what_each_phase_trains(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", "--format", "json") == 0
    stages = {stage["name"]: stage for stage in json.loads(capsys.readouterr().out)}
    assert stages["streams"]["trainable"] == {"specialise": 1.0, "couple": 1.0, "end to end": 1.0}
    assert stages["backbone"]["trainable"]["couple"] == 0
    assert 0 < stages["action head"]["trainable"]["couple"] < 1 == stages["action head"]["trainable"]["end to end"]


def test_verify_says_pass_and_fail_by_its_exit_code(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = shared / "golden" / "full_plain_dit"
    assert run("checkpoint", "verify", case, "--json") == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    assert run("checkpoint", "verify", case, "--json", "--tolerance", "1e-12") == 1


def test_shipped_demonstrations_cover_every_task() -> None:
    from svms_gr00t.sim.tasks.suites import TASKS

    starts = [json.loads(p.read_text())["task"] for p in sorted(KITCHEN.glob("extras/*/episode.json"))]
    assert set(starts) == set(TASKS)
    assert len(starts) == 54


def test_a_log_file_tells_how_long_it_will_still_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from svms_gr00t.cli import console

    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(console, "console", console.Console(file=sys.stdout))
    with console.Bars().task("work", 10) as bar:
        bar.advance(2)  # found done by a resumed run
        for _ in range(8):
            bar.advance()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "work (10)"
    # Half-minute lines at steps of 20 s: every second step, 20 s for each step that is left.
    assert lines[1:] == [f"work {n}/10, {(10 - n) * 20} s left" for n in (3, 5, 7, 9)]
