"""What an agent takes from the service and from the launcher, without either: batches, sessions, epochs, agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent import attempts
from node_agent.agent_runs import (
    MOST_EARLY,
    AgentRuns,
    CheckRun,
    ForgetRun,
    KnownRun,
    LaunchRun,
    LookAtEnd,
    RenewLaunchersLease,
    Request,
    SignalRun,
    StaleEpoch,
)
from node_agent.launcher.records import ExitRecord, RunRecord
from node_agent.messages import (
    Command,
    Event,
    Exited,
    Forget,
    Prepare,
    Prepared,
    PrepareFailed,
    Refused,
    Release,
    RenewLease,
    RunKey,
    Started,
    Stop,
)
from tests.fakes.agent_rig import alone, key, spec

NOW_S = 1_000.0


class Told(AgentRuns):
    """Runs, and the events that they told."""

    def __init__(self, epoch: int = 1, session: int = 1) -> None:
        self.events: list[Event] = []
        super().__init__(self.events.append)
        self.open_session(epoch, session)

    def obey(self, *commands: Command) -> list[Request]:
        return self.take(self.session, self.heard + 1, commands, NOW_S)

    def phases(self) -> list[str]:
        return [report.phase for report in self.reports(NOW_S)]


def forget(number: int, epoch: int = 1) -> Forget:
    """A command whose being obeyed is seen by its request."""
    return Forget(epoch, key(str(number)))


def forgotten(requests: Sequence[Request]) -> list[int]:
    return [int(request.key.job_id) for request in requests if isinstance(request, ForgetRun)]


def record(run: RunKey, *, exit: ExitRecord | None = None, pid: int | None = 42, began_s: float = 990.0) -> RunRecord:
    """By a launcher: it began 10 s ago by the time of day, and at 40 s of the node's CLOCK_BOOTTIME."""
    began, boot_s = (None, None) if pid is None else (began_s, 40.0)
    return RunRecord(run.job_id, "", pid, began, exit, boot_s)


def running(runs: Told, run: RunKey) -> None:
    runs.obey(alone(run, spec("true")))
    runs.feed(run, attempts.CheckPassed("addr", 7_000), NOW_S)
    runs.launched(run, record(run), NOW_S)
    assert isinstance(runs.states[run], attempts.Live)
    runs.events.clear()


# ---- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrive", "obeyed"),
    [
        ([1, 2, 3], [[1], [2], [3]]),
        ([1, 1, 2, 1, 2], [[1], [], [2], [], []]),
        ([2, 3, 1], [[], [], [1, 2, 3]]),
        ([3, 1, 2], [[], [1], [2, 3]]),
        ([2, 2, 4, 1, 4, 3], [[], [], [], [1, 2], [], [3, 4]]),
        ([2, 3], [[], []]),
        ([0, -1, 1], [[], [], [1]]),
    ],
)
def test_batches_are_taken_once_and_in_order(arrive: Sequence[int], obeyed: Sequence[Sequence[int]]) -> None:
    runs = Told()
    assert [forgotten(runs.take(1, number, [forget(number)], NOW_S)) for number in arrive] == obeyed
    assert runs.heard == max((number for batch in obeyed for number in batch), default=0)


def test_the_commands_of_a_batch_are_obeyed_in_their_order() -> None:
    assert forgotten(Told().take(1, 1, [forget(3), forget(1), forget(2)], NOW_S)) == [3, 1, 2]


def test_an_empty_batch_counts_as_heard() -> None:
    runs = Told()
    assert runs.take(1, 1, [], NOW_S) == []
    assert runs.heard == 1


def early_ones(count: int) -> Told:
    """So many batches came before the first one."""
    runs = Told()
    for number in range(2, 2 + count):
        assert runs.take(1, number, [forget(number)], NOW_S) == []
    return runs


def test_so_many_early_batches_are_kept() -> None:
    runs = early_ones(MOST_EARLY - 1)
    assert forgotten(runs.take(1, 1, [forget(1)], NOW_S)) == list(range(1, MOST_EARLY + 1))


@pytest.mark.parametrize("beyond", [0, 10])
def test_there_is_always_room_for_the_one_that_the_early_ones_wait_for(beyond: int) -> None:
    runs = early_ones(MOST_EARLY + beyond)
    assert forgotten(runs.take(1, 1, [forget(1)], NOW_S)) == list(range(1, MOST_EARLY + 2))


def test_too_many_early_batches_are_over_with_the_next_hello() -> None:
    runs = early_ones(MOST_EARLY + 10)
    runs.open_session(1, 2)
    assert forgotten(runs.take(2, 1, [forget(1)], NOW_S)) == [1]


