"""ReportData to one HTML file that needs nothing else: no network, no script, no font, no picture outside itself."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from svms_gr00t.core.files.records import write_text
from svms_gr00t.evaluate.report import format as formats
from svms_gr00t.evaluate.report.data import ReportData
from svms_gr00t.evaluate.report.markdown import render_markdown
from svms_gr00t.evaluate.report.view import page

TEMPLATES = Path(__file__).resolve().parent / "templates"


@cache
def _environment() -> Environment:
    """Every value is escaped, and a name that is missing is an error rather than an empty cell."""
    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    names = ("plain", "percent", "signed", "span", "cell_value", "cell_effect", "verdict")
    environment.globals.update({name: getattr(formats, name) for name in names}, NOT_MEASURED=formats.NOT_MEASURED)
    return environment


def render_html(data: ReportData) -> str:
    """The page as text. Raises DataError for pictures that cannot be read."""
    return _environment().get_template("report.html.jinja").render(page(data))


def save_page(data: ReportData, file: Path | str) -> Path:
    """Write the page alone; returns its path."""
    return write_text(file, render_html(data))


def save_report(data: ReportData, folder: Path | str) -> Path:
    """Write report.html, report.md and report.json into `folder`; returns the page's path."""
    folder = Path(folder)
    data.save(folder / "report.json")
    write_text(folder / "report.md", render_markdown(data))
    return write_text(folder / "report.html", render_html(data))
