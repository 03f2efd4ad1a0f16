"""Checkpoints are whole or absent, acknowledged when asked for, and found again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from node_agent.checkpointing import Checkpoints, checkpoints, newest_whole


def write(text: str):  # type: ignore[no-untyped-def]
    return lambda directory: (directory / "state").write_text(text)


@pytest.fixture
def under_suanli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUANLI_CHECKPOINT_DIR", str(tmp_path / "attempt-1"))
    monkeypatch.setenv("SUANLI_CHECKPOINT_ACK", str(tmp_path / "ack"))
    monkeypatch.delenv("SUANLI_RESUME_FROM", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    return tmp_path


def test_save_then_resume(under_suanli: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with checkpoints() as c:
        assert c.resume() is None
        c.save(write("one"), 1)
        c.save(write("two"), 2)
    assert (under_suanli / "attempt-1" / "latest").read_text() == "step-0000000002"
    monkeypatch.setenv("SUANLI_RESUME_FROM", str(under_suanli / "attempt-1"))
    monkeypatch.setenv("SUANLI_CHECKPOINT_DIR", str(under_suanli / "attempt-2"))
    with checkpoints() as c:
        found = c.resume()
    assert found is not None
    assert (found / "state").read_text() == "two"


def test_asked_saved_acknowledged(under_suanli: Path) -> None:
    with checkpoints() as c:
        c.save(write("unasked"), 1)
        assert not (under_suanli / "ack").exists()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert (c.requested, c.should_exit) == (True, False)
        c.save(write("asked"), 2)
        assert (c.requested, c.should_exit) == (False, True)
        assert (under_suanli / "ack").exists()


def test_a_save_that_fails_leaves_the_one_before_and_no_acknowledgement(under_suanli: Path) -> None:
    def full(directory: Path) -> None:
        (directory / "state").write_text("half")
        raise OSError("no space")

    with checkpoints() as c:
        c.save(write("one"), 1)
        c.ask()
        with pytest.raises(OSError, match="no space"):
            c.save(full, 2)
        assert c.requested
    attempt = under_suanli / "attempt-1"
    assert not (under_suanli / "ack").exists()
    assert sorted(entry.name for entry in attempt.iterdir()) == ["latest", "step-0000000001"]


@pytest.mark.parametrize("damage", ["missing file", "short file", "no manifest", "pointer to nothing", "pointer away"])
def test_torn_checkpoints_are_passed_over(under_suanli: Path, damage: str) -> None:
    with checkpoints() as c:
        older = c.save(write("older"), 1)
        newer = c.save(write("newer"), 2)
    match damage:
        case "missing file":
            (newer / "state").unlink()
        case "short file":
            (newer / "state").write_text("new")
        case "no manifest":
            (newer / "suanli-checkpoint.json").unlink()
        case "pointer to nothing":
            (newer.parent / "latest").write_text("step-0000000009")
        case "pointer away":
            (newer.parent / "latest").write_text("../../etc")
    expected = newer if damage.startswith("pointer") else older
    assert newest_whole(newer.parent) == expected


def test_nothing_whole_is_none(tmp_path: Path) -> None:
    assert newest_whole(tmp_path) is None
    assert newest_whole(tmp_path / "absent") is None


def test_only_the_newest_are_kept(under_suanli: Path) -> None:
    with checkpoints(keep=2) as c:
        for step in range(1, 5):
            c.save(write(str(step)), step)
        assert sorted(entry.name for entry in c.directory.glob("step-*")) == ["step-0000000003", "step-0000000004"]


def test_other_ranks_only_acknowledge(tmp_path: Path) -> None:
    c = Checkpoints(tmp_path / "c", None, tmp_path / "ack", writes=False, keep=2)
    c.ask()
    c.save(write("x"), 1)
    assert (tmp_path / "ack").exists()
    assert not (tmp_path / "c").exists()


def test_outside_suanli_everything_is_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SUANLI_CHECKPOINT_DIR", "SUANLI_CHECKPOINT_ACK", "SUANLI_RESUME_FROM", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    with checkpoints() as c:
        assert c.resume() is None
        c.save(write("x"), 1)
    with checkpoints() as c:
        assert c.resume() == Path("checkpoints/step-0000000001")


def test_the_handler_before_is_put_back() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with checkpoints():
        assert signal.getsignal(signal.SIGUSR1) != before
    assert signal.getsignal(signal.SIGUSR1) == before


@pytest.mark.parametrize("name", ["SIGUSR2", "SIGHUP", "SIGTERM"])
def test_asked_with_the_signal_that_the_job_s_file_names(
    under_suanli: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("SUANLI_CHECKPOINT_SIGNAL", name)
    before = signal.getsignal(signal.Signals[name])
    with checkpoints() as c:
        os.kill(os.getpid(), signal.Signals[name])
        assert c.requested
        c.save(write("asked"), 2)
        assert c.should_exit
    assert signal.getsignal(signal.Signals[name]) == before


def test_a_job_that_is_asked_with_sigterm_still_dies_of_it_when_it_has_saved(under_suanli: Path) -> None:
    program = (
        "import os, signal, time\n"
        "from node_agent.checkpointing import checkpoints\n"
        "with checkpoints() as c:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    c.save(lambda directory: (directory / 'state').touch(), 1)\n"
        "    print('saved', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(300)\n"
    )
    env = os.environ | {"SUANLI_CHECKPOINT_SIGNAL": "SIGTERM"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "saved\n"), done.stderr