@pytest.mark.parametrize("other", [0, 1, 3, 99])
def test_a_batch_of_another_session_is_never_taken(other: int) -> None:
    """What was decided before the stock was taken cannot change what it says."""
    runs = Told(session=2)
    assert runs.take(other, 1, [forget(1)], NOW_S) == []
    assert runs.heard == 0
    assert runs.events == []
    assert forgotten(runs.take(2, 1, [forget(2)], NOW_S)) == [2]


def test_what_waited_for_its_forerunner_is_gone_with_its_session() -> None:
    runs = Told()
    runs.take(1, 2, [forget(2)], NOW_S)
    runs.open_session(1, 2)
    assert forgotten(runs.take(2, 1, [forget(1)], NOW_S)) == [1]
    assert runs.heard == 1


# ---- hellos ----------------------------------------------------------------------------------------------------------


def test_a_hello_that_comes_twice_goes_on_with_its_session() -> None:
    runs = Told()
    runs.obey(forget(1))
    runs.open_session(1, 1)
    assert runs.heard == 1
    assert runs.take(1, 1, [forget(1)], NOW_S) == []


@pytest.mark.parametrize(
    ("epoch", "session", "refused_by"),
    [(4, 9, 5), (5, 2, 5), (5, 3, None), (5, 4, None), (6, 1, None)],
)
def test_a_hello_that_was_overtaken_is_refused(epoch: int, session: int, refused_by: int | None) -> None:
    runs = Told(epoch=5, session=3)
    runs.obey(forget(1, 5))
    if refused_by is None:
        runs.open_session(epoch, session)
        assert (runs.epoch, runs.session) == (epoch, session)
        assert runs.heard == (1 if (epoch, session) == (5, 3) else 0)
        return
    with pytest.raises(StaleEpoch) as error:
        runs.open_session(epoch, session)
    assert error.value.epoch == refused_by
    assert (runs.epoch, runs.session, runs.heard) == (5, 3, 1)


def test_the_same_number_of_a_service_whose_epoch_the_launcher_told_first_is_another_session() -> None:
    runs = Told(epoch=5, session=3)
    runs.obey(forget(1, 5))
    runs.refused(None, 6)
    runs.open_session(6, 3)
    assert runs.heard == 0
    assert forgotten(runs.take(3, 1, [forget(2, 6)], NOW_S)) == [2]


def test_commands_of_a_lower_epoch_are_refused_whatever_their_session() -> None:
    runs = Told(epoch=5, session=2)
    stale = [RenewLease(4, 60.0, 1.0), forget(1, 4), Stop(4, key("2"), False, 1.0, "x")]
    assert runs.take(1, 7, stale, NOW_S) == []
    assert runs.events == [Refused(None, 5), Refused(key("1"), 5), Refused(key("2"), 5)]
    assert runs.take(2, 1, [forget(1, 4)], NOW_S) == []
    assert (runs.heard, runs.states) == (0, {})


def test_an_early_batch_whose_epoch_is_over_when_its_turn_comes_is_refused() -> None:
    runs = Told(epoch=5)
    runs.take(1, 2, [forget(2, 5)], NOW_S)
    requests = runs.take(1, 1, [forget(1, 6)], NOW_S)
    assert forgotten(requests) == [1]
    assert runs.events == [Refused(key("2"), 6)]


def test_the_launcher_may_know_of_a_higher_epoch() -> None:
    runs = Told(epoch=5)
    runs.refused(key("1"), 8)
    assert (runs.epoch, runs.events) == (8, [Refused(key("1"), 8)])
    runs.refused(None, 3)
    assert runs.epoch == 8


def test_a_renewal_goes_on_to_the_launcher_as_it_is() -> None:
    assert Told().obey(RenewLease(1, 60.0, 12.5)) == [RenewLaunchersLease(1, 60.0, 12.5)]


# ---- a run's way -----------------------------------------------------------------------------------------------------


def test_from_a_command_to_its_end() -> None:
    runs, run = Told(epoch=3), key()
    assert runs.obey(alone(run, spec("true"), 3)) == [CheckRun(run, spec("true"))]
    (launch,) = runs.feed(run, attempts.CheckPassed("addr", 7_000), NOW_S)
    assert isinstance(launch, LaunchRun)
    assert launch.epoch == 3
    assert runs.launched(run, record(run), NOW_S) == []
    ended = record(run, exit=ExitRecord("exit", 3, 1_020.0))
    assert runs.exited(run, ended) == [LookAtEnd(run, ended)]
    runs.feed(run, attempts.ProcessExited(42, "exit", 3, "", 1_020.0), NOW_S)
    assert runs.exited(run, ended) == [], "the end was looked at"
    assert runs.events == [
        Started(run, 42, 990.0),
        Exited(run, "exit", 3, None, "", 1_020.0, started_s=990.0),
    ]
    assert runs.obey(Forget(3, run)) == [ForgetRun(run, 3)]
    assert runs.reports(NOW_S) == ()


