"""The service's end of the conversation with one agent, as a table: what it makes of answers, late ones too."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from node_agent.agent_runs import AgentRuns
from node_agent.messages import (
    NODES_FAULT,
    AgentHello,
    Event,
    EventBatch,
    Forget,
    NodeReport,
    NumberedEvent,
    PrepareFailed,
    Refused,
    RenewLease,
    RunKey,
    RunReport,
    Started,
)
from scheduler.engine.link import AGENT_RETURN_S, COMMAND_LATE_S, GREET_EVERY_S, AgentLink, poll_s
from scheduler.ports import EngineEvent, NodeDown, NodeUp, RunEvent


def key(worker: int = 0, node: str = "n1") -> RunKey:
    return RunKey("1", 1, worker, node)


def hello(
    session: int,
    *,
    nodes: Sequence[str] = ("n1",),
    runs: Sequence[RunReport] = (),
    incarnation: str = "first",
    clock_s: float = 500.0,
) -> AgentHello:
    reports = tuple(NodeReport(name, "site", f"addr-{name}", (), 1_000, 1, simulated=False) for name in nodes)
    return AgentHello(incarnation, 7, 8, reports, tuple(runs), 0, session, clock_s)


def answer(
    *events: tuple[int, Event], session: int = 1, heard: int = 0, clock_s: float = 500.0, incarnation: str = "first"
) -> EventBatch:
    return EventBatch(incarnation, tuple(NumberedEvent(*each) for each in events), session, heard, clock_s)


def started(worker: int = 0) -> Started:
    return Started(key(worker), 42, 1.0)


def seqs(told: Sequence[EngineEvent]) -> list[int]:
    return [each.seq for each in told if isinstance(each, RunEvent)]


def test_proof_of_death_is_told_also_of_a_node_that_is_down_already(link: AgentLink) -> None:
    link.on_hello(hello(link.greet(1.0), nodes=("n1", "n2")), 1.1)
    told = [*link.lose("away"), *link.lose("still away"), *link.lose("it left", proof_of_death=True)]
    assert [(event.node, event.proof_of_death) for event in told if isinstance(event, NodeDown)] == [
        *(("n1", False), ("n2", False)),
        *(("n1", True), ("n2", True)),
    ]


@pytest.fixture
def link() -> AgentLink:
    """In its first session: greeted at 999 s by the service's clock, and answered at 1,000 s."""
    link = AgentLink("agent")
    assert link.greet(999.0) == 1
    link.on_hello(hello(1), 1_000.0)
    return link


# ---- greeting --------------------------------------------------------------------------------------------------------


def test_the_answer_to_a_greeting_says_what_each_node_runs() -> None:
    link = AgentLink("agent")
    runs = [RunReport(key(worker, node), "running", 1, None, None) for worker, node in enumerate(("n1", "n2", "n1"))]
    session = link.greet(998.0)
    told = link.on_hello(hello(session, nodes=("n1", "n2"), runs=runs), 1_000.0)
    assert [(each.facts.name, each.runs, each.agent_pid) for each in told if isinstance(each, NodeUp)] == [
        ("n1", (runs[0], runs[2]), 7),
        ("n2", (runs[1],), 7),
    ]
    assert (link.nodes, link.is_open, link.heard_s) == (("n1", "n2"), True, 998.0)


def test_nothing_is_sent_or_polled_before_the_answer() -> None:
    link = AgentLink("agent")
    assert link.commands([Forget(1, key())], 1_000.0) is None
    link.greet(1_000.0)
    assert link.commands([Forget(1, key())], 1_000.0) is None
    assert not link.may_poll()
    link.on_hello(hello(1), 1_001.0)
    batch = link.commands([Forget(1, key())], 1_001.0)
    assert batch is not None
    assert (batch.session, batch.number, batch.commands) == (1, 1, (Forget(1, key()),))
    assert link.may_poll()
    link.greet(1_002.0)
    assert link.commands([Forget(1, key())], 1_002.0) is None
    assert not link.may_poll()


