"""The viewer holds what was recorded and what the policy says, and nothing of a dataset can become markup."""

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from svms_gr00t.cli.main import parse
from svms_gr00t.core.errors import ConfigError, DataError, MissingExtra
from svms_gr00t.core.history import History
from svms_gr00t.core.protocols import bare_keys, fixed_seed
from svms_gr00t.data.labels.labeler import Labeler
from svms_gr00t.data.labels.own import OwnLabeler
from svms_gr00t.evaluate.open_loop.recorded import recorded
from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig
from svms_gr00t.evaluate.open_loop.trajectories import trace
from svms_gr00t.evaluate.viewer.page import render_view
from svms_gr00t.evaluate.viewer.record import Recording
from svms_gr00t.evaluate.viewer.rerun import save_rerun
from svms_gr00t.evaluate.viewer.watch import watch
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.demo.config import DemoConfig
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.config import TrainConfig
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.recipes.training.held_out import data_of
from svms_gr00t.recipes.training.run import run_training


def test_recorded_numbers_and_pictures_are_those_of_the_dataset(dataset, watched):
    one = watched.episodes[0]
    rows, length = dataset.lowdim(3), dataset.episode(3).length
    assert (one.index, one.length, one.split, watched.episodes[1].split) == (3, length, "held out", "")
    for panel in one.panels:
        np.testing.assert_allclose(np.array(panel.values).T, rows[f"{panel.kind}.{panel.name}"], rtol=1e-3, atol=1e-9)
    assert {f"{p.kind}.{p.name}" for p in one.panels} | set(one.still) == set(rows)
    assert "action.control_mode" in one.still
    assert one.steps == tuple(range(0, length, 2)), "at most 40 of them"
    wrist = next(camera for camera in one.cameras if camera.name == "res256_image_wrist_0")
    shown = Image.open(io.BytesIO(base64.b64decode(wrist.pictures[5].partition(",")[2])))
    truth = dataset.frames(3, wrist.name, [10, 40]).astype(float)
    far = [np.abs(np.asarray(shown, float) - frame).mean() for frame in truth]
    assert far[0] < 6 < far[1], "the frame of step 10, to within its compression"


def test_chunks_are_those_that_open_loop_scores(dataset, policy, watched):
    statistics = policy.processor.statistics[policy.processor.config.embodiment_tag]
    drawn = trace(policy, dataset, 3, statistics=statistics, config=OpenLoopConfig(executed=8))
    for key, rows in drawn.predicted.items():
        pieces = [np.array(plan.chunk[key]).T[:8] for plan in watched.episodes[0].plans]
        np.testing.assert_allclose(np.concatenate(pieces)[: len(rows)], rows, rtol=2e-3, atol=1e-4)


def test_evidence_is_what_the_policy_said_at_that_step(dataset, policy, watched):
    plan = watched.episodes[0].plans[2]
    assert plan.step == 16
    seen = recorded(dataset, 3).at([16])
    chunks, said = policy.act(seen, seeds=[fixed_seed(0, 3, 16)])
    np.testing.assert_allclose(
        np.array(plan.chunk["gripper_close"]).T, bare_keys(chunks[0])["gripper_close"], rtol=2e-3, atol=1e-4
    )
    real = said["mask"][0] > 0
    np.testing.assert_allclose(plan.rho, said["rho"][0][real].mean(0), rtol=2e-3)
    np.testing.assert_allclose(plan.routes, said["weights"][0][real].mean(0), rtol=2e-3)
    words = watched.episodes[0].sayings[0].words
    assert [word.text for word in words] == ["turn", "off", "the", "stove"]
    assert len(plan.words) == 4
    where = [i for i, token in enumerate(said["tokens"][0]) if token.strip() == "stove"]
    assert len(where) == 1
    np.testing.assert_allclose(plan.words[3], said["weights"][0][where[0]], rtol=2e-3)
    assert watched.streams == ("visual", "temporal", "state")
    assert len(watched.edges) == len(plan.rho)


