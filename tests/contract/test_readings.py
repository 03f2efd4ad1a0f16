"""The store of readings, the fake that stands for it, and what agents said before there was a store: one answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.devices.source import Quantity
from node_agent.nodes import readings_json
from node_agent.readings_book import NodeReadings, ReadingsBook
from scheduler.engine.readings import ReadingsStore
from scheduler.ports import NoReadings, Readings
from tests.fakes.fake_readings import FakeReadings
from tests.fakes.told_readings import CHANGING, nodes, told

FIELDS = [quantity.value for quantity in CHANGING]


def store(site: Mapping[str, NodeReadings]) -> Readings:
    kept = ReadingsStore()
    for body in told(ReadingsBook(), 0, 0, **site):
        kept.take("a", list(site), body)
    return kept


def fake(site: Mapping[str, NodeReadings]) -> Readings:
    """With every reason, also of what is never there."""
    return FakeReadings({node: {uuid: _all(of) for uuid, of in there.items()} for node, there in site.items()})


def _all(of: Mapping[Quantity, object]) -> dict[str, object]:
    kept = readings_json({"x": of})["x"]  # type: ignore[dict-item]
    return {q.value: kept.get(q.value, {"unavailable": getattr(each, "reason", "")}) for q, each in of.items()}


@pytest.mark.parametrize("make", [store, fake])
@given(st.dictionaries(st.sampled_from(["n1", "n2"]), nodes))
def test_rows_are_the_readings_asked_for(make: Callable[..., Readings], site: dict[str, NodeReadings]) -> None:
    rows = make(site).rows(["n2", "nowhere", "n1"], FIELDS)
    assert {node: set(of) for node, of in rows.items()} == {node: set(of) for node, of in site.items()}
    for node, of in site.items():
        for uuid, cells in of.items():
            row = rows[node][uuid]
            shown = [cells[quantity] for quantity in CHANGING]
            assert row.values == [getattr(cell, "value", None) for cell in shown]
            reasons = {name: cell for name, cell in zip(FIELDS, shown, strict=True) if not hasattr(cell, "value")}
            assert dict(row.unavailable) == {name: getattr(cell, "reason", None) for name, cell in reasons.items()}
            there = [cell for cell in shown if hasattr(cell, "value")]
            assert row.read_at_s == max((cell.at_s for cell in there), default=None)
            assert (row.quality is None) == (not there)
            assert row.quality in {None, *(cell.quality.value for cell in there)}


@given(nodes)
def test_a_node_is_shown_as_its_agent_would(of: NodeReadings) -> None:
    shown = store({"n1": of}).node("n1")
    assert shown == readings_json(of)
    assert FakeReadings({"n1": shown}).node("n1", FIELDS) == store({"n1": of}).node("n1", FIELDS)


@pytest.mark.parametrize("none", [NoReadings(), ReadingsStore(), FakeReadings({})])
def test_of_a_node_that_was_not_heard_there_is_nothing(none: Readings) -> None:
    assert none.node("n1") == {}
    assert none.rows(["n1"], FIELDS) == {}
