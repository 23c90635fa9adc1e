"""Names out of a dataset in Markdown, in code and on a terminal: for a real parser they are text and nothing else."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from svms_gr00t.core.escape import code, json_text, literal, markdown, plain

HOSTILE = [
    *("# heading", "- list", "+ list", "1. list", "12) list", "> quote", "===", "---", "* * *", "    indented", "~~~"),
    *("```\ncode", "**bold** _it_ `code` ~~gone~~", "[link](http://x)", "![picture](x)", "<script>alert(1)</script>"),
    *("<b>", "&lt;", "https://a.example", "www.a.example", "a@b.example", "<http://x>", "a|b\n|-|-|\n|c|d|"),
    *("\\", "\\`", "`", "``|`", "a\\", "\x1b]0;x\x07", "\u202eevil", "\ud83d", "snake_case_name", "$x$", "[/z]"),
    *("{{ 7 * 7 }}", "", " "),
]
LETTERS = "ab1 #*_`~[]()<>!|\\-+.&$@:/w\n\t\x1b"
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(st.sampled_from(LETTERS), max_size=14))
PARSER = MarkdownIt("gfm-like", {"linkify": False})


def kinds(source: str) -> list[str]:
    def walk(tokens: list[Token]) -> list[str]:
        return [kind for token in tokens for kind in (token.type, *walk(token.children or []))]

    return [kind for kind in walk(PARSER.parse(source)) if kind not in ("inline", "text", "text_special")]


def shown(source: str) -> str:
    """What a reader sees of the first line of text."""
    inline = next((token for token in PARSER.parse(source) if token.type == "inline"), None)
    return "" if inline is None else "".join(child.content for child in inline.children or []).replace("\u2060", "")


def line(text: str) -> str:
    return plain(" ".join(text.split()))


@settings(max_examples=100, derandomize=True, deadline=None)
@given(TEXTS)
def test_markdown_is_a_paragraph_that_shows_the_text(text: str) -> None:
    source = markdown(text)
    assert kinds(source) in (["paragraph_open", "paragraph_close"], [])
    assert shown(source) == line(text)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(TEXTS)
def test_in_a_table_and_a_heading_it_stays_in_its_place(text: str) -> None:
    table = f"| a | b |\n| --- | --- |\n| {markdown(text)} | {code(text)} |\n"
    assert kinds(table).count("td_open") == 2
    assert kinds(table).count("tr_open") == 2
    assert not {"html_inline", "link_open", "image", "strong_open", "em_open", "s_open"} & set(kinds(table))
    assert kinds(f"# {markdown(text)}\n\nnext") == [
        *("heading_open", "heading_close"), *("paragraph_open", "paragraph_close")
    ]  # fmt: skip


@settings(max_examples=100, derandomize=True, deadline=None)
@given(TEXTS)
def test_a_span_of_code_holds_the_text_whole(text: str) -> None:
    source = f"x {code(text)} y"
    assert shown(source) == f"x {line(text)} y".replace("  ", " ") or not line(text)
    assert {"code_inline"} >= set(kinds(source)) - {"paragraph_open", "paragraph_close"}


@settings(max_examples=100, derandomize=True, deadline=None)
@given(TEXTS)
def test_a_literal_is_one_line_of_a_block_and_the_same_in_python_and_json(text: str) -> None:
    source = literal(text)
    assert json.loads(source) == plain(text)
    block = PARSER.parse(f"```python\nf({source})\n```\n\nafter")
    assert [token.type for token in block][:2] == ["fence", "paragraph_open"]


def test_bare_addresses_become_no_links() -> None:
    """Readers that link bare addresses look for these three, in text whose escapes they have read already."""
    for text, kept in (("see https://a.example", "://"), ("www.a.example", "www."), ("a@b.example", "@b")):
        assert kept not in markdown(text)


@pytest.mark.parametrize("text", ["\x1b[2J", "\x07", "\x9b0m", "\r", "\u202e", "\u2066", "\x00", "\u2028", "\ud83d"])
def test_plain_text_moves_no_cursor_and_can_be_written(text: str) -> None:
    found = plain(f"a{text}b", lines=True)
    assert found.startswith("a\\")
    assert found.isprintable()
    found.encode()
    assert json.loads(json_text({text: f"é{text}"})) == {text: f"é{text}"}
    assert json_text([text]).replace("\n", "").isprintable()


def test_ordinary_text_stays_itself() -> None:
    for text in ("open the drawer", "Öffne die Schublade", "引き出しを開ける", "👩‍🍳 cooks", "robocasa_panda_omron"):
        assert plain(text) == text
        assert markdown(text) == text
    assert plain("x" * 100, most=20) == "x" * 10 + "..." + "x" * 10