def test_words_have_the_labels_of_the_labeler(watched):
    text = watched.episodes[0].sayings[0].text
    spans = Labeler()(text.lower())
    assert [len(word.labels) > 0 for word in watched.episodes[0].sayings[0].words] == [any(v) for _, _, v in spans]
    assert watched.episodes[0].sayings[0].words[3].labels == ("visual",)


WAREHOUSE = """
[visual]
words = "stove"
[safety]
words = "careful*"
phrases = "turn off; the stove"
"""


def test_words_have_the_labels_of_the_policys_own_lexicon(dataset, small_kitchen, tmp_path):
    """Not those of the package: it says which stream a word was taught to."""
    labeler = OwnLabeler.parse(WAREHOUSE)
    found = watch(dataset, [3], title="x", stride=60, labeler=labeler)
    assert found.labels == ("visual", "safety")
    said = {word.text: word.labels for word in found.episodes[0].sayings[0].words}
    assert said == {"turn": ("safety",), "off": ("safety",), "the": ("safety",), "stove": ("safety",)}
    run = tmp_path / "run"
    values = {"base_model_path": str(shipped("tiny_base")), "max_steps": (1,), "global_batch_size": (4,)}
    (tmp_path / "own.toml").write_text(WAREHOUSE.replace("[safety]", "[temporal]"), encoding="utf-8")
    config = TrainConfig(dataset_path=str(small_kitchen), lexicon=str(tmp_path / "own.toml"), phases=(1,), **values)
    run_training(config, run)
    out = tmp_path / "v.html"
    assert parse(["view", str(run), "--output", str(out), "--episodes", "3", "--stride", "60"]).run() == 0
    shown = Recording.from_json(Reader(out.read_text(encoding="utf-8")).scripts[0][1])
    assert shown.labels == ("visual", "temporal")
    assert {word.labels for word in shown.episodes[0].sayings[0].words} == {("temporal",)}


@pytest.mark.parametrize("streams", [True, False], ids=["with streams", "alone"])
def test_a_policy_that_remembers_shows_where_it_looks(small_kitchen, dataset, streams):
    offsets = (-16, -8)
    changes = {"memory_offsets": offsets, "memory_only": not streams}
    experiment = Experiment.prepare(small_kitchen, seed=0, svms=changes)
    policy = experiment.policy(experiment.model(use_sheaf_streams=True))
    plans = watch(dataset, [3], title="x", policy=policy, stride=60).episodes[0].plans
    assert [sorted(plan.ages) for plan in plans[:4]] == [[0], [0, 8], [0, 8, 16], [0, 8, 16]]
    assert all(sum(plan.ages.values()) == pytest.approx(1, abs=1e-3) for plan in plans)
    seen = recorded(dataset, 3, History.of(policy)).at([24])
    said = policy.act(seen, seeds=[fixed_seed(0, 3, 24)])[1]["ages"][0]
    assert [plans[3].ages[back] for back in (16, 8, 0)] == pytest.approx(said.tolist(), abs=1e-3)
    assert bool(plans[0].rho) == streams


