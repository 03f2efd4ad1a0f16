"""The live launcher's logic in virtual time: leases, takeovers and failures to the second, without a process."""

from __future__ import annotations

from signal import SIGKILL, SIGTERM, SIGUSR1

import pytest

from node_agent.launcher.lease import Lease
from node_agent.launcher.records import RunRecord
from node_agent.launcher.supervisor import Rejected
from scheduler.simulation.faults.virtual_processes import Behaviour, Exits
from tests.fakes.virtual_launcher import VirtualLauncher

MIB = 1 << 20


@pytest.fixture
def rig() -> VirtualLauncher:
    return VirtualLauncher().start()


# ---- once and for all ------------------------------------------------------------------------------------------------


def test_a_key_is_started_once_and_for_all(rig: VirtualLauncher) -> None:
    pid = rig.launch("a", Behaviour(life=Exits(5.0, 3)))
    assert rig.launch("a") == pid
    assert [process.pid for process in rig.processes.alive()] == [pid]
    rig.advance(5.0)
    assert rig.exits == [(1005.0, "a", "exit", 3)]
    assert rig.launch("a") == pid
    assert rig.outcome("a") == ("exit", 3)
    assert rig.processes.alive() == []


@pytest.mark.parametrize("accident", ["none", "the launcher dies", "the power fails"])
def test_a_forgotten_key_is_never_started_again(rig: VirtualLauncher, accident: str) -> None:
    rig.launch("a", Behaviour(life=Exits(1.0, 0)))
    rig.advance(1.0)
    rig.supervisor.forget("a")
    if accident == "the launcher dies":
        rig.kill()
        rig.start()
    elif accident == "the power fails":
        rig.power_off(rig.file.unsynced_bytes)
        rig.start()
    answer = rig.ask("a")
    assert isinstance(answer, Rejected)
    assert "forgotten" in str(answer)
    assert rig.processes.alive() == []


def test_a_run_that_lives_is_not_forgotten(rig: VirtualLauncher) -> None:
    rig.launch("a")
    with pytest.raises(Rejected, match="has not ended"):
        rig.supervisor.forget("a")


def test_a_lower_epoch_is_refused_also_by_the_next_launcher(rig: VirtualLauncher) -> None:
    rig.supervisor.check_epoch(5)
    with pytest.raises(Rejected, match="epoch 4 is over"):
        rig.supervisor.check_epoch(4)
    rig.power_off()
    rig.start()
    with pytest.raises(Rejected, match="epoch 4 is over"):
        rig.supervisor.check_epoch(4)
    rig.supervisor.check_epoch(5)


# ---- the lease -------------------------------------------------------------------------------------------------------


def test_a_lapsed_lease_ends_lease_bound_runs_alone(rig: VirtualLauncher) -> None:
    rig.launch("gentle", Behaviour(term=Exits(0.5, 0)))
    rig.launch("stubborn", Behaviour(term="ignored"))
    replica = rig.launch("replica", lease_bound=False)
    rig.renew(10.0)
    rig.advance(9.9)
    assert rig.signals == []
    rig.advance(20.0)
    assert [row for row in rig.signals if row[2] == SIGTERM] == [
        (1010.0, "gentle", SIGTERM),
        (1010.0, "stubborn", SIGTERM),
    ]
    assert rig.exits == [(1010.5, "gentle", "lease", 0), (1012.0, "stubborn", "lease", SIGKILL)]
    assert rig.lives(replica)
    assert isinstance(rig.ask("late"), Rejected)
    assert isinstance(rig.ask("other replica", lease_bound=False), RunRecord)


def test_the_first_lease_begins_with_the_launcher() -> None:
    rig = VirtualLauncher().start(lease_s=7.0)
    rig.launch("a")
    rig.advance(60.0)
    assert rig.exits == [(1007.0, "a", "lease", SIGTERM)]


