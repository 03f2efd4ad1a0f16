"""Whatever is lost, late, doubled or torn on the way: what the service has of a node is what its agent had at one
moment, and once it is told again it is what the agent has now."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from node_agent.devices.source import NOT_SUPPORTED, Quality, Quantity, Unavailable, reading
from node_agent.nodes import readings_json
from node_agent.readings_book import COLUMNS, TOO_MANY, NodeReadings, ReadingsBook
from node_agent.readings_wire import BATCH_LIMIT_BYTES, MOST_REASONS, REASON_CHARACTERS, Batch, Head, Section, batch_of
from scheduler.engine import readings as module
from scheduler.engine.readings import OF_ANOTHER_VERSION, ReadingsStore, Taken
from tests.fakes.examples import examples
from tests.fakes.told_readings import cells, full, nodes, told

AGENTS = {"east": ("n1", "n2"), "west": ("n3",)}


fates = st.sampled_from(["heard", "heard", "lost", "late", "twice"])
changes = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), cells), max_size=4)


class Way(RuleBasedStateMachine):
    """Two agents, one service, and a network that does what it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.store = ReadingsStore()
        self.books = {agent: ReadingsBook() for agent in AGENTS}
        start = {"gpu-a": full(), "gpu-b": full()}
        self.now: dict[str, dict[str, dict[Quantity, Any]]] = {node: start for of in AGENTS.values() for node in of}
        self.history: dict[tuple[str, int, int], Any] = {}
        self.sent: list[tuple[str, bytes]] = []
        self.last: dict[str, tuple[int, int]] = dict.fromkeys(AGENTS, (0, 0))
        self.seen: dict[tuple[str, int], int] = {}

    @rule(node=st.sampled_from(["n1", "n2", "n3"]), there=nodes)
    def other_devices(self, node: str, there: dict[str, dict[Quantity, Any]]) -> None:
        self.now[node] = there

    @rule(agent=st.sampled_from(sorted(AGENTS)), times=st.lists(st.tuples(changes, st.booleans(), fates), max_size=5))
    def tell_on(self, agent: str, times: list[tuple[list[Any], bool, str]]) -> None:
        """Several times over, as over one connection."""
        for changed, onwards, fate in times:
            self.tell(agent, changed, onwards, fate)
            self.every_node_is_as_it_was_once()

    def tell(self, agent: str, changed: list[Any], onwards: bool, fate: str) -> None:
        """As of what was told last, as over one connection; or of what the service says that it knows."""
        for which, place, (quantity, cell) in changed:
            node = AGENTS[agent][which % len(AGENTS[agent])]
            there = self.now[node]
            if there:
                uuid = sorted(there)[place % len(there)]
                self.now[node] = there | {uuid: there[uuid] | {quantity: cell}}
        book = self.books[agent]
        as_of = self.last[agent] if onwards else self.store.known(agent, AGENTS[agent])
        readings: dict[str, NodeReadings] = {node: self.now[node] for node in AGENTS[agent]}
        bodies = told(book, *as_of, **readings)
        self.last[agent] = book.book, book.number
        for node in AGENTS[agent]:
            self.history[node, book.book, book.number] = readings_json(readings[node])
        for body in bodies:
            if fate in ("heard", "twice"):
                assert not self.store.take(agent, AGENTS[agent], body).refused
            if fate in ("late", "twice"):
                self.sent.append((agent, body))

    @rule(place=st.integers(0, 5), keeps=st.booleans())
    def deliver(self, place: int, keeps: bool) -> None:
        if self.sent:
            agent, body = self.sent[place % len(self.sent)] if keeps else self.sent.pop(place % len(self.sent))
            assert not self.store.take(agent, AGENTS[agent], body).refused

    @rule(place=st.integers(0, 5), part=st.floats(0, 0.999))
    def tear(self, place: int, part: float) -> None:
        if self.sent:
            agent, body = self.sent[place % len(self.sent)]
            taken = self.store.take(agent, AGENTS[agent], body[: int(part * len(body))])
            assert taken.refused
            assert taken.gap
            assert taken.nodes == 0

    @rule(place=st.integers(0, 5))
    def tell_of_others(self, place: int) -> None:
        if self.sent:
            agent, body = self.sent[place % len(self.sent)]
            (other,) = AGENTS.keys() - {agent}
            assert self.store.take(other, AGENTS[other], body).nodes == 0

    @rule(who=st.sampled_from(["service", *sorted(AGENTS)]))
    def dies(self, who: str) -> None:
        if who == "service":
            self.store = ReadingsStore()
            self.seen.clear()
            return
        self.books[who] = ReadingsBook()
        self.last[who] = (0, 0)
        self.sent = [(by, body) for by, body in self.sent if by != who]  # its connection died with it

    @invariant()
    def every_node_is_as_it_was_once(self) -> None:
        for node, table in self.store._tables.items():
            assert self.store.node(node) == self.history[node, table.book, table.number]
            assert table.number >= self.seen.get((node, table.book), 0)
            self.seen[node, table.book] = table.number

    @rule()
    def all_is_told_again(self) -> None:
        """As of what the service knows, over a connection that is new."""
        self.sent.clear()
        for agent, of in AGENTS.items():
            book = self.books[agent]
            as_of = self.store.known(agent, of)
            for body in told(book, *as_of, **{node: self.now[node] for node in of}):
                assert self.store.take(agent, of, body) == Taken(nodes=len(of))
            self.last[agent] = book.book, book.number
            for node in of:
                self.history[node, book.book, book.number] = readings_json(self.now[node])
                assert self.store.node(node) == readings_json(self.now[node])
            assert self.store.known(agent, of) == self.last[agent]