def test_an_end_of_a_run_that_nobody_knows_is_nothing() -> None:
    assert Told().exited(key(), record(key(), exit=ExitRecord("exit", 0, 1.0))) == []


def test_a_failed_check_is_told() -> None:
    runs, run = Told(), key()
    runs.obey(alone(run, spec("true")))
    assert runs.feed(run, attempts.CheckFailed("command", "not found"), NOW_S) == []
    assert runs.events == [PrepareFailed(run, "command", "not found")]


# ---- for how long it has run -----------------------------------------------------------------------------------------


def test_how_long_a_run_has_run_is_told_by_the_clock_that_nobody_can_set() -> None:
    """Its start by the time of day stands beside it: an hour from now, as somebody set the clock back."""
    runs = Told()
    running(runs, key("1"))
    runs.obey(alone(key("2"), spec("true")))
    runs.obey(Stop(1, key("1"), False, 5.0, "x"))
    assert [(r.key.job_id, r.phase, r.started_s, r.ran_s) for r in runs.reports(75.0)] == [
        ("1", "stopping", 990.0, 35.0),
        ("2", "prepared", None, None),
    ]


def test_what_has_ended_does_not_run_on() -> None:
    runs = Told()
    running(runs, key())
    runs.feed(key(), attempts.ProcessExited(42, "exit", 0, "", 995.0), NOW_S)
    assert [(r.phase, r.ran_s) for r in runs.reports(75.0)] == [("exited", None)]


def test_an_adopted_run_goes_on_counting() -> None:
    """The agent was started anew, and the node's time of day was set a day ahead meanwhile."""
    runs = Told()
    runs.agree(1, [KnownRun(key(), record(key()), "addr", 7_000)], NOW_S + 86_400)
    assert [(r.phase, r.started_s, r.ran_s) for r in runs.reports(50.0)] == [("running", 990.0, 10.0)]


# ---- agreeing with the launcher --------------------------------------------------------------------------------------


def test_runs_are_rebuilt_from_the_launchers_table() -> None:
    runs = Told()
    lives, ended, refused, unseen = (key(str(number)) for number in range(1, 5))
    end, unseen_end = ExitRecord("signal", 9, 995.0), ExitRecord("unknown", None, 991.0, "nobody watched")
    table = [
        KnownRun(lives, record(lives), "addr", 7_000),
        KnownRun(ended, record(ended, exit=end)),
        KnownRun(refused, record(refused, pid=None, exit=ExitRecord("exit", 126, 995.0, "cannot be executed"))),
        KnownRun(unseen, record(unseen, exit=unseen_end)),
    ]
    requests = runs.agree(1, table, NOW_S)
    assert [(type(each), each.key) for each in requests if not isinstance(each, RenewLaunchersLease)] == [
        (LookAtEnd, ended),
        (LookAtEnd, unseen),
    ]
    assert runs.events == [Exited(refused, "exit", 126, None, "cannot be executed", 995.0)]
    assert runs.phases() == ["running", "running", "exited", "running"]
    runs.feed(unseen, attempts.ProcessExited(42, "unknown", None, "nobody watched", 991.0), NOW_S)
    assert runs.events[-1] == Exited(unseen, "unknown", None, None, "nobody watched", 991.0, started_s=990.0)


def test_a_rebuilt_run_is_not_started_again() -> None:
    runs, run = Told(), key()
    runs.agree(1, [KnownRun(run, record(run), "addr", 7_000)], NOW_S)
    assert runs.obey(alone(run, spec("true"))) == []
    assert runs.events == [Prepared(run, "addr", 7_000), Started(run, 42, 990.0)]


@pytest.mark.parametrize("heard", [False, True])
def test_a_launch_whose_answer_was_lost_is_asked_for_again(heard: bool) -> None:
    """Where the launcher has heard of it, its record answers; where not, it is asked again and starts a key once."""
    runs, run = Told(), key()
    runs.obey(alone(run, spec("true")))
    (launch,) = runs.feed(run, attempts.CheckPassed("addr", 7_000), NOW_S)
    runs.events.clear()
    requests = runs.agree(4, [KnownRun(run, record(run))] if heard else [], NOW_S)
    assert isinstance(launch, LaunchRun)
    assert requests == ([] if heard else [replace(launch, epoch=4)])
    assert runs.events == ([Started(run, 42, 990.0)] if heard else [])


