"""For how long did a run live, whoever sets the clock and whoever dies? In virtual time; it is what is billed."""

from __future__ import annotations

import json

import pytest

from node_agent.launcher.journal import Journal, Run
from node_agent.launcher.records import RunRecord
from scheduler.simulation.faults.virtual_journal import VirtualJournal
from scheduler.simulation.faults.virtual_processes import Behaviour, Exits
from tests.fakes.virtual_launcher import DAWN_S, VirtualLauncher


@pytest.fixture
def rig() -> VirtualLauncher:
    return VirtualLauncher().start()


def lived_s(rig: VirtualLauncher, key: str) -> float:
    """For how long the launcher says that it lived: what is billed."""
    record = rig.record(key)
    assert record.exit is not None
    assert record.started_s is not None
    return record.exit.at_s - record.started_s


@pytest.mark.parametrize("set_by_s", [-86_400.0, 0.0, 7_200.0])
@pytest.mark.parametrize("adopted", [False, True])
def test_a_run_lasts_as_long_as_it_does_whoever_sets_the_time_of_day(
    rig: VirtualLauncher, adopted: bool, set_by_s: float
) -> None:
    """Its start was of one clock and its end of another: a run of 30 s was billed for two hours, or for nothing."""
    rig.launch("a", Behaviour(life=Exits(30.0, 3)))
    began_s = rig.record("a").started_s
    rig.advance(10.0)
    if adopted:
        rig.kill()
        rig.start()
    rig.dawn_s += set_by_s
    rig.advance(60.0)
    assert rig.outcome("a") == (("unknown", None) if adopted else ("exit", 3))
    assert rig.record("a").started_s == began_s == DAWN_S + 1_000.0
    assert lived_s(rig, "a") == 30.0


@pytest.mark.parametrize("set_by_s", [-86_400.0, 0.0, 7_200.0])
@pytest.mark.parametrize("accident", ["the launcher dies", "the power fails"])
def test_an_unseen_end_is_put_at_the_last_moment_at_which_the_run_is_known_to_have_lived(
    rig: VirtualLauncher, accident: str, set_by_s: float
) -> None:
    """The launcher wrote at 1,025 s that it lives, and died at 1,033 s. It had said: until the successor came."""
    pid = rig.launch("a")
    rig.advance(25.0)
    rig.renew(60.0)
    rig.advance(8.0)
    if accident == "the power fails":
        rig.power_off(rig.file.unsynced_bytes)
    else:
        rig.kill()
        rig.processes.end(pid, 0)
    rig.clock.advance(500.0)
    rig.dawn_s += set_by_s
    rig.start()
    assert rig.outcome("a") == ("unknown", None)
    assert rig.record("a").started_s == DAWN_S + 1_000.0
    assert lived_s(rig, "a") == 25.0


def test_of_a_run_that_began_after_the_last_sign_of_its_launcher_no_life_is_known(rig: VirtualLauncher) -> None:
    rig.renew(60.0)
    rig.advance(8.0)
    pid = rig.launch("a")
    rig.advance(8.0)
    rig.kill()
    rig.processes.end(pid, 0)
    rig.start()
    assert lived_s(rig, "a") == 0.0


@pytest.mark.parametrize("accident", ["the launcher dies", pytest.param("the power fails")])
def test_when_an_unseen_end_was_is_kept_for_the_launcher_after_next(rig: VirtualLauncher, accident: str) -> None:
    pid = rig.launch("a")
    rig.advance(25.0)
    rig.renew(60.0)
    if accident == "the power fails":
        rig.power_off(rig.file.unsynced_bytes)
    else:
        rig.kill()
        rig.processes.end(pid, 0)
    rig.start()
    rig.kill()
    rig.clock.advance(100.0)
    rig.start()
    assert lived_s(rig, "a") == 25.0


def test_a_run_of_a_launcher_that_did_not_write_that_clock_down_lasts_by_the_time_of_day(rig: VirtualLauncher) -> None:
    """An older version started it, and this one watches it to its end: it is not billed for nothing."""
    rig.launch("a", Behaviour(life=Exits(30.0, 0)))
    rig.kill()
    lines = [json.loads(line) for line in (rig.file.read() or "").splitlines()]
    for line in lines:
        line.pop("boot_s", None)
    rig.file.replace("".join(json.dumps(line) + "\n" for line in lines).encode())
    rig.start()
    rig.advance(60.0)
    assert rig.outcome("a") == ("unknown", None)
    assert lived_s(rig, "a") == 30.0


@pytest.mark.parametrize("set_by_s", [-86_400.0, 7_200.0])
def test_the_table_tells_since_when_a_run_lives_by_the_clock_that_nobody_sets(
    rig: VirtualLauncher, set_by_s: float
) -> None:
    rig.launch("a")
    rig.advance(5.0)
    rig.dawn_s += set_by_s
    rig.kill()
    rig.start()
    record = RunRecord.from_json(rig.record("a").to_json())
    assert (record.started_s, record.started_boot_s) == (DAWN_S + 1_000.0, 1_000.0)


def test_what_an_earlier_boots_clock_showed_is_not_told_in_this_one(rig: VirtualLauncher) -> None:
    """The two boots' readings were set against each other, and a job's time limit and bill counted by the result."""
    rig.launch("a")
    rig.advance(25.0)
    rig.renew(60.0)
    rig.power_off(rig.file.unsynced_bytes)
    rig.start()
    record = rig.record("a")
    assert (record.started_s, record.started_boot_s) == (DAWN_S + 1_000.0, None)
    assert lived_s(rig, "a") == 25.0


def test_nor_set_against_what_this_boots_clock_shows_by_the_launcher_after_next() -> None:
    """The one between could not write the end down: then the run would have lived from one boot into the other."""
    disk = VirtualJournal()

    def open_journal(boot_id: str) -> Journal:
        return Journal(disk, boot_id=boot_id, say=lambda text: None)

    first = open_journal("before")
    run = Run("a", "", "", 0, 1.0, True, "", pid=42, start_ticks=1, started_s=5_000.0, started_boot_s=100.0)
    first.intents([run])
    first.started(run)
    first.lease(160.0, None, 125.0)
    second = open_journal("now")
    second.lease(9_060.0, None, 9_000.0)
    for journal in (second, open_journal("now"), open_journal("now")):
        kept = journal.kept.runs["a"]
        assert (kept.lived_s, kept.started_boot_s, kept.pid) == (25.0, None, None)
