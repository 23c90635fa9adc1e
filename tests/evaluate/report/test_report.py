"""The page is self-contained, escapes what it is given, shows numbers of its data only, and says what is missing."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from report_sample import sample

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.evaluate.report.data import Cell, Comparison, Fact, Metric, PatchExample, PhaseCurves, ReportData, Row
from svms_gr00t.evaluate.report.format import cell_effect, percent, plain, signed, verdict
from svms_gr00t.evaluate.report.html import render_html, save_report
from svms_gr00t.evaluate.report.markdown import render_markdown
from svms_gr00t.evaluate.statistics.stats import Interval


@pytest.fixture(scope="module")
def data() -> ReportData:
    return sample()


@pytest.fixture(scope="module")
def html(data) -> str:
    return render_html(data)


class Reader(HTMLParser):
    """Visible text, attributes that load something, and tags that were opened and never closed."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.loads, self.open, self.ids = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.loads += [(tag, found[name]) for name in ("src", "href", "action", "data", "srcset") if found.get(name)]
        self.ids += [found["id"]] if "id" in found else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if not {"style", "svg", "script"} & set(self.open):
            self.text.append(text)


def test_nothing_comes_from_outside(html):
    """Sources are data: addresses, links stay on the page, and no other address appears anywhere."""
    reader = Reader(html)
    assert reader.loads
    assert {tag for tag, value in reader.loads if not value.startswith(("data:", "#"))} == set()
    assert "http" not in html
    assert "<script" not in html
    assert "@import" not in html
    assert set(re.findall(r"url\(([^)]{1,2})", html)) <= {"#p", "#h", "#m"}, "clip paths and markers of the figures"
    assert reader.open == [], "every tag is closed"
    targets = {value[1:] for tag, value in reader.loads if tag == "a"}
    assert targets <= set(reader.ids)


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?", text.replace("gr00t", "").replace("GR00T", "")))


def spellings(value: object) -> set[str]:
    """Every way the page may write the numbers in a piece of data."""
    if isinstance(value, dict):
        return set().union(*(spellings(v) | spellings(k) for k, v in value.items()), set())
    if isinstance(value, list):
        return set().union(*(spellings(v) for v in value), set())
    if isinstance(value, str):
        return numbers(value) if len(value) < 400 else set()  # longer ones are pictures
    if isinstance(value, bool) or value is None:
        return set()
    number = float(value)
    written = {plain(number), percent(number), signed(number), signed(100 * number), str(value)}
    return set().union(*(numbers(text) for text in written))


def test_every_number_on_the_page_is_in_the_data(data, html):
    """Counts of successes and the overall rate are sums and intervals of episodes, so they are added by hand."""
    known = spellings(json.loads(data.to_json()))
    for result in data.closed_loop:
        for found in (*result.tasks.values(), result.overall):
            known |= spellings([found.successes, found.episodes])
    shown = numbers(" ".join(Reader(html).text))
    assert len(shown) > 60
    assert shown - known == set()
    assert numbers(" ".join(Reader(html.replace("0.118", "987.654")).text)) - known == {"987.654"}, "the test can fail"


def test_an_empty_report_says_so_everywhere():
    text = " ".join(Reader(render_html(ReportData(title="Nothing yet"))).text)
    assert text.count("not measured") >= 10
    assert numbers(text) == set()
    assert render_markdown(ReportData(title="Nothing yet")).count("not measured") >= 5


def test_what_users_wrote_is_text_not_markup(data):
    evil = "<script>alert(1)</script>"
    poisoned = replace(data, title=evil, summary=(evil,), passport=(Fact(name=evil, value=evil),), candidate=evil)
    page = render_html(poisoned)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    training = (PhaseCurves(name=f'"{evil}', steps=(0, 1), terms={evil: (1.0, 2.0), "$x": (1.0, 2.0)}),)
    assert "<script" not in render_html(replace(data, training=training)), "names inside figures"


def test_the_page_is_reproducible(data, html):
    assert render_html(data) == html
    assert render_html(ReportData.from_json(data.to_json())) == html


def test_saved_files(data, html, tmp_path):
    path = save_report(data, tmp_path / "report")
    assert path.read_text() == html
    assert path.stat().st_mode & 0o044, "others may read it"
    assert ReportData.load(path.with_suffix(".json")) == data
    summary = path.with_suffix(".md").read_text()
    assert all(line in summary for line in data.summary)
    assert len(html) < 1_500_000


def test_figures_follow_the_page_in_light_and_dark(html):
    """Inside figures every colour is a CSS variable, and every variable is defined."""
    drawn = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert len(re.findall("<svg", drawn)) >= 8
    assert not re.findall(r"(?:fill|stroke): #\w+", drawn)
    used, defined = set(re.findall(r"var\((--\w+)\)", html)), set(re.findall(r"(--\w+):", html))
    assert used <= defined