def test_a_launch_that_ended_before_its_answer_came_is_looked_at() -> None:
    runs, run = Told(), key()
    runs.obey(alone(run, spec("true")))
    runs.feed(run, attempts.CheckPassed("addr", 7_000), NOW_S)
    over = record(run, exit=ExitRecord("exit", 0, 999.0))
    assert runs.agree(1, [KnownRun(run, over)], NOW_S) == [LookAtEnd(run, over)]
    assert runs.phases() == ["running"]


def test_a_run_of_which_the_launcher_knows_nothing_any_more_is_not_said_to_have_lived_on() -> None:
    """Its launcher's directory was lost. It was billed until the moment at which that was found out."""
    runs, run = Told(), key()
    running(runs, run)
    assert runs.agree(1, [], NOW_S + 500) == []
    (told,) = runs.events
    assert isinstance(told, Exited)
    assert (told.how, told.started_s, told.at_s) == ("unknown", 990.0, 990.0)


@pytest.mark.parametrize(
    ("checkpoint", "later_s", "expected"), [(True, 0.0, 10), (True, 5.0, 15), (False, 0.0, 15), (False, 6.0, 9)]
)
def test_a_signal_that_the_launcher_may_not_have_heard_is_sent_again(
    checkpoint: bool, later_s: float, expected: int
) -> None:
    runs, run = Told(), key()
    running(runs, run)
    runs.obey(Stop(1, run, checkpoint, 5.0, "preempted"))
    runs.feed(run, attempts.Tick(), NOW_S + later_s)
    expected_run = SignalRun(run, expected, 1, ask=expected == 10)
    assert runs.agree(1, [KnownRun(run, record(run))], NOW_S + later_s) == [expected_run]


def test_agreeing_never_lowers_the_epoch() -> None:
    runs = Told(epoch=5)
    runs.agree(3, [], NOW_S)
    assert runs.epoch == 5
    runs.agree(7, [], NOW_S)
    assert runs.epoch == 7


# ---- any interleaving, loss and doubling -----------------------------------------------------------------------------


class Performed(Told):
    """What is asked of the node succeeds at once, and every request is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []

    def perform(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self.requests.append(request)
            match request:
                case CheckRun(key=run):
                    self.perform(self.feed(run, attempts.CheckPassed("addr", 7_000), NOW_S))
                case LaunchRun(key=run):
                    self.perform(self.launched(run, record(run), NOW_S))
                case SignalRun(key=run):
                    self.perform(self.exited(run, record(run, exit=ExitRecord("signal", 15, NOW_S))))
                case LookAtEnd(key=run):
                    self.perform(self.feed(run, attempts.ProcessExited(42, "signal", 15, "", NOW_S), NOW_S))

    def seen(self) -> tuple[object, ...]:
        return self.requests, self.events, self.states, self.heard, self.epoch


RUNS = st.sampled_from([key("1"), key("2"), key("2", worker=1)])
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(lambda run, release: Prepare(1, run, spec("true"), release), RUNS, st.booleans()),
    st.builds(lambda run: Release(1, run, "addr", 7_000), RUNS),
    st.builds(lambda run: Stop(1, run, False, 1.0, "cancelled"), RUNS),
    st.builds(lambda run: Forget(1, run), RUNS),
    st.just(RenewLease(1, 60.0, 5.0)),
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_the_network_does_a_prefix_of_the_batches_is_obeyed_each_once(data: st.DataObject) -> None:
    batches = data.draw(st.lists(st.lists(COMMANDS, max_size=3), min_size=1, max_size=12), label="batches")
    numbers = st.integers(1, len(batches))
    arrive = data.draw(st.lists(numbers, max_size=3 * len(batches)), label="arrive")
    strays = data.draw(st.sets(st.integers(0, len(arrive))), label="before these, one of another session comes too")
    network, straight = Performed(), Performed()
    for place, number in enumerate(arrive):
        if place in strays:
            network.perform(network.take(2, straight.heard + 1, [Stop(1, key("1"), False, 1.0, "stray")], NOW_S))
        network.perform(network.take(1, number, batches[number - 1], NOW_S))
        # The other hears the same at the same moments, and nothing of the network.
        requests: list[Request] = []
        came = set(arrive[: place + 1])
        while straight.heard + 1 in came:
            requests += straight.take(1, straight.heard + 1, batches[straight.heard], NOW_S)
        straight.perform(requests)
        assert network.seen() == straight.seen()
    launches = [each.key for each in network.requests if isinstance(each, LaunchRun)]
    drops = [each.key for each in network.requests if isinstance(each, ForgetRun)]
    assert all(launches.count(run) <= 1 + drops.count(run) for run in launches)
