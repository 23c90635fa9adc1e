"""What `import svms_gr00t` offers: lazily, completely, and listed."""

import subprocess
import sys

import pytest

import svms_gr00t


def test_what_is_offered_is_listed_and_there() -> None:
    offered = dir(svms_gr00t)
    assert {"Features", "SvmsConfig", "Labeler", "LeRobotWriter", "SheafStreams", "Policy"} <= set(offered)
    assert offered == sorted(svms_gr00t.__all__)
    for name in offered:
        assert getattr(svms_gr00t, name) is not None
    with pytest.raises(AttributeError, match="it offers Features, "):
        svms_gr00t.Sheaf  # noqa: B018


def test_listing_loads_nothing_heavy() -> None:
    code = "import sys, svms_gr00t as s; dir(s); s.SvmsConfig(); print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