def test_commands_are_numbered_from_one_in_each_session(link: AgentLink) -> None:
    numbers = [link.commands([Forget(1, key())], 1_000.0) for _ in range(3)]
    assert [batch and (batch.session, batch.number) for batch in numbers] == [(1, 1), (1, 2), (1, 3)]
    link.on_hello(hello(link.greet(1_001.0)), 1_001.0)
    again = link.commands([], 1_001.0)
    assert again is not None
    assert (again.session, again.number) == (2, 1)


@pytest.mark.parametrize("late_session", [0, 1, 3])
def test_a_late_answer_to_another_greeting_changes_nothing(link: AgentLink, late_session: int) -> None:
    link.greet(1_004.0)
    assert link.on_hello(hello(late_session, incarnation="other", nodes=("n9",)), 1_005.0) == []
    assert (link.is_open, link.nodes, link.heard_s) == (False, ("n1",), 999.0)
    assert [type(each) for each in link.on_hello(hello(2), 1_006.0)] == [NodeUp]
    assert link.is_open


def test_an_answer_that_comes_twice_is_heard_once(link: AgentLink) -> None:
    link.commands([Forget(1, key())], 1_000.0)
    assert link.on_hello(hello(1), 1_001.0) == []
    batch = link.commands([Forget(1, key())], 1_001.0)
    assert batch is not None
    assert batch.number == 2, "numbering began anew, and the agent would take this for what it has heard"


def test_a_link_in_the_place_of_another_goes_on_with_its_sessions(link: AgentLink) -> None:
    """It began anew at session 1: the agent, whose session 1 had heard of commands, took the first ones of the new link
    for those, and a job stayed `starting` for ever."""
    agent = AgentRuns(lambda _event: None)
    agent.open_session(1, link.session)
    for _ in range(3):
        sent = link.commands([RenewLease(1, 60.0)], 1_000.0)
        assert sent is not None
        agent.take(sent.session, sent.number, sent.commands, 1_000.0)
    after = AgentLink("agent", link)
    assert (after.nodes, after.is_open, after.hello, after.received) == (("n1",), False, None, 0)
    session = after.greet(1_010.0)
    assert session == 2
    agent.open_session(1, session)
    after.on_hello(hello(session), 1_010.0)
    sent = after.commands([RenewLease(1, 60.0)], 1_010.0)
    assert sent is not None
    assert len(agent.take(sent.session, sent.number, sent.commands, 1_010.0)) == 1, "it was not obeyed"


# ---- commands that are not heard -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent_s", "heard", "asked_s", "again"),
    [
        ([1_000.0], 0, 1_000.0 + COMMAND_LATE_S, False),
        ([1_000.0], 0, 1_000.1 + COMMAND_LATE_S, True),
        ([1_000.0], 1, 1_100.0, False),
        ([], 0, 1_100.0, False),
        ([1_000.0, 1_004.0], 1, 1_008.0, False),
        ([1_000.0, 1_004.0], 1, 1_009.1, True),
        ([1_000.0, 1_004.0], 0, 1_006.0, True),
        ([1_000.0, 1_004.0], 2, 1_100.0, False),
    ],
)
def test_a_command_unheard_for_5_s_leads_to_another_greeting(
    link: AgentLink, sent_s: Sequence[float], heard: int, asked_s: float, again: bool
) -> None:
    assert COMMAND_LATE_S == 5.0
    for at_s in sent_s:
        link.commands([Forget(1, key())], at_s)
    assert link.on_batch(answer(heard=heard), asked_s) == ([], again)


def test_what_an_earlier_session_did_not_hear_is_not_waited_for(link: AgentLink) -> None:
    link.commands([Forget(1, key())], 1_000.0)
    link.on_hello(hello(link.greet(1_010.0)), 1_010.0)
    assert link.on_batch(answer(session=2), 1_020.0) == ([], False)


@pytest.mark.parametrize(("passed_s", "again"), [(GREET_EVERY_S, False), (GREET_EVERY_S + 0.1, True)])
def test_a_node_is_asked_anew_now_and_then_what_it_has(link: AgentLink, passed_s: float, again: bool) -> None:
    assert link.on_batch(answer(), 1_000.0 + passed_s) == ([], again)
    if again:
        link.on_hello(hello(link.greet(1_000.0 + passed_s)), 1_000.0 + passed_s)
        assert link.on_batch(answer(session=2), 1_000.0 + passed_s) == ([], False)


