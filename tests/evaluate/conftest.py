"""A dataset with a policy for it, and a page in headless Chromium: inside a frame of the width of a phone or a screen,
with what a script measures in it.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.training.experiment import Experiment

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
LAYOUT = """
  const sizes = [...page.querySelectorAll("p, li, td, th, h1, h2, figcaption, dt, dd")]
    .filter(e => e.textContent.trim() && e.offsetParent).map(e => parseFloat(getComputedStyle(e).fontSize));
  const wide = [...page.body.querySelectorAll("*")].filter(e => !e.closest(".scroll, svg"))
    .filter(e => e.getBoundingClientRect().right > frame.clientWidth + 1).map(e => e.tagName);
  Object.assign(found, {
    scroll: page.documentElement.scrollWidth, width: frame.clientWidth, smallest: Math.min(...sizes),
    texts: sizes.length, wide, title: page.title, pictures: page.images.length,
    broken: [...page.images].filter(e => !e.naturalWidth).length
  });
"""
"""What every page is measured for: sideways scrolling, small text, missing pictures."""
PROBE = """<script>addEventListener("load", () => setTimeout(async () => {{
  const frame = document.querySelector("iframe"), page = frame.contentDocument, found = {{}};
  const rest = () => new Promise(done => setTimeout(done, 200));
  try {{ {script} }} catch (error) {{ found.error = String(error); }}
  const pre = document.createElement("pre");
  pre.id = "found";
  pre.textContent = JSON.stringify(found);
  document.body.append(pre);
}}, 300))</script>"""


@pytest.fixture(scope="session")
def dataset(small_kitchen: Path) -> LeRobotDataset:
    return LeRobotDataset.open(small_kitchen)


@pytest.fixture(scope="session")
def policy(small_kitchen: Path) -> Policy:
    """Fresh weights with streams that say something. Who changes it puts it back."""
    experiment = Experiment.prepare(small_kitchen, seed=0)
    model = experiment.model(use_sheaf_streams=True)
    assert model.svms is not None
    torch.manual_seed(1)
    torch.nn.init.normal_(model.svms.merge.weight, std=0.2)
    return experiment.policy(model)


@pytest.fixture(scope="session")
def browser() -> str:
    """Its path, or skip."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium on this machine")
    return found


@pytest.fixture(scope="session")
def show(browser: str) -> Callable[..., tuple[dict, list[str]]]:
    """`show(page, folder, width, script)`."""
    return partial(_show, browser)


def _show(browser: str, page: Path, folder: Path, width: int, script: str = "") -> tuple[dict, list[str]]:
    """What `script` and the layout say of the document `page`, and every line of the console."""
    frame = folder / "frame.html"
    inner = f'<iframe src="{page.name}" width={width} height=900 style="border:0"></iframe>'
    frame.write_text(f"<body>{inner}{PROBE.format(script=LAYOUT + script)}", encoding="utf-8")
    flags = [*FLAGS, f"--user-data-dir={folder / 'profile'}", "--allow-file-access-from-files", "--dump-dom"]
    flags += ["--enable-logging=stderr", "--virtual-time-budget=6000", "--window-size=1300,1000"]
    done = subprocess.run([browser, *flags, frame.as_uri()], check=True, capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-500:]
    lines = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")), lines