TestWay = Way.TestCase
TestWay.settings = settings(max_examples=examples(20), stateful_step_count=25, deadline=None)


# ---- what cannot be ------------------------------------------------------------------------------------------------


def one_card(**given: Any) -> NodeReadings:
    return {"gpu-a": full(power_watts=reading(Quantity.POWER_WATTS, 412.5, 7.0), **given)}


def batch(book: int, *sections: Section) -> bytes:
    return msgspec.msgpack.encode(Batch(book, sections))


def whole(**changed: Any) -> Section:
    """A node `n1` with one card, of which two quantities are told."""
    given: dict[str, Any] = {
        "node": "n1",
        "layout": 1,
        "number": 1,
        "base": 0,
        "places": struct.pack("<1H", 0),
        "values": struct.pack("<1d", 412.5),
        "stamps": ((0, 1, 0, 1, 7.0, 0),),
        "reasons": (("lost", False, struct.pack("<1H", 1)),),
        "head": Head(("gpu-a",), ("power_watts", "energy_joules"), ("measured",)),
    }
    return Section(**(given | changed))


HEAD = Head(("gpu-a",), ("power_watts", "energy_joules"), ("measured",))


@pytest.mark.parametrize(
    ("section", "why"),
    [
        (whole(head=None), "not of what"),
        (whole(places=b"\0"), "half a place"),
        (whole(places=struct.pack("<1H", 2)), "a cell beyond the 2"),
        (whole(values=b"\0" * 7), "7 bytes of values for 1 cells"),
        (whole(values=struct.pack("<1d", float("nan"))), "a value is no number"),
        (whole(values=struct.pack("<1d", float("inf"))), "a value is no number"),
        (whole(places=b"", values=b""), "not all cells are told"),
        (whole(stamps=()), "a value without a time"),
        (whole(stamps=((0, 1, 1, 1, 7.0, 0),)), "a value without a time"),
        (whole(stamps=((0, 2, 0, 1, 7.0, 0),)), "a time for what is not there"),
        (whole(stamps=((0, 1, 1, 2, 7.0, 0),)), "a time for what is not there"),
        (whole(stamps=((-1, 2, 0, 1, 7.0, 0),)), "a time for what is not there"),
        (whole(stamps=((0, 1, 0, 1, float("nan"), 0),)), "a time for what is not there"),
        (whole(stamps=((0, 1, 0, 1, -1.0, 0),)), "a time for what is not there"),
        (whole(stamps=((0, 1, 0, 1, 7.0, 1),)), "a time for what is not there"),
        (whole(reasons=(("lost", False, struct.pack("<1H", 9)),)), "a cell beyond"),
        (whole(reasons=(("x" * (REASON_CHARACTERS + 1), False, struct.pack("<1H", 1)),)), "a reason of 501"),
        (whole(head=msgspec.structs.replace(HEAD, devices=("gpu-a", "gpu-a"))), "one of them twice"),
        (whole(head=msgspec.structs.replace(HEAD, devices=("x" * 300,))), "a device's name"),
        (whole(head=msgspec.structs.replace(HEAD, quantities=())), "0 quantities"),
        (whole(head=msgspec.structs.replace(HEAD, quantities=("power_watts",) * 2)), "one of them twice"),
        (whole(head=msgspec.structs.replace(HEAD, qualities=("guessed",))), "readings that are 'guessed'"),
        (whole(node="n9"), "does not stand for it"),
    ],
)
def test_a_section_that_cannot_be_is_refused_and_changes_nothing(section: Section, why: str) -> None:
    store, book = ReadingsStore(), ReadingsBook()
    (before,) = told(book, 0, 0, n1=one_card())
    assert store.take("a", ("n1", "n2"), before).nodes == 1
    shown = store.node("n1")
    taken = store.take("a", ("n1", "n2"), batch(77, section, whole(node="n2")))
    assert why in taken.refused
    assert (taken.nodes, taken.gap) == (1, True)  # the other section is as good as it was
    assert store.node("n1") == shown
    assert store.node("n2")["gpu-a"]["power_watts"]["value"] == 412.5