@pytest.mark.parametrize(("field", "again"), [(NODES_FAULT, True), ("command", False), ("resources", False)])
def test_a_node_that_cannot_do_what_it_said_has_to_say_again_what_it_has(
    link: AgentLink, field: str, again: bool
) -> None:
    """A card had gone. The planner believed in it until the next greeting, and put job after job there."""
    failed = PrepareFailed(key(), field, "no device 3 any more")
    told, greet = link.on_batch(answer((5, started(1)), (6, failed)), 1_001.0)
    assert (seqs(told), greet) == ([5, 6], again)
    assert link.on_batch(answer((6, failed)), 1_001.5) == ([], False), "it was looked at before"


# ---- events ----------------------------------------------------------------------------------------------------------


def test_events_are_told_once_whatever_comes_again(link: AgentLink) -> None:
    first, second, third = ((seq, started(seq)) for seq in (11, 12, 13))
    assert seqs(link.on_batch(answer(first, second), 1_001.0)[0]) == [11, 12]
    link.on_ack(12)
    assert seqs(link.on_batch(answer(first, second, third), 1_002.0)[0]) == [13]
    assert seqs(link.on_batch(answer(first), 1_003.0)[0]) == []
    link.on_ack(13)
    (told,), _ = link.on_batch(answer((20, started())), 1_004.0)
    assert told == RunEvent(started(), "agent", 20)


def test_the_next_poll_waits_until_everything_received_is_committed(link: AgentLink) -> None:
    link.on_batch(answer((11, started()), (12, started(1))), 1_001.0)
    assert not link.may_poll()
    link.on_ack(11)
    assert not link.may_poll()
    link.on_ack(12)
    assert (link.may_poll(), link.acked) == (True, 12)
    link.on_ack(11)
    assert link.acked == 12


def test_while_nothing_can_be_committed_the_agents_clock_is_heard_and_what_is_new_stays_with_it(
    link: AgentLink,
) -> None:
    """Leases lapsed once while a disk was full: the clock that renewals name was that of before the last event."""
    assert seqs(link.on_batch(answer((11, started()), clock_s=600.0), 1_001.0)[0]) == [11]
    assert link.poll(1_010.0) == 0  # it acknowledges nothing
    assert link.on_batch(answer((11, started()), (12, started(1)), clock_s=609.0), 1_010.5) == ([], False)
    assert link.heard_s == 999.0, "what is new may be an end: it does not show that its runs live"
    batch = link.commands([RenewLease(1, 60.0)], 1_011.0)
    assert batch is not None
    assert batch.commands == (RenewLease(1, 60.0, stamp_s=609.0),)
    link.on_ack(11)
    assert link.poll(1_020.0) == 11
    assert seqs(link.on_batch(answer((12, started(1))), 1_021.0)[0]) == [12]


def test_no_more_is_acknowledged_than_was_received(link: AgentLink) -> None:
    """An acknowledgement of another incarnation's events would have the agent drop what nobody has heard."""
    link.on_batch(answer((11, started())), 1_001.0)
    link.on_ack(99)
    assert link.acked == 11
    assert seqs(link.on_batch(answer((12, started())), 1_002.0)[0]) == [12]
    assert not link.may_poll()


def test_another_incarnation_counts_its_events_anew(link: AgentLink) -> None:
    link.on_batch(answer((50, started())), 1_001.0)
    link.on_ack(50)
    assert link.on_batch(answer((3, started()), incarnation="second"), 1_002.0) == ([], True)
    assert link.received == 50
    link.on_hello(hello(link.greet(1_003.0), incarnation="second"), 1_003.0)
    assert (link.received, link.acked) == (0, 0)
    told, greet = link.on_batch(answer((3, started()), incarnation="second", session=2), 1_004.0)
    assert (seqs(told), greet) == ([3], False)


def test_the_same_incarnation_goes_on_counting(link: AgentLink) -> None:
    link.on_batch(answer((50, started())), 1_001.0)
    link.on_ack(50)
    link.on_hello(hello(link.greet(1_003.0)), 1_003.0)
    told, _ = link.on_batch(answer((50, started()), (51, started(1)), session=2), 1_004.0)
    assert seqs(told) == [51]