@pytest.mark.parametrize(
    ("renewals", "ends_at_s"),
    [
        pytest.param([(10.0, 0.0)], 1110.0, id="from now"),
        pytest.param([(10.0, 4.0)], 1106.0, id="from when the service heard the node's clock, not from the arrival"),
        pytest.param([(10.0, -50.0)], 1110.0, id="from the future: from now"),
        pytest.param([(10.0, 0.0), (10.0, 3.0)], 1110.0, id="overtaken: it does not shorten"),
        pytest.param([(10.0, 1.0), (99.0, 3.0)], 1109.0, id="overtaken: it does not extend"),
        pytest.param([(10.0, 3.0), (10.0, 1.0)], 1109.0, id="a later one extends"),
        pytest.param([(10.0, 3.0), (20.0, 3.0)], 1117.0, id="as new as the newest: it counts"),
        pytest.param([(10.0, 25.0)], 1100.0, id="over when it comes: the lease lapses at once"),
    ],
)
def test_a_lease_runs_from_the_node_s_own_clock(renewals: list[tuple[float, float]], ends_at_s: float) -> None:
    rig = VirtualLauncher().start(lease_s=500.0)
    rig.launch("a")
    rig.advance(100.0)
    for lease_s, age_s in renewals:
        rig.renew(lease_s, age_s)
    rig.advance(600.0)
    assert rig.exits == [(ends_at_s, "a", "lease", SIGTERM)]


def test_only_a_renewal_that_reaches_into_the_future_ends_a_lapse() -> None:
    lease = Lease(10.0, until=110.0, stamp_s=None)
    lease.lapsed = True
    assert lease.renew(10.0, stamp_s=101.0, now=111.0)
    assert (lease.until, lease.lapsed) == (111.0, True)
    assert not lease.renew(99.0, stamp_s=100.0, now=111.0)
    assert (lease.until, lease.lapsed) == (111.0, True)
    assert lease.renew(10.0, stamp_s=101.5, now=111.0)
    assert (lease.until, lease.lapsed) == (111.5, False)


def test_a_late_renewal_does_not_revive_a_lapsed_lease(rig: VirtualLauncher) -> None:
    rig.renew(10.0)
    rig.advance(20.0)
    rig.renew(10.0, age_s=12.0)
    late = rig.ask("a")
    assert isinstance(late, Rejected)
    assert "lease lapsed 2.0 s ago" in str(late)
    rig.renew(10.0)
    pid = rig.launch("a")
    rig.advance(9.0)
    assert rig.lives(pid)
    rig.advance(1.0)
    assert not rig.lives(pid)


@pytest.mark.parametrize("accident", ["none", "the launcher dies"])
def test_a_renewal_of_the_service_before_counts_no_more_once_another_commands(
    rig: VirtualLauncher, accident: str
) -> None:
    """Within an epoch an overtaken renewal is nothing; a new epoch begins with whatever its service has heard."""
    rig.supervisor.check_epoch(1)
    rig.renew(30.0, age_s=1.0)
    if accident == "the launcher dies":
        rig.kill()
        rig.start()
    rig.launch("a")
    rig.renew(10.0, age_s=2.0)
    rig.advance(20.0)
    assert rig.exits == []
    rig.supervisor.check_epoch(2)
    rig.renew(30.0, age_s=22.0)
    rig.advance(20.0)
    assert rig.exits == [(1028.0, "a", "lease", SIGTERM)]


def test_a_launcher_that_comes_back_does_not_begin_a_new_lease(rig: VirtualLauncher) -> None:
    rig.launch("a")
    rig.renew(10.0)
    rig.advance(4.0)
    rig.kill()
    rig.start(lease_s=60.0)
    rig.advance(60.0)
    assert rig.exits == [(1010.0, "a", "lease", None)]


# ---- a launcher dies, a node dies ------------------------------------------------------------------------------------


