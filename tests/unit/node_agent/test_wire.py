"""Commands and events cross the agent's own connection unchanged, and nothing else crosses it."""

from __future__ import annotations

import random
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent import messages, wire
from node_agent.messages import Command, Event, EventBatch, NumberedEvent

whole = st.integers(min_value=0, max_value=2**53)
finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(max_size=20)
PLAIN: dict[object, st.SearchStrategy[Any]] = {
    int: st.integers(min_value=-(2**63), max_value=2**63 - 1),
    float: finite,
    str: texts,
    bool: st.booleans(),
    type(None): st.none(),
}


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    """Whatever a field of this type can hold, within what MessagePack can carry."""
    inner = get_args(kind)
    if is_dataclass(kind):
        assert isinstance(kind, type)
        return st.builds(kind, **{name: any_of(hint) for name, hint in get_type_hints(kind).items()})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    if get_origin(kind) is Literal:
        return st.sampled_from(inner)
    if get_origin(kind) is tuple:
        of = any_of(inner[0])
        repeated = inner[-1] is Ellipsis
        return st.lists(of, max_size=3).map(tuple) if repeated else st.tuples(*map(any_of, inner))
    return st.one_of(*map(any_of, inner)) if inner else PLAIN[kind]


commands = st.one_of(*map(any_of, get_args(Command)))
events = st.one_of(*map(any_of, get_args(Event)))


def only_frame(data: bytes) -> bytes:
    (frame,) = wire.Frames().feed(data)
    return frame


@given(whole, whole, st.lists(commands, max_size=5))
def test_commands_arrive_as_they_were_sent(session: int, number: int, sent: list[Command]) -> None:
    what, items = wire.opened(only_frame(wire.commands_frame(session, number, sent)))
    assert what == "commands"
    assert wire.commands_of(items) == (session, number, tuple(sent))


@given(whole, st.lists(events, max_size=5), texts, whole, finite)
def test_events_arrive_as_they_were_told(poll: int, told: list[Event], name: str, number: int, clock_s: float) -> None:
    numbered = tuple(NumberedEvent(number + place, event) for place, event in enumerate(told))
    batch = EventBatch(name, numbered, number, number + 1, clock_s)
    what, items = wire.opened(only_frame(wire.batch_frame(poll, batch)))
    assert what == "batch"
    assert wire.batch_of(items) == (poll, batch)


def test_a_poll_arrives_as_it_was_asked() -> None:
    what, items = wire.opened(only_frame(wire.poll_frame(7, 3 << 40, 2)))
    assert (what, wire.poll_of(items)) == ("poll", (7, 3 << 40, 2.0))


@given(whole, whole, finite, whole, st.binary(max_size=40))
def test_readings_are_asked_for_and_told(book: int, number: int, every_s: float, count: int, b: bytes) -> None:
    what, items = wire.opened(only_frame(wire.read_frame(book, number, every_s, count)))
    assert (what, wire.read_of(items)) == ("read", (book, number, every_s, count))
    what, items = wire.opened(only_frame(wire.readings_frame(b)))
    assert (what, wire.readings_of(items)) == ("readings", b)


def test_every_command_and_event_has_a_name_on_the_wire() -> None:
    """A message that somebody adds must not be left out here."""
    assert set(wire._COMMANDS) == {each.__name__ for each in get_args(Command)}
    assert set(wire._EVENTS) == {each.__name__ for each in get_args(Event)}
    assert [each.name for each in fields(EventBatch)] == ["incarnation", "events", "session", "heard", "clock_s"]


@given(st.lists(st.binary(max_size=40), max_size=6), st.randoms(use_true_random=False))
def test_frames_are_cut_out_of_whatever_pieces_arrive(bodies: list[bytes], rng: random.Random) -> None:
    stream = b"".join(wire.framed(body) for body in bodies)
    frames, found = wire.Frames(), []
    while stream:
        size = rng.randint(1, 9)
        found += list(frames.feed(stream[:size]))
        stream = stream[size:]
    assert found == bodies


@given(st.binary(max_size=200))
def test_any_other_bytes_are_not_our_language(frame: bytes) -> None:
    try:
        what, items = wire.opened(frame)
        takes: dict[str, Any] = {"commands": wire.commands_of, "poll": wire.poll_of, "batch": wire.batch_of}
        takes |= {"read": wire.read_of, "readings": wire.readings_of}
        takes.get(what, list)(items)
    except wire.NotOurLanguage:
        return


def test_what_does_not_fit_its_type_is_refused() -> None:
    renew = replace(messages.RenewLease(1, 2.0), lease_s="soon")  # type: ignore[arg-type]
    _, items = wire.opened(only_frame(wire.commands_frame(1, 1, [renew])))
    with pytest.raises(wire.NotOurLanguage):
        wire.commands_of(items)


def test_a_frame_over_the_limit_is_refused_before_it_is_held() -> None:
    with pytest.raises(wire.NotOurLanguage, match="over the limit"):
        list(wire.Frames().feed((wire.FRAME_LIMIT_BYTES + 1).to_bytes(4, "big")))