def test_events_of_an_earlier_session_are_events_all_the_same(link: AgentLink) -> None:
    """They are numbered by the agent, not by the session; but the poll was not this session's, so it is greeted."""
    link.greet(1_000.5)
    told, greet = link.on_batch(answer((11, started())), 1_001.0)
    assert (seqs(told), greet) == ([11], True)
    link.on_hello(hello(2), 1_002.0)
    assert link.on_batch(answer(session=1), 1_003.0) == ([], True)


def test_before_any_greeting_is_answered_nothing_is_told() -> None:
    link = AgentLink("agent")
    link.greet(1_000.0)
    assert link.on_batch(answer((11, started())), 1_001.0) == ([], True)


# ---- when it is known to have lived ----------------------------------------------------------------------------------


def went_down(link: AgentLink) -> float | None:
    """Until when its node is known to have lived, as the service is told when it is lost."""
    (down,) = link.lose("gone")
    assert isinstance(down, NodeDown)
    return down.heard_s


def came_up(told: Sequence[EngineEvent]) -> float | None:
    """When its node had been heard before, as the service is told when it is there."""
    (up,) = told
    assert isinstance(up, NodeUp)
    return up.heard_s


def test_it_lived_when_the_call_was_made_that_it_answered_not_when_the_answer_came(link: AgentLink) -> None:
    """The answer was 20 s on its way, and the agent dead meanwhile: those 20 s were billed."""
    link.poll(1_010.0)
    assert link.heard_s == 999.0, "a call is no evidence before it is answered"
    link.on_batch(answer(), 1_030.0)
    assert went_down(link) == 1_010.0


@pytest.mark.parametrize(
    ("late", "heard_s"),
    [
        (answer(incarnation="second"), 999.0),
        (answer(session=0), 1_010.0),
        (answer((11, started())), 1_010.0),
    ],
)
def test_an_answer_by_the_same_incarnation_is_evidence(link: AgentLink, late: EventBatch, heard_s: float) -> None:
    link.poll(1_010.0)
    link.on_batch(late, 1_030.0)
    assert link.heard_s == heard_s


def test_a_late_answer_to_a_poll_says_nothing_of_the_greeting_that_went_out_meanwhile(link: AgentLink) -> None:
    link.poll(1_010.0)
    session = link.greet(1_020.0)
    link.on_batch(answer(), 1_030.0)
    assert link.heard_s == 1_010.0
    link.on_hello(hello(session), 1_031.0)
    link.on_batch(answer(), 1_032.0)
    assert link.heard_s == 1_020.0, "the later evidence stays"


def test_a_call_that_was_not_answered_is_no_evidence(link: AgentLink) -> None:
    link.poll(1_010.0)
    assert link.on_failure(1_030.0, "no answer") == []
    link.greet(1_031.0)
    assert link.on_failure(1_033.0, "no answer") == []
    assert went_down(link) == 999.0


def test_who_comes_back_was_heard_when_it_was_heard_before(link: AgentLink) -> None:
    """Its runs may have ended at any time between: the answer that says so proves nothing of that time."""
    link.poll(1_010.0)
    link.on_batch(answer(), 1_011.0)
    session = link.greet(1_500.0)
    assert came_up(link.on_hello(hello(session), 1_501.0)) == 1_010.0
    assert link.heard_s == 1_500.0
    session = link.greet(1_600.0)
    assert came_up(link.on_hello(hello(session), 1_601.0)) == 1_500.0


def test_nothing_is_known_of_the_time_before_the_first_answer() -> None:
    link = AgentLink("agent")
    session = link.greet(1_000.0)
    assert came_up(link.on_hello(hello(session), 1_001.0)) is None
    assert went_down(link) == 1_000.0


def test_a_link_in_the_place_of_another_knows_when_that_one_was_answered(link: AgentLink) -> None:
    link.poll(1_010.0)
    link.on_batch(answer(), 1_011.0)
    after = AgentLink("agent", link)
    assert after.heard_s == 1_010.0
    session = after.greet(1_100.0)
    assert came_up(after.on_hello(hello(session, incarnation="second"), 1_101.0)) == 1_010.0
    assert after.heard_s == 1_100.0


