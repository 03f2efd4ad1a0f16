"""Near each other, in one domain, or spread: seen from the plan."""

from __future__ import annotations

from random import Random

import pytest

from scheduler.core.demand import Level
from scheduler.core.packing.shapes import Shape, TypicalShapes
from tests.fakes.cluster_table import ClusterTable, cluster, demand


def racks() -> ClusterTable:
    """r0 and r1 at north, of two nodes each; r2 at south, of two A100 nodes. A node has two islands of four devices."""
    table = cluster(nodes=0)
    for rack in ("r0", "r1"):
        islands = [f"{rack}-x"] * 4 + [f"{rack}-y"] * 4
        table.nodes(2, 8, rack + "n", rack=rack, island=islands)
    return table.nodes(2, 8, "s", rack="r2", site="south", model="A100")


def domains(table: ClusterTable, job_id: str, level: Level) -> set[str]:
    found: set[str] = set()
    for placement in table.placements(job_id):
        facts = table.state.facts(placement.node)
        if level is Level.ISLAND:
            found |= {facts.devices[i].island or facts.name for i in placement.devices}
        else:
            found.add({"node": facts.name, "rack": facts.rack or facts.name, "site": facts.site}[level.value])
    return found


@pytest.mark.parametrize(
    ("workers", "devices", "level"),
    [(4, 1, Level.ISLAND), (1, 4, Level.ISLAND), (8, 1, Level.ISLAND), (12, 1, Level.RACK), (17, 1, Level.SITE)],
)
def test_a_gang_stands_in_one_domain_of_the_nearest_level(workers: int, devices: int, level: Level) -> None:
    # An island spans the two nodes of a rack: eight devices.
    table = racks().submit("a", workers=workers, devices=devices, model="H100 SXM").expect(started="a")
    assert len(domains(table, "a", level)) == 1


@pytest.mark.parametrize("level", list(Level))
def test_within_is_hard(level: Level) -> None:
    fits = {Level.ISLAND: 8, Level.NODE: 8, Level.RACK: 16, Level.SITE: 32}[level]
    table = racks().submit("a", workers=fits, within=level, model="H100 SXM").expect(started="a")
    assert len(domains(table, "a", level)) == 1
    racks().submit("a", workers=fits + 1, within=level).expect(started="")


@pytest.mark.parametrize("seed", range(6))
def test_within_prefers_where_the_first_alternative_holds(seed: int) -> None:
    wishes = demand(1, model="A100"), demand(1, model="H100 SXM")
    table = racks().policy(tie_seed=seed).run("r", "r0n0", 4)  # a tighter rack than that of the A100s
    table.submit("a", *wishes, workers=6, within=Level.RACK).expect(started="a")
    assert domains(table, "a", Level.RACK) == {"r2"}
    table = racks().policy(tie_seed=seed).run("r", "s0", 4)
    table.submit("a", *reversed(wishes), workers=6, within=Level.RACK).expect(started="a")
    assert domains(table, "a", Level.RACK) <= {"r0", "r1"}


def test_within_takes_the_tightest_domain_that_holds_all() -> None:
    table = racks().run("r", "r0n0", 5, ends_in=None)
    table.submit("a", workers=9, within=Level.RACK, model="H100 SXM").expect(started="a")
    assert domains(table, "a", Level.RACK) == {"r0"}


@pytest.mark.parametrize("level", list(Level))
def test_one_per_is_hard(level: Level) -> None:
    # Islands: two a rack of r0 and r1, and each node of r2 is one of its own.
    fits = {Level.ISLAND: 6, Level.NODE: 6, Level.RACK: 3, Level.SITE: 2}[level]
    table = racks().submit("a", workers=fits, one_per=level).expect(started="a")
    assert len(domains(table, "a", level)) == fits
    racks().submit("a", workers=fits + 1, one_per=level).expect(started="")


@pytest.mark.parametrize("level", [Level.NODE, Level.RACK, Level.SITE])
def test_spread_is_as_even_as_there_is_room(level: Level) -> None:
    fits = {Level.NODE: 6, Level.RACK: 3, Level.SITE: 2}[level]
    table = racks().submit("a", workers=2 * fits, spread=level).expect(started="a")
    counts: dict[str, int] = {}
    for placement in table.placements("a"):
        facts = table.state.facts(placement.node)
        name = {"node": facts.name, "rack": str(facts.rack), "site": facts.site}[level.value]
        counts[name] = counts.get(name, 0) + 1
    assert set(counts.values()) == {2}


def test_a_single_spread_replica_takes_the_best_node_of_all_racks_that_have_fewest() -> None:
    """r0 has nodes with 1, 8 and 8 devices free, r1 two with 3 each: the tightest node is in the roomier rack."""
    table = cluster(nodes=3, rack="r0").nodes(2, 8, "m", rack="r1")
    table.run("a", "n0", 7).run("b", "m0", 5).run("c", "m1", 5).submit("x", spread=Level.RACK)
    assert list(table.expect(started="x").where("x")) == ["n0"]


