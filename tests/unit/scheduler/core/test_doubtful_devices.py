"""Devices that are hot or slow: of devices that are alike they are taken last, and nobody waits for it."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.core.decisions import Start
from scheduler.core.demand import Barred
from tests.fakes.cluster_table import ClusterTable, cluster, demand
from tests.fakes.examples import examples
from tests.fakes.random_stories import Step, steps, tables


def doubt(table: ClusterTable, node: str, *indices: int) -> ClusterTable:
    facts = table.state.facts(node)
    devices = [replace(each, doubtful=each.index in indices) for each in facts.devices]
    table.state.add_node(replace(facts, devices=tuple(devices)))
    return table


def started(table: ClusterTable) -> dict[str, tuple[int, ...]]:
    return {start.job_id: start.placements[0].devices for start in table.plan().starts}


def test_one_that_is_not_doubted_is_taken_before() -> None:
    assert started(doubt(cluster(nodes=1, devices=4), "n0", 0, 2).submit("a")) == {"a": (1,)}
    assert started(doubt(cluster(nodes=1, devices=4), "n0", 0, 2).submit("a", devices=2)) == {"a": (1, 3)}
    assert started(doubt(cluster(nodes=1, devices=4), "n0", 0, 2).submit("a", devices=3)) == {"a": (0, 1, 3)}


def test_the_workers_of_a_gang_take_those_that_are_not_doubted() -> None:
    table = doubt(doubt(cluster(nodes=2, devices=4), "n0", 0), "n1", 1)
    (start,) = table.submit("gang", devices=1, workers=6).plan().starts
    taken = {(place.node, place.devices) for place in start.placements}
    full = max(("n0", "n1"), key=lambda node: sum(of == node for of, _ in taken))
    other = "n1" if full == "n0" else "n0"
    assert sorted(devices for node, devices in taken if node == other) == (
        [(1,), (2,)] if other == "n0" else [(0,), (2,)]
    )


def test_within_an_island_too() -> None:
    table = doubt(cluster(nodes=1, devices=4, island=["x", "x", "y", "y"]), "n0", 0, 2)
    assert started(table.submit("a")) == {"a": (1,)}
    table = doubt(cluster(nodes=1, devices=6, island=["x", "x", "x", "y", "y", "y"]), "n0", 0, 4)
    assert started(table.submit("a", devices=2)) == {"a": (1, 2)}


def test_where_devices_differ_their_kind_comes_first() -> None:
    """Which of two kinds is taken decides who else finds room: the doubt must not."""
    table = doubt(cluster(nodes=1, devices=2, model=["A100", "H100 SXM"]), "n0", 0)
    assert started(table.submit("a")) == {"a": (0,)}


def test_a_share_goes_where_it_fits_best() -> None:
    assert started(doubt(cluster(nodes=1, devices=2), "n0", 0).submit("a", demand(share=0.5))) == {"a": (0,)}


doubts = st.tuples(st.integers(0, 9), st.lists(st.integers(0, 3), max_size=3))


def _shape(table: ClusterTable, start: Start) -> tuple[str, Counter[tuple[str, str | None, int]]]:
    """Where the workers stand, but for which of the like devices of an island they have."""
    found: Counter[tuple[str, str | None, int]] = Counter()
    for place in start.placements:
        facts = {device.index: device for device in table.state.facts(place.node).devices}
        for index in place.devices or (-1,):
            found[place.node, facts[index].island if index >= 0 else None, place.share_milli] += 1
    return start.job_id, found


@settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), st.lists(doubts, min_size=1, max_size=4), st.lists(steps(), max_size=8))
def test_nobody_waits_who_would_have_started(
    table: ClusterTable, doubted: list[tuple[int, list[int]]], story: list[Step]
) -> None:
    """The same story with and without doubts: the same jobs start, on the same nodes and islands."""
    other = copy.deepcopy(table)
    for which, indices in doubted:
        names = sorted(table.state.node_names)
        if names:
            name = names[which % len(names)]
            doubt(table, name, *indices)
            other.state.add_node(other.state.facts(name))  # its row moves likewise
    for step in (None, *story):
        if step is not None:
            step(table)
            step(other)
        mine, theirs = table.plan(), other.plan()
        assert [_shape(table, each) for each in mine.starts] == [_shape(other, each) for each in theirs.starts]
        assert mine.preemptions == theirs.preemptions
        table.apply()
        other.apply()


def test_barred_ones_are_told_apart() -> None:
    table = cluster(nodes=1, devices=3)
    facts = table.state.facts("n0")
    devices = (replace(facts.devices[0], barred=Barred.ALL), replace(facts.devices[1], doubtful=True), facts.devices[2])
    table.state.add_node(replace(facts, devices=devices))
    assert len(started(table.submit("a"))) == 1


def test_it_is_taken_last_whoever_asked_for_a_part_of_one_before() -> None:
    table = doubt(cluster(nodes=1, devices=4), "n0", 0)
    assert len(started(table.submit("part", devices=0, share=0.5))) == 1
    table.withdraw("part")
    assert started(table.submit("whole", devices=1)) == {"whole": (1,)}


@settings(max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), st.lists(doubts, min_size=1, max_size=4))
def test_several_nodes_told_at_once_are_as_if_told_one_by_one(
    table: ClusterTable, doubted: list[tuple[int, list[int]]]
) -> None:
    other = copy.deepcopy(table)
    names = sorted(table.state.node_names)
    changed = {}
    for which, indices in doubted if names else ():
        facts = table.state.facts(names[which % len(names)])
        devices = [replace(each, doubtful=each.index in indices) for each in facts.devices]
        changed[facts.name] = replace(facts, devices=tuple(devices))
    if changed:
        table.state.add_nodes(list(changed.values()))
    for facts in changed.values():
        other.state.add_node(facts)
    assert table.state.node_names == other.state.node_names
    assert table.state.free.milli.tolist() == other.state.free.milli.tolist()
    assert table.state.free.cpus_milli.tolist() == other.state.free.cpus_milli.tolist()
    assert table.state.schedulable.tolist() == other.state.schedulable.tolist()
    assert table.plan().starts == other.plan().starts
