"""Until when is a run known to have lived that nobody hears of any more? Not until an answer that kept its end back."""

from __future__ import annotations

import pytest

from node_agent.messages import AgentHello, EventBatch, Exited, NodeReport, NumberedEvent, RunKey, Started
from scheduler.engine.link import AgentLink
from scheduler.ports import NodeDown

KEY = RunKey("1", 1, 0, "n1")
STARTED = NumberedEvent(1, Started(KEY, 42, 1.0))
ENDED = NumberedEvent(2, Exited(KEY, "exit", 0, None, "", 2.0, started_s=1.0))


@pytest.fixture
def link() -> AgentLink:
    """Greeted at 999 s; at 1,010 s its first event came, which the store does not take."""
    link = AgentLink("agent")
    session = link.greet(999.0)
    report = NodeReport("n1", "site", "addr", (), 1_000, 1, simulated=False)
    link.on_hello(AgentHello("first", 7, 8, (report,), (), 0, session, 500.0), 1_000.0)
    told(link, 1_010.0, STARTED)
    return link


def told(link: AgentLink, asked_s: float, *events: NumberedEvent) -> int:
    """A poll that goes out then, and its answer: how many events are news for the service."""
    link.poll(asked_s)
    return len(link.on_batch(EventBatch("first", events, link.session, 0, 500.0), asked_s + 0.1)[0])


def known_to_have_lived_until(link: AgentLink) -> float | None:
    (down,) = link.lose("gone")
    assert isinstance(down, NodeDown)
    return down.heard_s


def test_an_answer_with_events_that_stay_with_the_agent_is_no_evidence(link: AgentLink) -> None:
    """The run ended at 1,015 s. While the store took nothing the agent went on answering, its news in hand; then its
    node was lost for good, and the run was billed until the last answer."""
    assert told(link, 1_012.0, STARTED) == 0
    assert told(link, 1_020.0, STARTED, ENDED) == 0
    assert told(link, 1_080.0, STARTED, ENDED) == 0
    assert known_to_have_lived_until(link) == 1_012.0


def test_it_is_evidence_again_when_they_are_taken(link: AgentLink) -> None:
    told(link, 1_020.0, STARTED, ENDED)
    link.on_ack(1)
    assert told(link, 1_030.0, ENDED) == 1
    assert known_to_have_lived_until(link) == 1_030.0