def test_a_batch_over_the_limit_is_not_looked_at() -> None:
    taken = ReadingsStore().take("a", ("n1",), bytes(BATCH_LIMIT_BYTES + 1))
    assert "over the limit" in taken.refused


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_an_answer(body: bytes) -> None:
    taken = ReadingsStore().take("a", ("n1",), body)
    assert taken.nodes == 0 or batch_of(body)


@settings(max_examples=examples(150))
@given(st.data())
def test_what_was_mutilated_touches_no_other_node(data: st.DataObject) -> None:
    store, book = ReadingsStore(), ReadingsBook()
    for body in told(book, 0, 0, n1=one_card(), n2=one_card()):
        store.take("a", ("n1", "n2"), body)
    (body,) = told(book, book.book, book.number, n1=one_card(energy_joules=reading(Quantity.ENERGY_JOULES, 5.0, 8.0)))
    mutilated = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        mutilated[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    other = store.node("n2")
    store.take("a", ("n1",), bytes(mutilated))
    assert store.node("n2") == other
    assert set(store.node("n1")) <= {"gpu-a", *store._tables["n1"].uuids}
    store.rows(["n1", "n2"], ["power_watts"])


# ---- what is told of another schema, and much of it ----------------------------------------------------------------


def test_an_agent_of_another_version_tells_what_both_know() -> None:
    head = Head(("gpu-a", "gpu-b"), ("colour", "faults", "power_watts"), ("measured", "replayed"))
    section = whole(
        head=head,
        places=struct.pack("<4H", 0, 2, 3, 5),
        values=struct.pack("<4d", 1.0, 412.5, 2.0, 90.0),
        stamps=((0, 1, 0, 3, 7.0, 0), (1, 1, 0, 3, 8.0, 1)),
        reasons=(("lost", False, struct.pack("<2H", 1, 4)),),
    )
    store = ReadingsStore()
    assert store.take("a", ("n1",), batch(5, section)) == Taken(nodes=1)
    fields = ["power_watts", "faults", "energy_joules"]
    rows = store.rows(["n1"], fields)["n1"]
    assert rows["gpu-a"] == (
        [412.5, None, None],
        {"faults": "lost", "energy_joules": OF_ANOTHER_VERSION.reason},
        "measured",
        7.0,
    )
    assert (rows["gpu-b"].values, rows["gpu-b"].quality) == ([90.0, None, None], "replayed")
    more = Section("n1", 1, 2, 1, struct.pack("<2H", 3, 5), struct.pack("<2d", 9.0, 91.0), ((1, 1, 0, 3, 9.0, 1),))
    assert store.take("a", ("n1",), batch(5, more)) == Taken(nodes=1)
    assert store.rows(["n1"], fields)["n1"]["gpu-b"].values == [91.0, None, None]
    assert store.rows(["n1"], fields)["n1"]["gpu-a"].values == [412.5, None, None]


def test_reasons_that_no_cell_has_any_more_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPARE_REASONS", 20)
    store, book = ReadingsStore(), ReadingsBook()
    store._reasons.tidy_at = 20
    for second in range(200):
        stuck = Unavailable(f"the driver has not answered for {second} s")
        for body in told(book, *store.known("a", ("n1",)), n1={"gpu-a": dict.fromkeys(Quantity, stuck)}):
            assert store.take("a", ("n1",), body) == Taken(nodes=1)
        assert len(store._reasons.known) <= 45
        assert store.node("n1")["gpu-a"]["faults"] == {"unavailable": stuck.reason}


def test_more_reasons_than_can_be_told_are_told_as_such() -> None:
    store, book = ReadingsStore(), ReadingsBook()
    cards = {
        f"gpu-{card}": {quantity: Unavailable(f"{card} {quantity}") for quantity in Quantity}
        for card in range(2 * MOST_REASONS // len(COLUMNS))
    }
    for body in told(book, 0, 0, n1=cards):
        assert store.take("a", ("n1",), body).nodes == 1
    shown = [cell["unavailable"] for of in store.node("n1").values() for cell in of.values()]
    assert len(shown) == len(cards) * len(COLUMNS)
    assert shown.count(TOO_MANY) == len(shown) - MOST_REASONS


@pytest.mark.parametrize(
    ("value", "at_s"), [(float("nan"), 1.0), (float("inf"), 1.0), (10**400, 1.0), (1.0, float("nan")), (1.0, -5.0)]
)
def test_what_is_no_number_is_told_as_such(value: float, at_s: float) -> None:
    store, book = ReadingsStore(), ReadingsBook()
    odd = {"gpu-a": full(power_watts=reading(Quantity.POWER_WATTS, value, at_s)), "\udc80": full(), "x" * 300: full()}
    for body in told(book, 0, 0, n1=odd):
        assert store.take("a", ("n1",), body) == Taken(nodes=1)
    assert "no number that can be" in store.node("n1")["gpu-a"]["power_watts"]["unavailable"]
    assert set(store.node("n1")) == {"gpu-a"}  # a name that cannot be told is none


def test_a_long_reason_and_half_a_character_are_told_as_far_as_they_go() -> None:
    store, book = ReadingsStore(), ReadingsBook()
    odd = {"gpu-a": full(power_watts=Unavailable("a\udc80" + "b" * 600))}
    for body in told(book, 0, 0, n1=odd):
        assert store.take("a", ("n1",), body) == Taken(nodes=1)
    assert store.node("n1")["gpu-a"]["power_watts"]["unavailable"] == "a?" + "b" * (REASON_CHARACTERS - 2)


def test_that_a_reason_lasts_is_news() -> None:
    store, book = ReadingsStore(), ReadingsBook()
    for lasting in (False, True, False):
        why = Unavailable("none", lasting=lasting)
        for body in told(book, *store.known("a", ("n1",)), n1={"gpu-a": full(processes=why)}):
            store.take("a", ("n1",), body)
        assert ("processes" in store.node("n1")["gpu-a"]) != lasting


def test_what_has_not_changed_is_not_told_again() -> None:
    book = ReadingsBook()
    (first,) = told(book, 0, 0, n1=one_card())
    (again,) = told(book, book.book, 1, n1=one_card())
    section = batch_of(again).sections[0]
    assert (section.places, section.values, section.stamps, section.reasons, section.head) == (b"", b"", (), (), None)
    assert len(again) < len(first) / 10


def test_many_nodes_are_told_in_batches_of_bounded_size() -> None:
    book, store = ReadingsBook(), ReadingsStore()
    names = [f"n{number}" for number in range(300)]
    cards = {f"gpu-{card}": one_card()["gpu-a"] for card in range(8)}
    bodies = told(book, 0, 0, **dict.fromkeys(names, cards))
    assert len(bodies) > 1
    assert max(map(len, bodies)) < 300_000
    assert sum(store.take("a", names, body).nodes for body in bodies[:-1]) < len(names)
    assert store.known("a", names) == (0, 0)  # one is missing: everything is asked for
    assert store.take("a", names, bodies[-1]).nodes > 0
    assert store.known("a", names) == (book.book, 1)


def test_the_less_real_quality_and_the_newest_time_are_told_of_a_row() -> None:
    store, book = ReadingsStore(), ReadingsBook()
    mixed = full(
        power_watts=reading(Quantity.POWER_WATTS, 1.0, 5.0, Quality.MEASURED),
        faults=reading(Quantity.FAULTS, 2.0, 9.0, Quality.SIMULATED),
    )
    for body in told(book, 0, 0, n1={"gpu-a": mixed, "gpu-b": dict.fromkeys(Quantity, NOT_SUPPORTED)}):
        store.take("a", ("n1",), body)
    rows = store.rows(["n1", "n2"], ["power_watts", "faults"])
    assert set(rows) == {"n1"}
    assert rows["n1"]["gpu-a"] == ([1.0, 2.0], {}, "simulated", 9.0)
    reason = NOT_SUPPORTED.reason
    assert rows["n1"]["gpu-b"] == ([None, None], {"power_watts": reason, "faults": reason}, None, None)
