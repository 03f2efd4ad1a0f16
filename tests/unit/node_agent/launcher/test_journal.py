"""The journal on a disk that fails: what was refused is not found by a successor, what was kept is not torn."""

from __future__ import annotations

import pytest

from node_agent.launcher.journal import REWRITE_AFTER_LINES, Journal, Run
from scheduler.simulation.faults.virtual_journal import VirtualJournal


class FailingJournal(VirtualJournal):
    """Fails by name."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: set[str] = set()

    def sync(self) -> None:
        if "sync" in self.failing:
            raise OSError(5, "Input/output error")
        super().sync()

    def take_back(self, count: int) -> None:
        if "take_back" in self.failing:
            raise OSError(5, "Input/output error")
        super().take_back(count)


def opened(file: VirtualJournal, said: list[str]) -> Journal:
    return Journal(file, boot_id="this boot", say=said.append)


def run(key: str) -> Run:
    return Run(key, "0" * 64, "M=1", 0, 1.0, True, "t", pid=5, start_ticks=6, started_s=7.0)


def test_what_could_not_be_synced_is_taken_back() -> None:
    file, said = FailingJournal(), list[str]()
    journal = opened(file, said)
    before = file.read()
    file.failing = {"sync"}
    with pytest.raises(OSError, match="Input/output"):
        journal.intents([run("a")])
    assert file.read() == before
    assert journal.kept.runs == {}


def test_half_a_line_that_could_not_be_taken_back_does_not_spoil_the_next() -> None:
    file, said = FailingJournal(), list[str]()
    journal = opened(file, said)
    file.full, file.failing = True, {"take_back"}
    with pytest.raises(OSError, match="no space"):
        journal.intents([run("a")])
    assert "could not be taken back" in said.pop()
    file.full, file.failing = False, set()
    journal.intents([run("b")])
    journal.intents([run("c")])
    assert list(opened(file, said).kept.runs) == ["b", "c"]
    assert len(said) == 1, "only the torn line is dropped"


@pytest.mark.parametrize("kept", ["nothing", "half", "all"])
def test_a_power_failure_takes_what_was_not_synced(kept: str) -> None:
    file, said = VirtualJournal(), list[str]()
    journal = opened(file, said)
    journal.intents([run("a")])
    assert file.unsynced_bytes == 0
    journal.started(run("a"))
    assert file.unsynced_bytes > 2
    file.crash({"nothing": 0, "half": file.unsynced_bytes // 2, "all": file.unsynced_bytes}[kept])
    second = opened(file, said)  # of the same boot here, so that the pid is not left out
    assert second.kept.runs["a"].pid == (5 if kept == "all" else None)
    assert len(said) == (kept == "half")


def test_a_launcher_of_before_the_stamps_left_a_lease_that_is_read() -> None:
    file, said = VirtualJournal(), list[str]()
    file.replace(b'{"t":"boot","boot_id":"this boot"}\n{"t":"epoch","epoch":3}\n{"t":"lease","until":40.5}\n')
    kept = opened(file, said).kept
    assert (kept.epoch, kept.lease_until, kept.lease_stamp_s, said) == (3, 40.5, None, [])


def test_a_long_journal_is_written_anew() -> None:
    file, said = VirtualJournal(), list[str]()
    journal = opened(file, said)
    journal.intents(run("a") for _ in range(REWRITE_AFTER_LINES))
    long = len(file.read() or "")
    journal.forget("b")
    assert len(file.read() or "") < long / 1000
    kept = opened(file, said).kept
    assert (list(kept.runs), list(kept.forgotten)) == (["a"], ["b"])