def test_a_successor_adopts_what_runs_and_calls_the_rest_unknown(rig: VirtualLauncher) -> None:
    runs_on = rig.launch("runs on", Behaviour(life=Exits(50.0, 0)))
    rig.launch("ended before", Behaviour(life=Exits(1.0, 3)))
    rig.launch("never reaped", Behaviour(life=Exits(2.0, 0)))
    rig.launch("ended unseen", Behaviour(life=Exits(3.0, 0)))
    rig.advance(1.0)
    rig.clock.advance(1.0)
    rig.processes.end_due()
    rig.kill()
    rig.clock.advance(1.0)
    rig.processes.end_due()
    rig.exits.clear()
    rig.start()
    assert rig.outcome("ended before") == ("exit", 3)
    assert rig.exits == [(1003.0, "never reaped", "unknown", None), (1003.0, "ended unseen", "unknown", None)]
    assert rig.record("runs on").pid == runs_on
    assert rig.lives(runs_on)
    assert rig.launch("runs on") == runs_on
    rig.advance(60.0)
    assert rig.exits[2:] == [(1050.0, "runs on", "unknown", None)]
    assert rig.said == []


def test_a_run_whose_pid_was_never_noted_is_found_by_its_mark(rig: VirtualLauncher) -> None:
    rig.file.sync()
    pid = rig.launch("a")
    rig.file.take_back(rig.file.unsynced_bytes)  # as if killed between the start and the line with the pid
    rig.kill()
    rig.start()
    assert rig.record("a").pid == pid
    assert rig.lives(pid)


def test_what_an_ended_run_left_behind_is_killed_by_the_successor(rig: VirtualLauncher) -> None:
    pid = rig.launch("a")
    left = [rig.processes.fork(pid), rig.processes.fork(pid, own_session=True)]
    rig.kill()
    rig.processes.end(pid, 0)
    assert all(map(rig.lives, left))
    rig.start()
    assert rig.outcome("a") == ("unknown", None)
    assert not any(map(rig.lives, left))