def test_verdicts_follow_the_interval_and_the_direction():
    lower, higher = Metric(name="error"), Metric(name="success", better="higher", percent=True)
    cells = {e: Cell(value=1.0, effect=Interval(estimate=e, low=e - 3, high=e + 3)) for e in (-9.0, 1.0, 9.0)}
    assert [verdict(cells[e], lower) for e in cells] == ["better", "unclear", "worse"]
    assert [verdict(cells[e], higher) for e in cells] == ["worse", "unclear", "better"]
    assert verdict(Cell(value=1.0), lower) == ""
    assert cell_effect(cells[-9.0], higher).replace("\N{NO-BREAK SPACE}", " ") == "−9.0 points (−12 to −6.0)"


NUMBERS = {0.12345: "0.123", 0.05: "0.0500", 12.34: "12.3", 1234.0: "1234", 0.0: "0", -0.5: "−0.500", 1e-7: "1.0e−07"}


@pytest.mark.parametrize(("value", "text"), [*NUMBERS.items(), (None, "not measured")])
def test_three_digits_that_matter(value, text):
    assert plain(value) == text


def test_comparison_puts_the_candidate_first_and_measures_against_the_reference(data):
    table = data.comparison
    assert [row.role for row in table.rows] == ["candidate", "reference", "control", "baseline", "baseline", "baseline"]
    svms, plain_row, control = table.rows[:3]
    assert svms.cells[0].effect.high < 0, "less noise, less error"
    assert all(cell.effect is None for cell in plain_row.cells), "the reference is not compared with itself"
    assert control.cells[-1] is None, "never driven: not measured"
    scores = next(r for r in data.open_loop if r.policy == "svms").scores
    assert svms.cells[0].value == pytest.approx(scores.executed_mse)


def test_misfits_are_refused(data):
    with pytest.raises(ConfigError, match="at most 5"):
        ReportData(title="", summary=("",) * 6)
    with pytest.raises(ConfigError, match="one a metric"):
        Comparison(metrics=(Metric(name="error"),), rows=(Row(name="a", role="control", cells=()),))
    with pytest.raises(ConfigError, match="one a step"):
        PhaseCurves(name="1", steps=(0, 1), terms={"flow": (1.0,)})
    broken = PatchExample(view="front", picture=b"no picture", routes=(((1.0,),),))
    with pytest.raises(DataError, match="no picture"):
        render_html(replace(data, patches=(broken,)))


@pytest.mark.parametrize("width", [390, 1200])
def test_chromium_shows_it_without_scrolling_sideways(data, tmp_path, width):
    """A page inside a frame of the width of a phone: its background must reach both edges, and ink must be on it."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine")
    save_report(data, tmp_path)
    frame = (
        f'<body style="margin:0;background:#f0f"><iframe src="report.html" width={width} height=2400 style="border:0">'
    )
    (tmp_path / "frame.html").write_text(frame)
    shot = tmp_path / "shot.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
    flags += ["--window-size=1300,2400", f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={shot}"]
    subprocess.run([browser, *flags, (tmp_path / "frame.html").as_uri()], check=True, capture_output=True, timeout=120)
    pixels = np.asarray(Image.open(shot).convert("RGB")).astype(int)[:2400, :width]
    paper = pixels[2, 2]
    assert (np.abs(pixels[:, 0] - paper).max(-1) == 0).mean() > 0.99, "nothing is cut off at the left edge"
    assert (np.abs(pixels[:, -1] - paper).max(-1) == 0).mean() > 0.99, "nothing runs out at the right edge"
    assert 0.03 < (np.abs(pixels - paper).max(-1) > 40).mean() < 0.5


def test_failed_gates_open_the_page_and_a_pass_gets_no_advice(data):
    passed, failed = data.gates[0], data.gates[2]
    page = render_html(replace(data, gates=(replace(passed, advice="Label more words."), failed)))
    opening = page[page.index('<section id="summary"') : page.index('<section id="closed-loop"')]
    assert failed.criterion.split("'")[0] in opening
    assert passed.criterion not in opening
    assert "Label more words." not in page
    assert "Train more seeds." in page
    assert "had to reach" not in page, "no gate stops a training"


def test_words_carry_numbers_and_a_uniform_picture_is_a_sentence(data):
    page = render_html(data)
    assert "<small>12 76 12</small>" in page
    same = replace(data.patches[0], routes=(((0.5, 0.3, 0.2),) * 5,) * 4)
    shown = render_html(replace(data, patches=(same,)))
    assert 'class="patches"' not in shown
    assert "front: every patch goes the same way, visual 50" in shown
    assert 'class="patches"' in page
