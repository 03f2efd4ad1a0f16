"""Devices that health keeps from work: the planner passes them over, and all else is as it was.

Every plan made by a table is checked against `core.invariants`, which know barred devices by loops of their own.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.core.cluster import ClusterState
from scheduler.core.demand import Barred
from scheduler.core.plan import plan
from scheduler.core.satisfiable import nearest_possible
from tests.fakes.cluster_table import ClusterTable, cluster, demand
from tests.fakes.examples import examples
from tests.fakes.random_stories import Step, plan_and_apply, steps, tables


def bar(table: ClusterTable, node: str, index: int, barred: Barred = Barred.ALL) -> ClusterTable:
    facts = table.state.facts(node)
    devices = [replace(each, barred=barred) if each.index == index else each for each in facts.devices]
    table.state.add_node(replace(facts, devices=tuple(devices)))
    return table


def started(table: ClusterTable) -> dict[str, tuple[int, ...]]:
    return {start.job_id: start.placements[0].devices for start in table.plan().starts}


def test_a_barred_device_is_passed_over() -> None:
    table = bar(cluster(nodes=1, devices=3), "n0", 0)
    assert started(table.submit("a", devices=2)) == {"a": (1, 2)}
    assert started(bar(cluster(nodes=1, devices=3), "n0", 1).submit("a", devices=3)) == {}
    assert started(bar(cluster(nodes=1, devices=1), "n0", 0).submit("a", demand(share=0.5))) == {}


def test_a_device_with_a_bad_link_takes_what_talks_to_no_other() -> None:
    table = bar(cluster(nodes=1, devices=2), "n0", 0, Barred.LINKED)
    assert started(table.submit("pair", devices=2).submit("gang", demand(linked=True), workers=2)) == {}
    assert len(started(table.submit("one"))["one"]) == 1
    assert started(bar(cluster(nodes=1, devices=1), "n0", 0, Barred.LINKED).submit("half", demand(share=0.5)))


def test_it_is_said_how_many_are_unhealthy() -> None:
    made = bar(cluster(nodes=1, devices=4), "n0", 2).submit("a", devices=4).plan()
    assert "3 of 4 devices free, 1 unhealthy" in str(made.reasons["a"])
    made = bar(cluster(nodes=1, devices=1), "n0", 0).submit("a").plan()
    assert "0 of 1 devices free, 1 unhealthy" in str(made.reasons["a"])


def test_what_fits_when_all_is_well_can_be_had() -> None:
    table = bar(cluster(nodes=1, devices=4), "n0", 2)
    assert nearest_possible(table.state.nodes, (demand(4),), 1) is None
    assert nearest_possible(table.state.nodes, (demand(5),), 1) is not None


def test_making_room_on_a_barred_device_is_no_use() -> None:
    table = cluster(nodes=1, devices=1).submit("low", priority=0)
    plan_and_apply(table)
    assert not bar(table, "n0", 0).submit("high", priority=2).plan().preemptions


def test_what_runs_there_goes_on_and_is_given_back() -> None:
    table = cluster(nodes=1, devices=1).submit("a")
    plan_and_apply(table)
    bar(table, "n0", 0)
    assert table.state.device_use("n0")[0].jobs == ("a",)
    table.state.give_back("a")
    assert table.state.used_milli("n0") == 0


bars = st.tuples(st.integers(0, 9), st.integers(0, 3), st.sampled_from(Barred))


@settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), st.lists(st.tuples(bars, steps()), max_size=8))
def test_the_invariants_hold_and_no_cache_changes_an_answer(
    table: ClusterTable, story: list[tuple[tuple[int, int, Barred], Step]]
) -> None:
    plan_and_apply(table)  # checks
    for (which, index, barred), step in story:
        names = sorted(table.state.node_names)
        if names:
            bar(table, names[which % len(names)], index, barred)
        step(table)
        kept, anew = table.plan(), plan(_rebuilt(table), table.queue, table.settings, now_s=table.now_s)
        assert (kept.starts, kept.preemptions) == (anew.starts, anew.preemptions)
        assert dict(kept.reasons) == dict(anew.reasons)
    plan_and_apply(table)
    table.all_due_leave().after(10.0).plan()


def _rebuilt(table: ClusterTable) -> ClusterState:
    old = table.state
    new = ClusterState([old.facts(name) for name in old.node_names])
    for job_id in sorted(old.holders):
        new.take(job_id, old.held(job_id))
    for name, reason in old.unschedulable.items():
        new.set_schedulable(name, reason)
    new.set_shapes(old.shapes)
    return new
