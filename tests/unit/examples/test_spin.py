"""The filler does its work once, over however many attempts, and is there in no time."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.unit.examples.conftest import ROOT, Runs


def test_counts_and_tells(runs: Runs) -> None:
    (run,) = runs.attempt(1, "-m", "examples.spin", "--seconds", "0.2")
    assert run.end() == 0
    assert run.result == {"count": 10, "resumed_from": 0}


def test_saves_when_asked_and_the_next_attempt_goes_on_from_there(runs: Runs) -> None:
    (first,) = runs.attempt(1, "examples/spin.py", "--seconds", "60")
    first.read_until("counting from 0 to 3000")
    first.ask_for_checkpoint()
    saved = int(first.read_until("saved at").split()[-1])
    first.wait_ack()
    first.process.send_signal(signal.SIGTERM)
    assert first.end() == -signal.SIGTERM
    assert not first.result_file.exists()
    (second,) = runs.attempt(2, "-m", "examples.spin", "--seconds", f"{(saved + 5) * 0.02}", resume_from=1)
    assert second.end() == 0
    assert second.result == {"count": saved + 5, "resumed_from": saved}


def test_work_that_is_done_already_is_not_done_again(runs: Runs) -> None:
    (run,) = runs.attempt(1, "-m", "examples.spin", "--seconds", "0")
    assert run.end() == 0
    assert run.result == {"count": 0, "resumed_from": 0}


@pytest.mark.parametrize("module", ["torch", "numpy", "scheduler"])
def test_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, examples.spin; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=20).returncode == 0
