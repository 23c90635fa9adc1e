"""The report in a real browser: nothing on its console, every picture there, readable at the width of a phone."""

from report_sample import sample

from svms_gr00t.evaluate.report.html import save_report


def test_a_phone_can_read_it_and_the_console_stays_empty(show, tmp_path):
    data = sample()
    page = save_report(data, tmp_path)
    found, console = show(page, tmp_path, 390)
    assert console == []
    assert found["pictures"] > 0
    assert found["broken"] == 0
    assert found["title"] == data.title
    assert found["scroll"] <= found["width"] == 390, "nothing to scroll sideways"
    assert found["wide"] == []
    assert found["texts"] > 50
    assert found["smallest"] >= 11, "pixels of the smallest text"


def test_a_broken_page_is_noticed(show, tmp_path):
    """Mutant: a missing picture, a script that throws, a table too wide for a phone."""
    page = tmp_path / "report.html"
    page.write_text(
        "<title>x</title><p>text</p><img src='missing.png'><script>throw new Error('broken')</script>"
        "<table style='width:900px'><tr><td>wide</td></tr></table>"
    )
    found, console = show(page, tmp_path, 390)
    assert any("broken" in line for line in console)
    assert found["scroll"] > 390
    assert "TABLE" in found["wide"]
    assert found["broken"] == 1