def test_a_poll_asks_for_what_comes_after_the_last_event_committed(link: AgentLink) -> None:
    assert link.poll(1_001.0) == 0
    link.on_batch(answer((11, started()), (12, started(1))), 1_002.0)
    assert link.poll(1_002.5) == 0
    link.on_ack(12)
    assert link.poll(1_003.0) == 12
    link.on_hello(hello(link.greet(1_004.0)), 1_005.0)
    assert link.poll(1_006.0) == 12
    link.on_hello(hello(link.greet(1_007.0), incarnation="second"), 1_008.0)
    assert link.poll(1_009.0) == 0


# ---- leases ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heard_clocks_s", "stamp_s"),
    [([], 500.0), ([520.0], 520.0), ([520.0, 510.0], 520.0), ([400.0], 500.0)],
)
def test_renewals_carry_the_newest_reading_of_the_nodes_clock(
    link: AgentLink, heard_clocks_s: Sequence[float], stamp_s: float
) -> None:
    for clock_s in heard_clocks_s:
        link.on_batch(answer(clock_s=clock_s), 1_001.0)
    batch = link.commands([Forget(1, key()), RenewLease(1, 60.0)], 1_002.0)
    assert batch is not None
    assert batch.commands == (Forget(1, key()), RenewLease(1, 60.0, stamp_s))


def test_a_node_that_was_booted_again_counts_from_its_new_clock(link: AgentLink) -> None:
    link.on_batch(answer(clock_s=9_000.0), 1_001.0)
    link.on_hello(hello(link.greet(1_100.0), incarnation="second", clock_s=12.0), 1_100.0)
    batch = link.commands([RenewLease(1, 60.0)], 1_100.0)
    assert batch is not None
    assert batch.commands == (RenewLease(1, 60.0, 12.0),)


@pytest.mark.parametrize(("lease_s", "expected_s"), [(60.0, 7.5), (8.0, 1.0), (1_000.0, 20.0)])
def test_polls_bring_a_reading_several_times_a_lease(lease_s: float, expected_s: float) -> None:
    assert poll_s(lease_s) == expected_s


# ---- trouble ---------------------------------------------------------------------------------------------------------


def test_nodes_count_as_down_only_after_10_s_of_failures_and_only_once(link: AgentLink) -> None:
    assert AGENT_RETURN_S == 10.0
    assert link.on_failure(1_100.0, "no answer") == []
    assert not link.is_open
    assert link.on_failure(1_110.0, "no answer") == []
    assert link.on_failure(1_110.1, "no answer") == [NodeDown("n1", "no answer", proof_of_death=False, heard_s=999.0)]
    assert link.on_failure(1_120.0, "no answer") == []
    assert link.lose("its node went") == []


def test_a_greeting_that_is_answered_ends_the_failing(link: AgentLink) -> None:
    link.on_failure(1_100.0, "no answer")
    link.on_hello(hello(link.greet(1_109.0)), 1_109.0)
    assert link.on_failure(1_111.0, "no answer") == []
    (down,) = link.on_failure(1_121.1, "no answer")
    assert isinstance(down, NodeDown)
    assert down.heard_s == 1_109.0


def test_what_went_down_and_came_back_can_go_down_again(link: AgentLink) -> None:
    assert len(link.lose("gone")) == 1
    link.on_hello(hello(link.greet(1_200.0)), 1_200.0)
    link.poll(1_240.0)
    link.on_batch(answer(session=2), 1_250.0)
    assert link.lose("gone again") == [NodeDown("n1", "gone again", proof_of_death=False, heard_s=1_240.0)]


def test_a_link_that_was_never_answered_answers_for_the_nodes_of_the_one_before(link: AgentLink) -> None:
    after = AgentLink("agent", link)
    after.greet(1_999.0)
    assert after.on_failure(2_000.0, "no answer") == []
    assert after.on_failure(2_011.0, "no answer") == [NodeDown("n1", "no answer", proof_of_death=False, heard_s=999.0)]


def test_an_agent_that_obeys_another_service_is_told_nothing_more(link: AgentLink) -> None:
    assert link.on_stale(9) == [RunEvent(Refused(None, 9), "agent", 0)]
    assert link.commands([RenewLease(1, 60.0)], 1_001.0) is None