class Reader(HTMLParser):
    """Tags, and the text of each script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.scripts, self.policy = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        found = dict(attributes)
        if tag == "script":
            self.scripts.append([found, ""])
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"]

    def handle_data(self, text):
        if self.tags and self.tags[-1] == "script" and self.scripts[-1][1] == "":
            self.scripts[-1][1] = text


EVIL = "</script><b class=bad>x</b><img src=x onerror=alert(1)>&amp;\u2028"


def poisoned(recording: Recording) -> Recording:
    """Every text of the record is hostile."""

    def bad(value, key=""):
        if isinstance(value, dict):
            return {k: bad(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [bad(v, key) for v in value]
        return EVIL if isinstance(value, str) and key not in ("kind", "pictures") else value

    changed = Recording.from_json(json.dumps(bad(json.loads(recording.to_json()))))
    episodes = [
        replace(one, plans=tuple(replace(p, chunk={EVIL: next(iter(p.chunk.values()))}) for p in one.plans))
        for one in changed.episodes
    ]
    return replace(changed, episodes=tuple(episodes))


def test_the_page_is_one_file_whose_own_script_alone_may_run(watched):
    page = render_view(watched)
    found = Reader(page)
    (kind, data), (plain, script) = found.scripts
    assert kind == {"type": "application/json", "id": "data"}
    assert plain == {}
    assert Recording.from_json(data) == watched
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in found.policy
    assert found.policy.startswith("default-src 'none'")
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert len(page) < 400_000


def test_hostile_names_stay_text(watched):
    bad = poisoned(watched)
    found = Reader(render_view(bad))
    assert found.tags == Reader(render_view(watched)).tags
    assert Recording.from_json(found.scripts[0][1]) == bad


def test_the_command_shows_data_alone(small_kitchen, tmp_path, capsys):
    out = tmp_path / "view.html"
    arguments = ["view", str(small_kitchen), "--output", str(out)]
    assert parse([*arguments, "--count", "2", "--stride", "30", "--picture-size", "32"]).run() == 0
    said = capsys.readouterr().out
    found = Recording.from_json(Reader(out.read_text(encoding="utf-8")).scripts[0][1])
    assert f"{out.stat().st_size / 1e6:.1f} MB: 2 episodes, {found.pictures} pictures" in said.replace("\n", " ")
    assert [one.index for one in found.episodes] == [0, 8]
    assert found.episodes[0].steps[:2] == (0, 30)
    assert found.episodes[0].plans == ()
    assert found.policy == ""
    for flags, message in ((["--episodes", "99"], "episode 99"), (["--dataset-path", "x"], "before --dataset-path")):
        with pytest.raises(DataError, match=message):
            parse([*arguments, *flags]).run()
    for flag, named in (("--stride", "stride"), ("--count", "episodes"), ("--n-action-steps", "every")):
        with pytest.raises(ConfigError, match=named):
            parse([*arguments, flag, "0"]).run()


def test_the_command_shows_a_policy_beside_the_data_of_its_run(small_kitchen, tmp_path, capsys):
    """A demo names its data; a bare checkpoint does not, and says so."""
    with pytest.raises(DataError, match="--dataset-path"):
        parse(["view", str(shipped("tiny_base")), "--output", str(tmp_path / "x.html")]).run()
    demo = tmp_path / "demo"
    DemoConfig(dataset_path=str(small_kitchen)).save(demo / "config.json")
    Policy.from_pretrained(shipped("tiny_base")).save_pretrained(demo / "svms" / "policy")
    assert data_of(demo / "svms" / "policy") == small_kitchen
    out = tmp_path / "view.html"
    assert parse(["view", str(demo), "--output", str(out), "--count", "1", "--stride", "50"]).run() == 0
    found = Recording.from_json(Reader(out.read_text(encoding="utf-8")).scripts[0][1])
    assert found.policy == "demo"
    assert len(found.episodes[0].plans) == -(-found.episodes[0].length // 8)
    assert found.episodes[0].plans[0].rho == (), "a plain policy has no streams"


def test_rerun_is_an_extra_that_is_asked_for_by_name(small_kitchen, tmp_path, monkeypatch):
    monkeypatch.setattr("svms_gr00t.evaluate.viewer.rerun.find_spec", lambda name: None)
    arguments = ["view", str(small_kitchen), "--output", str(tmp_path / "v.html"), "--rerun", str(tmp_path / "v.rrd")]
    with pytest.raises(MissingExtra, match=r"svms-gr00t\[rerun\]"):
        parse(arguments).run()
    assert list(tmp_path.iterdir()) == [], "refused before anything is read"


def test_rerun_gets_a_recording(watched, tmp_path):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed; pip install 'svms-gr00t[rerun]'")
    path = save_rerun(watched, tmp_path / "view.rrd")
    assert path.read_bytes()[:3] == b"RRF"
    few = replace(watched, episodes=watched.episodes[:1])
    assert save_rerun(few, tmp_path / "few.rrd").stat().st_size < 0.8 * path.stat().st_size
