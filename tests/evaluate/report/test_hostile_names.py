"""Names out of data change no page: outputs have the same structure with hostile names as with tame ones."""

import re
import shutil
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from report_sample import sample

from svms_gr00t.cli.main import main
from svms_gr00t.evaluate.comparison.run_facts import RunFacts
from svms_gr00t.evaluate.report.card import CardSource, render_card
from svms_gr00t.evaluate.report.data import Fact, ReportData
from svms_gr00t.evaluate.report.html import render_html
from svms_gr00t.evaluate.report.markdown import render_markdown
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.recipes.shipped import shipped

HOSTILE = (
    "</script><script>alert(1)</script>",
    "a|b`c\n\n# heading\n\n- list",
    '"><img src=x onerror=alert(1)> [x](http://a.b)',
    "```\n---\n<b>$\\frac{$</b>{{ 7 * 7 }}",
    "\x1b]0;owned\x07\u202e[/z][bold red]",
    "**x** _y_ ~~z~~ ![p](http://a.b) https://a.b",
    "\ud83d</td></tr></table>\x9b2J",
    "' onload='x",
)
NAMES = ("svms", "plain", "residual adapter", "right", "left", "front", "visual", "temporal")
"""Policies, tasks, a camera and streams of the sample."""
TAME = tuple(f"name{i}" for i in range(len(NAMES)))


def renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, tuple):
        return tuple(renamed(one, names) for one in value)
    if isinstance(value, dict):
        return {renamed(key, names): renamed(one, names) for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: renamed(getattr(value, f.name), names) for f in fields(value) if f.init})
    return value


def report(data: ReportData, words: tuple[str, ...]) -> ReportData:
    found = renamed(data, dict(zip(NAMES, words, strict=True)))
    passport = tuple(Fact(name=f"{i} {word}", value=word) for i, word in enumerate(words))
    return replace(found, title=words[0], subtitle=words[1], passport=passport, summary=words[:5])


@pytest.fixture(scope="module")
def pair() -> tuple[ReportData, ReportData]:
    """The same report with tame and with hostile names."""
    data = sample(episodes=3)
    return report(data, TAME), report(data, HOSTILE)


class Tags(HTMLParser):
    """Tags with the names of their attributes, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, *(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(f"/{tag}")


def tags(page: str) -> list[Any]:
    """Of an HTML page; a longer label of a figure may break into more lines and ticks."""
    parser = Tags()
    parser.feed(re.sub(r"<svg.*?</svg>", "<svg></svg>", page, flags=re.DOTALL))
    return parser.found


def blocks(page: str) -> list[str]:
    found = [token.type for token in MarkdownIt("gfm-like", {"linkify": False}).parse(page)]
    inside = [c.type for t in MarkdownIt("gfm-like", {"linkify": False}).parse(page) for c in t.children or []]
    return found + [kind for kind in inside if kind not in ("text", "text_special", "softbreak", "code_inline")]


def quiet(text: str) -> bool:
    """No character that moves a cursor or turns a line; it can be written."""
    text.encode()
    return not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def test_the_page_keeps_its_tags(pair: tuple[ReportData, ReportData]) -> None:
    tame, hostile = (render_html(data) for data in pair)
    assert quiet(hostile)
    assert tags(hostile) == tags(tame)
    figures = re.findall(r"<svg.*?</svg>", hostile, flags=re.DOTALL)
    assert figures
    allowed = {"svg", "g", "path", "use", "defs", "text", "clippath", "rect", "image", "tspan", "style"}
    seen = Tags()
    seen.feed("".join(figures))
    assert {tag[0] for tag in seen.found if isinstance(tag, tuple)} <= allowed
    assert not [tag for tag in seen.found if isinstance(tag, tuple) and any(a.startswith("on") for a in tag[1:])]


def test_the_markdown_keeps_its_blocks(pair: tuple[ReportData, ReportData]) -> None:
    tame, hostile = (render_markdown(data) for data in pair)
    assert quiet(hostile)
    assert blocks(hostile) == blocks(tame)


def run_folder(folder: Path, data: ReportData, words: tuple[str, ...]) -> Path:
    """What training and evaluation leave."""
    policy = folder / "policy"
    policy.mkdir(parents=True)
    for name in ("config.json", "processor_config.json"):
        shutil.copy(shipped("tiny_base") / name, policy / name)
    config = Gr00tN1d6Config.load(policy / "config.json")
    streams = {"stream_names": words[:3], "use_sheaf_streams": True, "target_streams": words[:3], "memory_streams": ()}
    (policy / "config.json").write_text(replace(config, **streams).dumps())
    budget = {words[3]: words[4]}
    RunFacts(name=words[0], seed=0, data=words[5], held_out=(1,), base=words[6], budget=budget).save(
        folder / "facts.json"
    )
    data.open_loop[0].save(folder / "open_loop.json")
    data.closed_loop[0].save(folder / "closed_loop.json")
    return folder


def test_the_card_keeps_its_blocks_and_its_metadata(pair: tuple[ReportData, ReportData], tmp_path: Path) -> None:
    cards = []
    for data, words, name in zip(pair, (TAME, HOSTILE), ("tame", '"""\n```\n# x'), strict=True):
        folder = run_folder(tmp_path / name, data, words)
        cards.append(render_card(CardSource.of(folder)))
    tame, hostile = cards
    assert quiet(hostile)
    assert blocks(hostile.partition("---\n\n")[2]) == blocks(tame.partition("---\n\n")[2])
    told = [ModelCard(card).data.to_dict() for card in cards]
    assert told[0].keys() == told[1].keys()
    assert told[0]["license"] == told[1]["license"] == "other"


def test_a_comparison_of_hostile_folders(
    pair: tuple[ReportData, ReportData], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = []
    for data, words, names in zip(
        pair, (TAME, HOSTILE), (("one", "two"), ("\x1b]0;x\x07[/z]", "# a|b`<script>")), strict=True
    ):
        folders = [run_folder(tmp_path / name, data, words) for name in names]
        page = tmp_path / f"{len(pages)}.md"
        with pytest.raises(SystemExit) as done:
            main(["compare", *map(str, folders), "--output", str(page)])
        assert done.value.code == 0
        assert quiet("".join(capsys.readouterr()))
        pages.append(page.read_text())
    assert quiet(pages[1])
    assert blocks(pages[1]) == blocks(pages[0])
