"""Elastic training that grows, services that shrink, replicas beside their siblings."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.demand import Constraints, Level
from scheduler.core.reasons import NoFit
from tests.fakes.cluster_table import ClusterTable, cluster, demand

# ---- growth ------------------------------------------------------------------------------------------------------


def elastic(has: int = 2, most: int = 8, **facts: object) -> ClusterTable:
    """One node of 8 devices; "e" runs with `has` workers of one device each and could use `most`."""
    table = cluster(nodes=1).policy(min_run_before_growth_s=600.0)
    given = {"workers_max": most, "alternatives": (demand(1),), "started_ago": 600.0, "ends_in": None, **facts}
    for i in range(has):
        table.run("e", "n0", [i], **given)  # type: ignore[arg-type]
    return table


@pytest.mark.parametrize(
    ("has", "most", "facts", "grown"),
    [
        (2, 8, {}, "e:8"),
        (2, 5, {}, "e:5"),
        (2, 20, {}, "e:8"),
        (7, 8, {}, "e:8"),  # all it can use is worth a restart
        (7, 20, {}, ""),  # one in seven is not
        (6, 20, {}, "e:8"),  # a quarter more is (6 -> 8)
        (8, 20, {}, ""),
        (2, 8, {"started_ago": 599.0}, ""),
        (2, 8, {"stopping": True}, ""),
        (2, 2, {}, ""),
    ],
)
def test_an_elastic_job_grows_where_that_is_worth_a_restart(
    has: int, most: int, facts: dict[str, object], grown: str
) -> None:
    elastic(has, most, **facts).expect(grown=grown)


@pytest.mark.parametrize(
    ("waits", "grown"),
    [
        ({"devices": 8}, ""),  # somebody waits for such devices, though they do not suffice
        ({"devices": 0, "cpus": 64}, ""),  # or for the node's CPUs
        ({"model": "A100", "devices": 8}, "e:8"),  # another pool
        ({"reservation": "night"}, ""),
    ],
)
def test_it_grows_only_on_devices_that_nobody_waits_for(waits: dict[str, object], grown: str) -> None:
    table = elastic().nodes(1, 4, "a", model="A100").run("r", "a0", 4, ends_in=None)
    table.submit("a", may_preempt=False, **waits).expect(started="", grown=grown)  # type: ignore[arg-type]


def test_a_starting_job_goes_before_growth() -> None:
    elastic().submit("a", devices=4).expect(started="a", grown="e:4")


@pytest.mark.parametrize(("maximum", "grown"), [(8, "e:8"), (5, "e:5"), (3, "e:3"), (2, ""), (None, "e:8")])
def test_growth_stays_within_the_tenants_maximum(maximum: float | None, grown: str) -> None:
    elastic().tenant("t", maximum=maximum).expect(grown=grown)


def test_one_job_grows_a_pass_the_highest_class_first() -> None:
    table = cluster(nodes=1).policy(min_run_before_growth_s=0.0)
    for i, priority in enumerate((0, 5)):
        table.run(f"e{i}", "n0", [i], workers_max=4, alternatives=(demand(1),), priority=priority, ends_in=None)
    table.expect(grown="e1:4")


def test_growth_keeps_to_the_jobs_constraints() -> None:
    table = cluster(nodes=1, devices=2, rack="r0").nodes(1, 8, "m", rack="r1").policy(min_run_before_growth_s=0.0)
    from_rack = Level.RACK
    table.submit("e", workers=(2, 8), within=from_rack, node=None, limit=None).run("r", "m0", 7)
    table.expect(started="e").apply().gone("r").after(1.0).expect(grown="")


def test_what_grew_runs_on_with_more() -> None:
    table = cluster(nodes=1).policy(min_run_before_growth_s=10.0).run("r", "n0", 5, ends_in=20.0)
    table.submit("e", workers=(2, 8), limit=None).expect(started="e").apply()
    assert len(table.running["e"].placements) == 3
    table.after(20.0).all_due_leave().expect(grown="e:8").apply().all_due_leave().expect(started="e").apply()
    assert len(table.running["e"].placements) == 8
    table.after(100.0).expect(grown="", started="")


def test_a_preempted_elastic_job_goes_on_smaller() -> None:
    table = cluster(nodes=1).submit("e", workers=(2, 8), limit=None).expect(started="e").apply().after(1.0)
    table.submit("a", devices=4, priority=9, limit=50.0).expect(preempted="e").apply().all_due_leave()
    table.expect(started="a e").apply()
    assert len(table.running["e"].placements) == 4


def test_nodes_reserved_soon_are_not_grown_onto() -> None:
    elastic().reserve("night", "n0", 100.0, 50.0).expect(grown="")
    elastic(has=2).nodes(1, 8, "m").reserve("night", "n0", 100.0, 50.0).expect(grown="e:8")


# ---- services ----------------------------------------------------------------------------------------------------


def service(*places: tuple[str, int], **facts: object) -> ClusterTable:
    table = cluster(nodes=3)
    for node, device in places:
        table.run("s", node, [device], ends_in=None, **facts)  # type: ignore[arg-type]
    return table


@pytest.mark.parametrize(
    ("wants", "released"),
    [(4, ""), (3, "s:3"), (2, "s:2,3"), (1, "s:1,2,3"), (0, "s:0,1,2,3")],
)
def test_a_service_that_wants_fewer_releases_the_newest(wants: int, released: str) -> None:
    service(("n0", 0), ("n0", 1), ("n0", 2), ("n0", 3)).scale("s", wants).expect(released=released)


def test_nodes_that_are_nearly_empty_come_free_first() -> None:
    table = service(("n0", 0), ("n1", 0), ("n0", 1), ("n1", 1)).run("r", "n0", [5, 6], ends_in=None)
    table.scale("s", 2).expect(released="s:1,3")


def test_a_spread_service_keeps_its_spread() -> None:
    table = service(("n0", 0), ("n0", 1), ("n1", 0), ("n2", 0), constraints=Constraints(spread=Level.NODE))
    table.run("r", "n0", [5, 6], ends_in=None).scale("s", 3).expect(released="s:1")


@settings(max_examples=60, deadline=None)
@given(
    places=st.sets(st.tuples(st.sampled_from(["n0", "n1", "n2"]), st.integers(0, 7)), min_size=1),
    spread=st.sampled_from([None, Level.NODE, Level.SITE]),
    wants=st.integers(0, 24),
)
def test_each_released_is_the_first_to_go_of_those_left(
    places: set[tuple[str, int]], spread: Level | None, wants: int
) -> None:
    ordered = sorted(places, key=lambda place: (place[1], place[0]))
    table = service(*ordered, constraints=Constraints(spread=spread))
    left = dict(enumerate(node for node, _ in ordered))
    going: list[int] = []
    while len(left) > wants:
        on = list(left.values())
        crowd = {node: on.count(node) if spread is Level.NODE else 0 for node in on}
        going.append(max(left, key=lambda worker: (crowd[left[worker]], -on.count(left[worker]), worker)))
        del left[going[-1]]
    released = "s:" + ",".join(map(str, sorted(going))) if going else ""
    table.scale("s", wants).expect(released=released)


def test_what_is_released_is_free_in_the_next_pass_and_the_others_go_on() -> None:
    table = service(("n0", 0), ("n0", 1)).run("r", "n1", 8).run("q", "n2", 8).scale("s", 1)
    table.submit("a", devices=7).expect(started="", released="s:1").apply().expect(started="a", released="")
    assert [placement.worker for placement in table.running["s"].placements] == [0]


def test_a_stopping_service_releases_nothing() -> None:
    service(("n0", 0), ("n0", 1), stopping=True).scale("s", 1).expect(released="")


def test_scale_to_zero_gives_everything_back() -> None:
    table = service(("n0", 0), ("n1", 1)).scale("s", 0).expect(released="s:0,1").apply()
    assert table.state.held("s") == ()


# ---- replicas beside their siblings -------------------------------------------------------------------------------


def test_one_more_replica_stands_where_there_is_none() -> None:
    table = cluster(nodes=3).submit("a", spread=Level.NODE, beside=("n0", "n2"))
    assert list(table.expect(started="a").where("a")) == ["n1"]


def test_one_more_replica_of_one_per_node_waits_where_each_has_one() -> None:
    table = cluster(nodes=2).submit("a", one_per=Level.NODE, beside=("n0", "n1")).submit("b", one_per=Level.NODE)
    table.expect(started="b", waiting="a")
    assert isinstance(table.last.reasons["a"], NoFit)


def test_a_replica_that_its_slo_needs_takes_from_best_effort_training_and_not_from_its_siblings() -> None:
    table = cluster(nodes=2).run("train", "n0", 8, priority=0, ends_in=None).run("s", "n1", 8, priority=5, ends_in=None)
    table.policy(non_preempting=frozenset({5})).submit("a", priority=5, holds_slo=True, limit=None, beside=("n1",))
    table.expect(preempted="train")