@pytest.mark.parametrize("kept", ["nothing", "half a line", "all"])
def test_a_power_failure_starts_nothing_twice_and_spares_strangers(rig: VirtualLauncher, kept: str) -> None:
    """Pids begin anew, so a stranger has the run's."""
    pid = rig.launch("a")
    unsynced = rig.file.unsynced_bytes
    rig.power_off({"nothing": 0, "half a line": unsynced // 2, "all": unsynced}[kept])
    stranger = rig.processes.start(rig.order("stranger"))
    assert stranger == pid
    rig.start()
    assert rig.outcome("a") == ("unknown", None)
    rig.advance(100.0)
    assert rig.lives(stranger)
    again = rig.ask("a", lease_bound=False)
    assert isinstance(again, RunRecord)
    assert again.exit is not None
    assert [process.order.key for process in rig.processes.alive()] == ["stranger"]
    assert len(rig.said) == (kept == "half a line")


def test_a_full_disk_starts_nothing_and_ends_nothing(rig: VirtualLauncher) -> None:
    pid = rig.launch("a")
    rig.file.full = True
    before = rig.file.read()
    answer = rig.ask("b")
    assert isinstance(answer, Rejected)
    assert "free space" in str(answer)
    assert rig.file.read() == before
    rig.renew(30.0)
    rig.advance(25.0)
    assert rig.lives(pid)
    rig.file.full = False
    rig.launch("b")


@pytest.mark.parametrize("then", ["launch", "renew"])
def test_an_epoch_that_could_not_be_written_is_written_with_whatever_is_next(rig: VirtualLauncher, then: str) -> None:
    rig.file.full = True
    with pytest.raises(OSError, match="no space"):
        rig.supervisor.check_epoch(7)
    rig.supervisor.check_epoch(7)
    with pytest.raises(Rejected):
        rig.supervisor.check_epoch(6)
    rig.file.full = False
    if then == "launch":
        rig.launch("a")
    else:
        rig.renew(30.0)
    rig.power_off()
    rig.start()
    assert rig.supervisor.epoch == 7


def test_the_same_story_is_told_twice_alike() -> None:
    def story() -> tuple[object, ...]:
        rig = VirtualLauncher().start(lease_s=20.0)
        for number in range(9):
            rig.launch(f"run {number}", Behaviour(life=Exits(3.0 * number, number), term=Exits(0.1 * number, 0)))
            rig.advance(1.0)
        rig.kill()
        rig.clock.advance(2.5)
        rig.processes.end_due()
        rig.start()
        rig.advance(60.0)
        return rig.exits, rig.signals, rig.said, rig.file.read()

    assert story() == story()


# ---- signals, memory, orphans, the end -------------------------------------------------------------------------------


def test_a_program_that_does_not_await_the_signal_is_asked_when_it_does(rig: VirtualLauncher) -> None:
    pid = rig.launch("a")
    assert rig.supervisor.send_signal("a", SIGUSR1, ask=True)
    rig.advance(0.95)
    assert rig.signals == []
    process = rig.processes.get(pid)
    assert process is not None
    process.behaviour = Behaviour(usr1="handled")
    rig.advance(5.0)
    assert [(key, number) for _, key, number in rig.signals] == [("a", SIGUSR1)]
    assert rig.lives(pid)
    assert rig.supervisor.send_signal("a", SIGTERM)
    rig.hear()
    assert rig.outcome("a") == ("signal", SIGTERM)
    assert not rig.supervisor.send_signal("a", SIGTERM)


def test_memory_is_watched_and_the_kernel_s_own_choice_is_seen(rig: VirtualLauncher) -> None:
    greedy, frugal, chosen = (rig.launch(key, memory_bytes=64 * MIB) for key in ("greedy", "frugal", "chosen"))
    for pid, used in ((greedy, 40), (rig.processes.fork(greedy), 40), (frugal, 60)):
        process = rig.processes.get(pid)
        assert process is not None
        process.memory_bytes = used * MIB
    rig.processes.out_of_memory(chosen)
    rig.advance(1.0)
    assert [row[1:] for row in rig.exits] == [
        ("chosen", "out_of_memory", SIGKILL),
        ("greedy", "out_of_memory", SIGKILL),
    ]
    assert rig.lives(frugal)


def test_what_a_run_leaves_behind_ends_with_it(rig: VirtualLauncher) -> None:
    pid = rig.launch("a")
    other = rig.launch("b")
    left = [rig.processes.fork(pid), rig.processes.fork(pid, own_session=True)]
    kept = rig.processes.fork(other, own_session=True)
    rig.processes.end(pid, 0)
    rig.advance(1.0)
    assert rig.outcome("a") == ("exit", 0)
    assert not any(map(rig.lives, left))
    assert rig.lives(kept)


def test_a_launcher_that_is_told_to_go_ends_everything(rig: VirtualLauncher) -> None:
    rig.launch("gentle", Behaviour(term=Exits(0.5, 0)))
    rig.launch("stubborn", Behaviour(term="ignored"), lease_bound=False)
    rig.supervisor.close_down(3.0)
    assert isinstance(rig.ask("late"), Rejected)
    rig.advance(2.9)
    assert not rig.supervisor.empty
    rig.advance(0.1)
    assert rig.supervisor.empty
    assert rig.exits == [(1000.5, "gentle", "lease", 0), (1003.0, "stubborn", "lease", SIGKILL)]
    assert rig.supervisor.kill_leftovers()


def test_a_run_that_cannot_be_started_has_never_started(rig: VirtualLauncher) -> None:
    def broken(order: object) -> Behaviour:
        raise OSError(11, "Resource temporarily unavailable")

    rig.processes.behave = broken
    answer = rig.ask("a")
    assert isinstance(answer, Rejected)
    assert answer.kind == "never_started"
    assert rig.outcome("a") == ("never_started", None)
