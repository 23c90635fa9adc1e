"""The viewer in a real browser: sliders move everything, the console stays empty, a phone shows it, names stay text."""

from dataclasses import replace

import pytest
from test_view import poisoned

from svms_gr00t.evaluate.viewer import page
from svms_gr00t.evaluate.viewer.page import save_view

MOVE = """
  const $ = (id) => page.getElementById(id);
  const set = (id, value) => { $(id).value = value; $(id).dispatchEvent(new Event("input")); };
  const look = () => ({
    which: $("which").textContent, when: $("when").textContent, saying: $("saying").textContent,
    picture: page.querySelector("#cameras img").src, caption: page.querySelector("#cameras figcaption").textContent,
    cursor: page.querySelector("#action .plot i").style.left,
    chunk: page.querySelector("#action path.now").getAttribute("d"),
    legend: page.querySelector("#action .legend li").textContent, cards: page.querySelectorAll(".panels .card").length,
    words: [...page.querySelectorAll("#words li > span:first-child")].map((e) => e.textContent),
    shares: page.querySelectorAll("#words li small")[1].textContent,
    panels: page.querySelector("#action path").getAttribute("d")
  });
  found.first = look();
  set("step", 21);
  found.later = look();
  set("episode", 1);
  found.other = look();
  const plot = page.querySelector("#state .plot"), edge = plot.getBoundingClientRect();
  plot.setPointerCapture = () => {};
  plot.dispatchEvent(new PointerEvent("pointerdown", { clientX: edge.right, pointerId: 1 }));
  found.clicked = look();
  $("play").click();
  await rest();
  found.played = { text: $("play").textContent, step: Number($("step").value) };
  $("play").click();
  found.stopped = $("play").textContent;
"""
NAMES = """
  found.bad = page.querySelectorAll(".bad, [onerror]").length;
  found.saying = page.getElementById("saying").textContent;
  found.legend = page.querySelector("#state .legend li").textContent;
  found.heading = page.querySelector("#state h3").textContent;
"""


def test_sliders_move_everything(show, watched, tmp_path):
    path = save_view(watched, tmp_path / "view.html")
    found, console = show(path, tmp_path, 1200, MOVE)
    assert console == []
    assert "error" not in found
    first, later, other, clicked = (found[name] for name in ("first", "later", "other", "clicked"))
    one, two = watched.episodes
    assert first["which"] == "3 (held out), 1 of 2"
    assert first["saying"] == one.sayings[0].text
    assert first["words"] == [word.text for word in one.sayings[0].words]
    assert first["cards"] == len(one.panels) + 2
    assert first["picture"] == one.cameras[0].pictures[0]
    assert later["picture"] == one.cameras[0].pictures[10], "steps 0, 2, ..., 20"
    assert later["caption"].endswith("step 20")
    assert later["when"].startswith(f"21 of {one.length - 1}, 1.05 s")
    assert float(later["cursor"].rstrip("%")) == pytest.approx(100 * 21 / (one.length - 1), abs=1e-3)
    assert later["chunk"].startswith("M16 "), "the chunk in force was made at step 16"
    arm = next(panel for panel in one.panels if panel.kind == "action")
    shown = [float(part) for part in later["legend"].replace("−", "-").strip(")").replace("(", "").split()[1:]]
    assert shown == pytest.approx([arm.values[0][21], one.plans[2].chunk[arm.name][0][21 - 16]], rel=6e-3)
    assert later["shares"] == " ".join(str(int(100 * share + 0.5)) for share in one.plans[2].words[0])
    assert other["which"].startswith("1, 2 of 2")
    assert other["picture"] == two.cameras[0].pictures[0]
    assert other["panels"] != first["panels"]
    assert clicked["when"].startswith(f"{two.length - 1} of {two.length - 1}")
    assert found["played"]["text"] == "Stop"
    assert 0 < found["played"]["step"] < two.length - 1, "from the end it begins again"
    assert found["stopped"] == "Play"


AGES = """
  const $ = (id) => page.getElementById(id);
  found.head = $("streams-head").textContent;
  const memory = [...page.querySelectorAll("#streams .card")].at(-1);
  found.cells = memory.querySelectorAll("rect").length;
  $("step").value = 24;
  $("step").dispatchEvent(new Event("input"));
  found.most = memory.querySelector(".legend li").textContent;
"""


def test_memory_is_a_picture_of_where_it_looks(show, watched, tmp_path):
    def remembers(one):
        backs = [min(number, 2) for number in range(len(one.plans))]
        shares = [{8 * k: 0.1 for k in range(back + 1)} | {0: 0.5, 8 * back: 0.7} for back in backs]
        plans = (replace(plan, ages=ages) for plan, ages in zip(one.plans, shares, strict=True))
        return replace(one, plans=tuple(plans))

    found, console = show(
        save_view(replace(watched, episodes=tuple(map(remembers, watched.episodes))), tmp_path / "view.html"),
        tmp_path,
        390,
        AGES,
    )
    assert console == []
    assert "error" not in found
    assert found["head"] == "Streams and memory"
    assert found["cells"] == 1 + 2 + 3 * (len(watched.episodes[0].plans) - 2)
    assert found["most"] == "most 16 steps back 70 %"
    assert found["wide"] == []


def test_a_phone_can_read_it(show, watched, tmp_path):
    path = save_view(watched, tmp_path / "view.html")
    found, console = show(path, tmp_path, 390)
    assert console == []
    assert found["scroll"] <= found["width"] == 390
    assert found["wide"] == []
    assert found["broken"] == 0
    assert found["pictures"] == 3
    assert found["smallest"] >= 11


@pytest.mark.whole
def test_names_from_a_dataset_are_text(show, watched, tmp_path, monkeypatch):
    bad = poisoned(watched)
    found, console = show(save_view(bad, tmp_path / "view.html"), tmp_path, 390, NAMES)
    assert console == []
    assert found["bad"] == 0
    assert found["saying"] == bad.title
    assert found["legend"].startswith(bad.title)
    assert found["heading"].startswith(bad.title)
    assert found["scroll"] <= 390, "long names break"
    monkeypatch.setattr(page, "_inert", page.Markup)  # mutant: JSON as it is
    found, console = show(save_view(bad, tmp_path / "view.html"), tmp_path, 390, NAMES)
    assert found["bad"] > 0
    assert console != [], "its own script finds no data, and the policy stops what was smuggled in"
