"""The report's opening: both policies in one scene, their success, and what the memory looked at."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageSequence
from report_sample import sample

from svms_gr00t.evaluate.closed_loop.episode import read_evidence
from svms_gr00t.evaluate.closed_loop.result import Replan, Rollout, RolloutResult, SensorCheck
from svms_gr00t.evaluate.closed_loop.strip import HEIGHT, LINE, RHO, Told, strip
from svms_gr00t.evaluate.closed_loop.video import BAR, GAP, LOST, RUNNING, WON, Clip, encode_gif, side_by_side
from svms_gr00t.evaluate.report.data import ReportData
from svms_gr00t.evaluate.report.figures import ages_figure, sensors_figure
from svms_gr00t.evaluate.report.html import render_html
from svms_gr00t.evaluate.report.view import clip_of

SIDE = 32


@pytest.fixture(scope="module")
def data() -> ReportData:
    return sample(episodes=2)


def film(steps: int, colour: int) -> bytes:
    """Grey that brightens from 0 to 5 x steps, `colour` in the blue channel."""
    frames = []
    for step in range(0, steps + 1, 4):
        frame = np.full((SIDE, SIDE, 3), 5 * step, np.uint8)
        frame[..., 2] = colour
        frames.append(frame)
    return encode_gif(frames)


def frames_of(gif: bytes) -> list[np.ndarray]:
    return [np.asarray(f.convert("RGB")).astype(int) for f in ImageSequence.Iterator(Image.open(io.BytesIO(gif)))]


def near(a: np.ndarray, b: tuple[int, int, int]) -> bool:
    return bool(np.abs(a - np.array(b)).max() < 24)  # a palette of 128 colours


def test_both_films_run_at_one_speed_and_say_how_they_ended() -> None:
    clips = [Clip(gif=film(20, 0), steps=20, success=True), Clip(gif=film(40, 200), steps=40, success=False)]
    shown = frames_of(side_by_side(clips))
    width = SIDE + 2 * GAP
    assert shown[0].shape == (SIDE + BAR, 2 * width, 3)
    middle, last = shown[len(shown) // 2], shown[-1]
    left, right = SIDE // 2, width + SIDE // 2
    assert near(middle[5, left], (100, 100, 0))  # at step 20 of 20
    assert near(middle[5, right], (100, 100, 200))  # at step 20 of 40
    assert near(last[5, left], (100, 100, 0))
    assert near(last[5, right], (200, 200, 200))
    assert near(shown[0][-2, left], RUNNING)
    assert near(last[-2, left], WON)
    assert near(middle[-2, right], RUNNING)
    assert near(last[-2, right], LOST)


def test_a_robot_that_stands_still_keeps_its_time() -> None:
    """Equal frames become one in a GIF: counted as one, the wait would be over at once."""
    still, moved = np.zeros((SIDE, SIDE, 3), np.uint8), np.full((SIDE, SIDE, 3), 200, np.uint8)
    waits = encode_gif([still] * 9 + [moved])
    assert len(frames_of(waits)) == 2
    clips = [Clip(gif=waits, steps=36, success=True), Clip(gif=film(36, 0), steps=36, success=True)]
    shown = frames_of(side_by_side(clips))
    assert len(shown) == 10
    dark = [near(frame[5, SIDE // 2], (0, 0, 0)) for frame in shown]
    assert dark == [True] * 9 + [False]


def test_stage_and_disagreement_stand_under_a_film_as_far_as_it_has_come() -> None:
    rho = ((0, 0.1), (16, 0.4), (32, 0.4))
    told = Told(name="svms", stages={0: "begins", 20: "goes on"}, rho=rho)
    assert [told.stage(step) for step in (0.0, 19.9, 20.0, 99.0)] == ["begins", "begins", "goes on", "goes on"]
    at = {now: strip(told, now, width=200, steps=40, top=0.4).astype(int) for now in (0.0, 16.0, 40.0)}
    curve = {now: np.abs(one[2 * LINE :] - np.array(RHO)).max(-1) < 40 for now, one in at.items()}
    ends = {now: int(np.flatnonzero(found.any(0)).max()) for now, found in curve.items() if found.any()}
    assert ends[40.0] > 190
    assert 70 < ends[16.0] < 95, "not further than now"
    tops = {now: int(np.flatnonzero(curve[now].any(1)).min()) for now in (16.0, 40.0)}
    assert tops[16.0] == tops[40.0] < 8, "0.4 of 0.4 is the top"
    assert not np.array_equal(at[0.0][:LINE], at[16.0][:LINE]), "the step counts"
    silent = strip(Told(name="plain"), 16.0, width=200, steps=40, top=0.4).astype(int)
    assert not (np.abs(silent - np.array(RHO)).max(-1) < 40).any(), "no streams, no curve"


def test_a_rollout_keeps_the_stages_that_its_environment_tells(data: ReportData) -> None:
    for one in data.closed_loop[0].rollouts:
        said = list(one.stages.values())
        assert said == sorted(set(said), key=["near the start", "half way", "there"].index)
        assert ("there" in said) == one.success
        assert max(one.stages) <= one.steps
    clip = clip_of(next(r for r in data.closed_loop[0].rollouts if r.video and r.replans), "svms")
    alone = frames_of(side_by_side([replace(clip, told=None)]))[-1]
    shown = frames_of(side_by_side([clip]))[-1]
    assert shown.shape == (2 * alone.shape[0] + HEIGHT, 2 * alone.shape[1], 3)


def test_the_page_opens_with_one_pair_a_task_and_success(data: ReportData) -> None:
    page = render_html(data)
    tasks = data.closed_loop[0].config.tasks
    assert page.count('class="film pair"') == len(tasks) == 2
    assert re.findall(r'film pair" src="[^"]*" alt="(\w+):', page) == list(tasks)
    order = [page.index(f'<section id="{name}"') for name in ("closed-loop", "comparison", "gates", "training")]
    assert order == sorted(order)
    first = {name: next(r for r in found.rollouts if r.task == tasks[0]) for name, found in by_name(data).items()}
    word = {True: "succeeds", False: "fails"}
    ours, theirs = first["svms"], first["plain"]
    says = f"svms {word[ours.success]} after {ours.steps} steps, plain {word[theirs.success]} after {theirs.steps}."
    assert says in page


def by_name(data: ReportData) -> dict[str, RolloutResult]:
    return {result.policy: result for result in data.closed_loop}


def test_without_films_or_a_second_policy_there_is_no_pair(data: ReportData) -> None:
    bare = tuple(replace(r, rollouts=tuple(replace(one, video=None) for one in r.rollouts)) for r in data.closed_loop)
    for changed in (bare, data.closed_loop[:1]):
        page = render_html(replace(data, closed_loop=changed))
        assert "film pair" not in page
        assert "What memory looks at" not in page


def remembering(shares: dict[int, dict[int, float]]) -> Rollout:
    plans = tuple(
        Replan(step=step, rho=(0.1,), rho_max=(0.2,), routes=(0.5, 0.5), ages=ages) for step, ages in shares.items()
    )
    return Rollout(task="t", index=0, seed=0, instruction="", success=True, steps=20, ending="success", replans=plans)


SHARES = {0: {0: 1.0}, 8: {8: 0.25, 0: 0.75}, 16: {16: 0.5, 8: 0.125, 0: 0.375}}


def test_a_cell_is_as_dark_as_its_share() -> None:
    def darkness(rollout: Rollout) -> list[float]:
        return sorted(float(x) for x in re.findall(r"var\(--accent\); opacity: ([\d.]+)", ages_figure(rollout)))

    whole = darkness(remembering(SHARES))
    assert whole == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.75])  # the cell of share 1 has no opacity to write
    other = darkness(remembering(SHARES | {8: {8: 0.75, 0: 0.25}, 16: {16: 0.625, 8: 0.125, 0: 0.25}}))
    assert other != whole


def test_the_page_shows_it_for_a_policy_that_remembers(data: ReportData) -> None:
    ours, *rest = data.closed_loop
    changed = replace(ours, rollouts=(replace(remembering(SHARES), task=ours.config.tasks[0]), *ours.rollouts))
    assert "What memory looks at" in render_html(replace(data, closed_loop=(changed, *rest)))


def test_steps_before_the_episode_have_no_share() -> None:
    info = {"rho": np.full((1, 2, 1), 0.1), "weights": np.full((1, 2, 2), 0.5), "ages": np.array([[0.0, 0.25, 0.75]])}
    found = read_evidence(info, 8, (-16, -8))
    assert found is not None
    assert found.ages == {8: 0.25, 0: 0.75}
    assert Replan.from_json(found.to_json()) == found
    del info["ages"]
    assert read_evidence(info, 8, (-16, -8)).ages == {}


def looked(rollout: Rollout, scores: list[float], threshold: float = 4.0) -> Rollout:
    looks = [SensorCheck(step=8 * i, score=s, threshold=threshold, residuals={}) for i, s in enumerate(scores)]
    return replace(rollout, sensors=tuple(looks))


def test_the_page_counts_alarms_of_both_in_the_first_scene_of_a_task(data: ReportData) -> None:
    task = data.closed_loop[0].config.tasks[0]
    scores = {"svms": [1.0, 4.5, 4.0], "plain": [9.0, 1e300, 2.0, 1.0]}  # a pair that is infinitely far apart
    watched = tuple(
        replace(r, rollouts=tuple(looked(o, scores[r.policy]) if o.task == task else o for o in r.rollouts))
        for r in data.closed_loop
        if r.policy in scores
    )
    page = render_html(replace(data, closed_loop=watched[::-1]))
    assert f"{task}, scene 0: the largest gap between sensors at each plan. Alarms: svms 1 of 3, plain 2 of 4." in page
    assert page.count("Alarms:") == 1
    assert "Alarms:" not in render_html(data)


def test_the_alarm_line_stands_at_the_threshold() -> None:
    """Half of the range's height for a score of twice the threshold, whatever the unit; 1e300 does not flatten it."""

    def heights(scores: list[float], threshold: float) -> list[float]:
        drawn = sensors_figure([("svms", looked(remembering(SHARES), scores, threshold))])
        line = re.search(r'<path d="M [\d.]+ ([\d.]+) \nL [\d.]+ ([\d.]+) *\n?" [^>]*stroke-dasharray', drawn)
        assert line is not None
        return [float(value) for value in line.groups()]

    small, large = heights([1.0, 2.0], 1.0), heights([100.0, 200.0], 100.0)
    assert small == pytest.approx(large)
    assert small[0] == small[1]
    assert heights([1.0, 1e300], 1.0) != small
    assert heights([1.0, 1e300], 1.0) == pytest.approx(heights([1.0, 3.0], 1.0))
