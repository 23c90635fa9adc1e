"""The viewer as one HTML file that opens without a server: data, pictures, style and a script of our own inside it.

Whatever comes from a dataset is data: it stands as JSON without a "<" and becomes text through the DOM alone. The
page's own policy lets no other script run and nothing be fetched.
"""

import base64
import hashlib
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from svms_gr00t.core.files.records import write_text
from svms_gr00t.evaluate.report.html import TEMPLATES as REPORT
from svms_gr00t.evaluate.viewer.record import Recording

TEMPLATES = Path(__file__).resolve().parent / "templates"


@cache
def _environment() -> Environment:
    loader = FileSystemLoader([TEMPLATES, REPORT])
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def render_view(recording: Recording) -> str:
    """The page as text."""
    script = (TEMPLATES / "view.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values = {"recording": recording, "data": _inert(recording.to_json(indent=None)), "script": Markup(script)}
    return _environment().get_template("view.html.jinja").render(**values, digest=digest)


def save_view(recording: Recording, path: Path | str) -> Path:
    """Write the page; returns its path."""
    return write_text(path, render_view(recording))


def _inert(json: str) -> Markup:
    """JSON that cannot end the element it stands in, whatever its strings hold."""
    return Markup(json.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
