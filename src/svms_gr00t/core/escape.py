"""Text is not code: names, tasks and folders of a dataset as each medium shows them, and nothing more.

    plain       terminals, logs, messages    no control characters: they move the cursor, rename the window, hide text
    markdown    one line of Markdown         no headings, emphasis, links, tags, table cells
    code        a span of code in Markdown   ends where the text ends
    literal     text in a block of code      a Python and JSON literal of one line

HTML is escaped by Jinja, which also sends every value through `plain` (`evaluate/report/html.py`).
"""

import json
import re
import unicodedata

_TURNS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C, 0xFEFF, 0xFFFE, 0xFFFF}
"""What turns the direction of what follows, so that a name reads as another, and what no XML may hold."""
_SPECIAL = re.compile(r"[\\`*\[\]#~!$]|(?<![^\W_])_|_(?![^\W_])")
_STARTS = re.compile(r"^(?=[-+=])|(?<=^\d)(?=[.)])|(?<=^\d\d)(?=[.)])")
_ENTITIES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord("|"): "&#124;"}
_LINKS = re.compile(r":(?=//)|www(?=\.)|@", re.IGNORECASE)
MOST_ECHO = 200
"""Letters of somebody's input that an error repeats at most."""
_JOINER = "\u2060"
"""Invisible; where it stands, readers that make links of bare addresses find none."""


def plain(text: object, *, lines: bool = False, most: int | None = None) -> str:
    """`text` with every control character as its escape, such as \\x1b; `lines` keeps tabs and line ends.

    Of what is longer than `most`, the middle is left out.
    """
    found = str(text)
    if most is not None and len(found) > most:
        found = f"{found[: most // 2]}...{found[-(most // 2) :]}"
    if found.isascii() and found.isprintable():
        return found
    return "".join(c if (lines and c in "\n\t") or not _moves(c) else _escaped(c) for c in found)


def echo(value: object) -> str:
    """What somebody sent, `plain` and not longer than an error may repeat it."""
    return plain(value, most=MOST_ECHO)


def _moves(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or ord(char) in _TURNS


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def markdown(text: object) -> str:
    """`text` as one line of GitHub's Markdown that shows it, in a paragraph, a heading, a list or a table."""
    found = plain(" ".join(str(text).split()))
    found = _SPECIAL.sub(lambda m: f"\\{m[0]}", found).translate(_ENTITIES)
    return _LINKS.sub(lambda m: m[0] + _JOINER, _STARTS.sub(r"\\", found))


def code(text: object) -> str:
    """`text` as a span of code, in a table too; as `markdown` where it holds a bar, which no span can."""
    found = plain(" ".join(str(text).split()))
    if not found or "|" in found:
        return markdown(found)
    fence = "`" * (max(map(len, re.findall("`+", found)), default=0) + 1)
    pad = " " if found[0] == "`" or found[-1] == "`" else ""
    return f"{fence}{pad}{found}{pad}{fence}"


def json_text(value: object) -> str:
    """Indented JSON that a terminal shows as it is: what would move its cursor stays an escape."""
    found = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(json.dumps(c)[1:-1] if c != "\n" and _moves(c) else c for c in found)


def literal(text: object) -> str:
    """`text` in double quotes, for an example of Python or JSON; it cannot end the block that it stands in."""
    return json.dumps(plain(text), ensure_ascii=False)
