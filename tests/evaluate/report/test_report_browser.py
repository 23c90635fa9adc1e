"""The report in a real browser: nothing on its console, every picture there, readable at the width of a phone."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_sample import sample

from svms_gr00t.evaluate.report.html import save_report

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
PROBE = """<script>addEventListener("load", () => setTimeout(() => {
  const frame = document.querySelector("iframe"), page = frame.contentDocument, root = page.documentElement;
  const sizes = [...page.querySelectorAll("p, li, td, th, h1, h2, figcaption, dt, dd")]
    .filter(e => e.textContent.trim() && e.offsetParent).map(e => parseFloat(getComputedStyle(e).fontSize));
  const wide = [...page.body.querySelectorAll("*")].filter(e => !e.closest(".scroll, svg"))
    .filter(e => e.getBoundingClientRect().right > frame.clientWidth + 1).map(e => e.tagName);
  document.body.insertAdjacentHTML("beforeend", "<pre id=found>" + JSON.stringify({
    scroll: root.scrollWidth, width: frame.clientWidth, smallest: Math.min(...sizes), texts: sizes.length, wide,
    title: page.title, pictures: page.images.length, broken: [...page.images].filter(e => !e.naturalWidth).length
  }) + "</pre>");
}, 300))</script>"""


@pytest.fixture
def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium on this machine")
    return found


def show(browser: str, page: Path, folder: Path, width: int) -> tuple[dict, list[str]]:
    """What a page of that width measures, and every line of the console."""
    frame = folder / "frame.html"
    frame.write_text(f'<body><iframe src="{page.name}" width={width} height=900 style="border:0"></iframe>{PROBE}')
    flags = [*FLAGS, f"--user-data-dir={folder / 'profile'}", "--allow-file-access-from-files", "--dump-dom"]
    flags += ["--enable-logging=stderr", "--virtual-time-budget=4000", "--window-size=1300,1000"]
    done = subprocess.run([browser, *flags, frame.as_uri()], check=True, capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-500:]
    lines = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")), lines


def test_a_phone_can_read_it_and_the_console_stays_empty(browser, tmp_path):
    data = sample()
    page = save_report(data, tmp_path)
    found, console = show(browser, page, tmp_path, 390)
    assert console == []
    assert found["pictures"] > 0
    assert found["broken"] == 0
    assert found["title"] == data.title
    assert found["scroll"] <= found["width"] == 390, "nothing to scroll sideways"
    assert found["wide"] == []
    assert found["texts"] > 50
    assert found["smallest"] >= 11, "pixels of the smallest text"


def test_a_broken_page_is_noticed(browser, tmp_path):
    """Mutant: a missing picture, a script that throws, a table too wide for a phone."""
    page = tmp_path / "report.html"
    page.write_text(
        "<title>x</title><p>text</p><img src='missing.png'><script>throw new Error('broken')</script>"
        "<table style='width:900px'><tr><td>wide</td></tr></table>"
    )
    found, console = show(browser, page, tmp_path, 390)
    assert any("broken" in line for line in console)
    assert found["scroll"] > 390
    assert "TABLE" in found["wide"]
    assert found["broken"] == 1
