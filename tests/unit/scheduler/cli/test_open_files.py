"""The service may hold as many files open as its hard limit lets it, and doctor says where that is too few."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scheduler.cli import open_files
from scheduler.cli.doctor import examine
from scheduler.cli.instance import Home

RAISED = """
import resource
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
from scheduler.cli.open_files import raise_to_hard_limit
raise_to_hard_limit()
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
"""


def test_the_soft_limit_becomes_the_hard_one() -> None:
    done = subprocess.run([sys.executable, "-c", RAISED], check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("most", "verdict", "said"),
    [
        (4_096, "note", "the hard limit is 4,096"),
        (8_192, "ok", "the hard limit is 8,192"),
        (None, "ok", "no hard limit"),
    ],
)
def test_doctor_tells_a_limit_that_is_too_low_for_a_large_site(
    most: int | None, verdict: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_files, "hard_limit", lambda: most)
    (found,) = [each for each in examine(Home(tmp_path), None) if each.check == "open files"]
    assert found.verdict == verdict
    assert said in found.found
    assert ("LimitNOFILE" in found.mend) == (verdict == "note")