@pytest.mark.parametrize("seed", range(6))
def test_a_single_replica_of_one_per_node_takes_the_tightest_of_the_others(seed: int) -> None:
    table = cluster(nodes=5).policy(tie_seed=seed).run("a", "n1", 6).run("b", "n2", 7).run("c", "n3", 7)
    table.submit("x", one_per=Level.NODE, beside=("n3",))
    assert list(table.expect(started="x").where("x")) == ["n2"]


@pytest.mark.parametrize("seed", range(6))
def test_a_gang_of_shares_goes_where_least_is_left(seed: int) -> None:
    table = cluster(nodes=3, devices=2).policy(tie_seed=seed)
    table.run("a", "n0", [0], share=0.25).run("b", "n1", [0], share=0.5).run("c", "n2", [0], share=0.4)
    assert list(table.submit("x", share=0.2, workers=2).expect(started="x").where("x")) == ["n1"]


def test_narrow_nodes_beside_wide_ones_have_all_their_room() -> None:
    table = cluster(nodes=1, devices=1).nodes(1, 8, "m").run("r", "m0", 8)
    assert table.submit("a", share=0.25, workers=4).expect(started="a").where("a") == {"n0": [0] * 4}
    table = cluster(nodes=1, devices=1).nodes(1, 8, "m").run("r", "m0", 8).submit("a", devices=1).expect(started="a")


def test_a_worker_stands_in_one_island_where_one_can_hold_it() -> None:
    table = cluster(nodes=1, island=["x"] * 4 + ["y"] * 4).run("r", "n0", [0], ends_in=None)
    assert table.submit("a", devices=4).expect(started="a").where("a") == {"n0": [4, 5, 6, 7]}


def test_two_small_workers_take_the_tighter_island() -> None:
    table = cluster(nodes=1, island=["x"] * 4 + ["y"] * 4).run("r", "n0", [0, 1], ends_in=None)
    assert table.submit("a", workers=2).expect(started="a").where("a") == {"n0": [2, 3]}


@pytest.mark.parametrize("packing", ["default", "fgd"])
def test_packing_keeps_whole_nodes_for_work_that_wants_them(packing: str) -> None:
    table = cluster(nodes=2).policy(packing=packing).run("r", "n1", [0], share=0.5, ends_in=None)
    table.state.set_shapes(TypicalShapes.of_counts({Shape(1_000, 8, 1_000): 1.0}))
    assert list(table.submit("a", share=0.5).expect(started="a").where("a")) == ["n1"]


def test_mig_instances_are_for_those_that_ask_for_them() -> None:
    table = cluster(nodes=1, devices=4, mig=[None, "1g.10gb", "1g.10gb", "3g.40gb"])
    table.submit("a", mig="1g.10gb", workers=2).submit("b", devices=2).submit("c").submit("d", mig="1g.10gb")
    table.expect(started="a c", waiting="b d")
    assert (table.where("a"), table.where("c")) == ({"n0": [1, 2]}, {"n0": [0]})


@pytest.mark.parametrize(
    ("labels", "device_labels", "started"),
    [({"disk": "ssd"}, {}, "a"), ({"disk": "hdd"}, {}, ""), ({"disk": "ssd", "x": "y"}, {}, ""), ({}, {"l": "f"}, "a")],
)
def test_labels_must_all_be_carried(labels: dict[str, str], device_labels: dict[str, str], started: str) -> None:
    table = cluster(nodes=1, labels={"disk": "ssd", "cpu": "arm"}, device_labels={"l": "f"})
    table.submit("a", labels=labels, device_labels=device_labels).expect(started=started)


@pytest.mark.parametrize("seed", range(30))
def test_which_rack_the_cluster_knew_first_decides_nothing(seed: int) -> None:
    """Else a plan would not be made again from what is known now."""
    plans = []
    for known in (("r0", "r1", "r2"), ("r2", "r1", "r0")):
        table, random = cluster(nodes=0), Random(seed)
        for rack in known:
            table.nodes(1, 8, "once-" + rack, rack=rack)
        for rack in known:
            table.state.remove_node(f"once-{rack}0")
        for node in range(4):
            devices = random.choice([4, 8])
            table.nodes(1, devices, f"n{node}-", rack=f"r{random.randrange(3)}")
            first = 0
            while first < devices:
                count = min(random.choice([1, 2, 4]), devices - first)
                if random.random() < 0.7:
                    held = range(first, first + count)
                    table.run(f"v{node}-{first}", f"n{node}-0", held, priority=random.choice([-1, 1, 5]))
                first += count
        each = random.choice([2, 4])
        plan = table.submit("gang", workers=2, devices=each, priority=9, within=Level.RACK).plan()
        plans.append((plan.starts, plan.preemptions))
    assert plans[0] == plans[1]
