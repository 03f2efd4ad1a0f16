"""Whose turn it is, seen from the plan: class, then who waits too long, then fair share, deadline and submission."""

from __future__ import annotations

import pytest

from tests.fakes.cluster_table import ClusterTable, cluster


def two_devices() -> ClusterTable:
    return cluster(nodes=1, devices=2)


@pytest.mark.parametrize(
    ("first", "second", "started"),
    [
        ({}, {}, "a"),  # submission
        ({}, {"priority": 1}, "b"),  # class
        ({"due_in": 50.0}, {"due_in": 40.0}, "b"),  # the earlier deadline
        ({}, {"due_in": 1e6}, "b"),  # any deadline before none
        ({"due_in": 1.0}, {"priority": 1}, "b"),  # no deadline passes a class
        ({"tenant": "busy"}, {"tenant": "idle"}, "b"),  # fair share
        ({"tenant": "busy"}, {"tenant": "idle", "priority": -1}, "a"),  # nor does fair share
        ({"tenant": "busy", "due_in": 1.0}, {"tenant": "idle"}, "b"),  # fair share before deadline
        ({"tenant": "busy", "waited": 3_601.0}, {"tenant": "idle"}, "a"),  # who waits too long goes before fair share
        ({"tenant": "busy", "waited": 3_600.0}, {"tenant": "idle"}, "b"),  # not yet too long
        ({"waited": 3_700.0}, {"waited": 3_800.0, "tenant": "busy"}, "b"),  # of those the first submitted
        ({"waited": 1e9}, {"priority": 1}, "b"),  # no age passes a class
        ({"tenant": "busy"}, {"tenant": "busy", "simulated": True}, "b"),  # another account
    ],
)
def test_one_factor_decides_before_the_next(first: dict[str, object], second: dict[str, object], started: str) -> None:
    table = cluster(nodes=1, devices=1).policy(starve_after_s=3_600.0).tenant("busy", used=0.5)
    table.submit("a", **first).submit("b", **second).expect(started=started)  # type: ignore[arg-type]


def test_what_starts_in_the_pass_counts_at_once() -> None:
    # Four jobs of each tenant, six devices: they take turns, though neither has a past.
    table = cluster(nodes=1, devices=6)
    for i in range(4):
        table.submit(f"t{i}", tenant="t")
    for i in range(4):
        table.submit(f"u{i}", tenant="u")
    table.expect(started="t0 u0 t1 u1 t2 u2", waiting="t3 u3")


def test_weights_divide_what_there_is() -> None:
    table = cluster(nodes=1, devices=6).tenant("heavy", weight=2.0).tenant("light", weight=1.0)
    for i in range(6):
        table.submit(f"h{i}", tenant="heavy").submit(f"l{i}", tenant="light")
    table.plan()
    assert sum(start.job_id.startswith("h") for start in table.last.starts) == 4


def test_what_is_held_counts_beside_what_was_used() -> None:
    table = cluster(nodes=2, devices=4).run("r", "n0", 4, tenant="holder").tenant("user", used=0.4)
    table.submit("a", devices=4, tenant="holder").submit("b", devices=4, tenant="user")
    table.expect(started="b", waiting="a")  # 0.5 held stands above 0.4 used


def test_the_dominant_resource_decides() -> None:
    # "cpus" holds no device, but half of all CPUs; "cards" a quarter of the devices.
    table = (
        cluster(nodes=1, devices=4, cpus=8).run("r", "n0", [], cpus=4, tenant="cpus").run("s", "n0", 1, tenant="cards")
    )
    table.submit("a", devices=3, tenant="cpus").submit("b", devices=3, tenant="cards").expect(started="b", waiting="a")


def test_a_tenant_is_not_charged_on_real_devices_for_rehearsing_on_simulated_ones() -> None:
    table = cluster(nodes=1, devices=2).nodes(4, 8, "s", simulated=True)
    for i in range(4):
        table.run(f"r{i}", f"s{i}", 8, tenant="busy", simulated=True)
    table.submit("a", devices=2, tenant="busy").submit("b", devices=2, tenant="idle").expect(started="a", waiting="b")


def test_nothing_starves_in_its_class() -> None:
    """A stream of small jobs of a modest tenant, and one large job of a greedy one: it starts once it waited too long,
    and would wait for ever without the ageing."""

    def story(starve_after_s: float) -> float | None:
        table = cluster(nodes=1, devices=4).policy(starve_after_s=starve_after_s).tenant("greedy", used=0.9)
        table.submit("big", devices=4, tenant="greedy", limit=50.0)
        for i in range(40):
            table.submit(f"s{i}", devices=2, tenant="modest", limit=12.0)
            table.submit(f"t{i}", devices=2, tenant="modest", limit=12.0)
            table.plan()
            table.apply()
            if "big" not in table.pending:
                return table.now_s - table.asked["big"].submitted_s
            table.after(6.0).all_due_leave()
        return None

    waited_s = story(60.0)
    assert waited_s is not None
    assert 60.0 < waited_s <= 60.0 + 12.0 + 6.0
    assert story(86_400.0) is None


def test_jobs_of_an_array_start_in_order_and_share_their_reason() -> None:
    table = two_devices()
    for i in range(200):
        table.submit(f"task{i}")
    table.expect(started="task0 task1")
    assert len({id(table.last.reasons[f"task{i}"]) for i in range(3, 200)}) == 1
    table.apply().gone("task0").expect(started="task2")


def test_those_of_an_array_with_a_deadline_go_first() -> None:
    table = two_devices()
    for i in range(5):
        table.submit(f"task{i}", due_in=None if i < 3 else 100.0 - i)
    table.expect(started="task4 task3")
