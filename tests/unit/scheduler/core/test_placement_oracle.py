"""place() against plain enumeration on tiny clusters: it breaks no rule, and finds a place wherever there is one.

One alternative and no shares: there it is exact. (Gangs that mix alternatives are placed greedily; shares would only
make enumerating slow.) Islands are well formed: they hold whole nodes, or parts of one node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from scheduler.core.claims import Claim
from scheduler.core.demand import Constraints, Demand, Level, NodeFacts, Placement
from scheduler.core.free_columns import FreeColumns
from scheduler.core.node_columns import NodeColumns, Pool
from scheduler.core.placement import Pools, fits, how_many, place
from scheduler.core.pools import any_room, capacity, room_up_to
from tests.fakes.cluster_table import node_facts
from tests.fakes.examples import examples

LEVELS = [Level.ISLAND, Level.NODE, Level.RACK, Level.SITE]
Domain = tuple[object, ...]


@dataclass(frozen=True)
class World:
    facts: tuple[NodeFacts, ...]
    busy: tuple[frozenset[int], ...]  # indices of busy devices, a node
    cpus: tuple[int, ...]  # free
    demand: Demand
    workers: int
    constraints: Constraints
    beside: tuple[str, ...]
    excluded: tuple[bool, ...]

    # ---- the rules, said plainly -----------------------------------------------------------------------------------

    def domain(self, node: int, device: int | None, level: Level) -> Domain:
        """Of a worker on that device, or with none."""
        facts = self.facts[node]
        if level is Level.SITE:
            return ("site", facts.site)
        if level is Level.RACK and facts.rack is not None:
            return ("rack", facts.site, facts.rack)
        if level is Level.ISLAND:
            islands = {d.island for d in facts.devices}
            if device is not None:
                islands = {facts.devices[device].island}
            if len(islands) == 1 and islands != {None}:
                return ("island", *islands)
        return ("node", node)

    def sibling_domains(self, level: Level) -> list[Domain]:
        found: list[Domain] = []
        for name in self.beside:
            for node, facts in enumerate(self.facts):
                if facts.name == name:
                    devices = [d.index for d in facts.devices]
                    here = {self.domain(node, device, level) for device in [None, *devices]}
                    found += sorted(here, key=repr)
        return found

    def units(self) -> list[tuple[int, int | None, int]]:
        """(node, a device of the island or None, workers it takes alone): where single workers can stand."""
        by_island = Level.ISLAND in (self.constraints.within, self.constraints.one_per)
        found: list[tuple[int, int | None, int]] = []
        for node, facts in enumerate(self.facts):
            if self.excluded[node]:
                continue
            around = self.cpus[node] // self.demand.cpus_milli
            if not self.demand.devices:
                found.append((node, None, around))
                continue
            groups: dict[object, list[int]] = {}
            for device in facts.devices:
                if device.index not in self.busy[node]:
                    key = self.domain(node, device.index, Level.ISLAND) if by_island else node
                    groups.setdefault(key, []).append(device.index)
            found += [(node, group[0], min(around, len(group) // self.demand.devices)) for group in groups.values()]
        return [unit for unit in found if unit[2]]

    def arrangements(self) -> Iterator[tuple[tuple[int, int | None], ...]]:
        """Every way to put up to `workers` workers on the units, rules kept."""
        units = self.units()

        def put(first: int, stands: tuple[tuple[int, int | None], ...]) -> Iterator[tuple[tuple[int, int | None], ...]]:
            yield stands
            if len(stands) == self.workers:
                return
            for at in range(first, len(units)):
                node, device, room = units[at]
                now = (*stands, (node, device))
                alone = sum(each == (node, device) for each in now) <= room
                together = sum(each[0] == node for each in now) * self.demand.cpus_milli <= self.cpus[node]
                if alone and together and self.keeps_rules(now):
                    yield from put(at, now)

        return put(0, ())

    def keeps_rules(self, stands: tuple[tuple[int, int | None], ...]) -> bool:
        one_per, within = self.constraints.one_per, self.constraints.within
        if one_per is not None:
            taken = Counter(self.domain(node, device, one_per) for node, device in stands)
            if max(taken.values(), default=0) > 1 or any(domain in taken for domain in self.sibling_domains(one_per)):
                return False
        if within is not None:
            domains = {self.domain(node, device, within) for node, device in stands}
            siblings = self.sibling_domains(within)
            if len(domains) > 1 or (siblings and not domains <= set(siblings)):
                return False
        return True

    def most(self) -> int:
        return max(map(len, self.arrangements()))

    # ---- the same for the code -------------------------------------------------------------------------------------

    def pools(self) -> tuple[Pools, FreeColumns]:
        nodes = NodeColumns().with_nodes(self.facts)
        free = FreeColumns.empty(nodes)
        busy = [Placement(0, f.name, tuple(taken), 0, 0, 0, 0) for f, taken in zip(self.facts, self.busy, strict=True)]
        free.take(Claim.of(nodes, busy))
        free.cpus_milli[:] = self.cpus
        return Pools(nodes, np.ones(len(nodes), np.bool_), nodes.tie_rank(0)), free


islands_of_node = st.sampled_from(
    [(None,) * 4, ("A", "A", "A", "A"), ("p", "p", "q", "q"), ("p", "q", "q", "q"), ("p", "p", None, None)]
)


@st.composite
def worlds(draw: st.DrawFn, constrained: bool = True) -> World:
    count = draw(st.integers(1, 4))
    facts = []
    for i in range(count):
        devices = draw(st.integers(0, 4))
        # A whole node may share its island with others; a part of one is named after its node.
        shape = [each if each in (None, "A") else f"{each}{i}" for each in draw(islands_of_node)][:devices]
        rack = draw(st.sampled_from([None, "r", "s"]))
        site = draw(st.sampled_from(["north", "north", "south"]))
        facts.append(node_facts(f"n{i}", devices, island=shape, rack=rack, site=site))
    levels = st.sampled_from([None, *LEVELS])
    return World(
        facts=tuple(facts),
        busy=tuple(
            draw(st.frozensets(st.sampled_from(range(len(f.devices))))) if f.devices else frozenset() for f in facts
        ),
        cpus=tuple(draw(st.integers(0, 5)) * 1000 for _ in facts),
        demand=Demand(devices=draw(st.integers(0, 3)), cpus_milli=1000),
        workers=draw(st.integers(1, 4)),
        constraints=Constraints(draw(levels), draw(levels), draw(levels)) if constrained else Constraints(),
        beside=tuple(draw(st.lists(st.sampled_from([*(f.name for f in facts), "gone"]), max_size=2))),
        excluded=tuple(draw(st.booleans()) and draw(st.booleans()) for _ in facts),
    )


@settings(max_examples=examples(200), deadline=None)
@given(worlds(), st.integers(1, 4))
def test_a_place_is_found_where_there_is_one_and_keeps_the_rules(world: World, at_least: int) -> None:
    pools, free = world.pools()
    most = world.most()
    least = min(at_least, world.workers)
    where = {
        "constraints": world.constraints,
        "beside": world.beside,
        "excluded": np.array(world.excluded, np.bool_),
    }
    before = (free.milli.tolist(), free.cpus_milli.tolist(), free.stamps.tolist())
    fit = place(pools, free, (world.demand,), wanted=world.workers, at_least=least, **where)  # type: ignore[arg-type]
    event(f"most {most} of {world.workers}")
    assert how_many(pools, free, (world.demand,), world.workers, **where) == most  # type: ignore[arg-type]
    assert fits(pools, free, (world.demand,), least, **where) == (most >= least)  # type: ignore[arg-type]
    assert before == (free.milli.tolist(), free.cpus_milli.tolist(), free.stamps.tolist())
    if most < least:
        assert fit is None
        return
    assert fit is not None
    assert len(fit.placements) == most
    assert [p.worker for p in fit.placements] == list(range(most))
    row_of = pools.nodes.row_of
    stands: list[tuple[int, int | None]] = []
    for placement in fit.placements:
        node = row_of[placement.node]
        assert not world.excluded[node]
        assert len(set(placement.devices)) == world.demand.devices
        assert not set(placement.devices) & world.busy[node]
        if Level.ISLAND in (world.constraints.within, world.constraints.one_per):
            assert len({world.domain(node, device, Level.ISLAND) for device in placement.devices}) <= 1
        stands.append((node, placement.devices[0] if placement.devices else None))
    assert world.keeps_rules(tuple(stands))
    assert fit.claim.worker_rows.tolist() == [node for node, _ in stands]
    free.take(fit.claim)
    assert free.overcommitted(fit.claim) is None
    here = Claim.of(pools.nodes, fit.placements)
    assert here.devices.tolist() == fit.claim.devices.tolist()
    assert here.rows.tolist() == fit.claim.rows.tolist()


@settings(max_examples=examples(100), deadline=None)
@given(st.data())
def test_the_short_ways_to_count_room_agree_with_the_room_of_each_node(data: st.DataObject) -> None:
    """Also over what is promised more than once, and is below zero."""
    count = data.draw(st.integers(1, 4))
    nodes = NodeColumns().with_nodes([node_facts(f"n{i}", 4) for i in range(count)])
    free = FreeColumns.empty(nodes)
    left = st.sampled_from([-500, 0, 250, 500, 1000, 1000])
    free.milli[:] = data.draw(st.lists(st.lists(left, min_size=4, max_size=4), min_size=count, max_size=count))
    free.whole[:] = (free.milli == 1000).sum(axis=1)
    free.cpus_milli[:] = data.draw(st.lists(st.integers(-1, 5), min_size=count, max_size=count))
    free.memory_bytes[:] = data.draw(st.lists(st.integers(-1, 5), min_size=count, max_size=count))
    serve = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    some = data.draw(st.lists(st.booleans(), min_size=4 * count, max_size=4 * count))
    pool = Pool(serve, np.array(some).reshape(count, 4) if data.draw(st.booleans()) else None)
    devices, share_milli = data.draw(st.sampled_from([(0, 0), (1, 0), (3, 0), (0, 250), (0, 400)]))
    demand = Demand(
        devices=devices,
        share_milli=share_milli,
        cpus_milli=data.draw(st.integers(0, 2)),
        memory_bytes=data.draw(st.integers(0, 2)),
    )
    limit = data.draw(st.integers(1, 9))
    room = int(capacity(pool, free, demand, limit).sum())
    assert min(room_up_to(pool, free, demand, limit), limit) == min(room, limit)
    assert any_room(pool, free, demand) == (room > 0)


@settings(max_examples=examples(100), deadline=None)
@given(worlds(constrained=False))
def test_a_gang_stands_in_one_domain_of_the_nearest_level_that_can_hold_it(world: World) -> None:
    pools, free = world.pools()
    excluded = np.array(world.excluded, np.bool_)
    fit = place(pools, free, (world.demand,), wanted=world.workers, at_least=world.workers, excluded=excluded)
    if fit is None:
        return

    def standing(level: Level) -> set[Domain]:
        found = set()
        for placement in fit.placements:
            devices = placement.devices or (None,)
            found |= {world.domain(pools.nodes.row_of[placement.node], device, level) for device in devices}
        return found

    for level in LEVELS:
        possible = how_many(
            pools, free, (world.demand,), world.workers, constraints=Constraints(within=level), excluded=excluded
        )
        if possible == world.workers:
            event(f"held by one {level}")
            assert len(standing(level)) == 1, (level, fit.placements)
            return


@settings(max_examples=examples(100), deadline=None)
@given(worlds(), st.sampled_from([Level.NODE, Level.RACK, Level.SITE]))
def test_spread_workers_stand_as_evenly_as_there_is_room(world: World, level: Level) -> None:
    pools, free = world.pools()
    fit = place(
        pools,
        free,
        (world.demand,),
        wanted=world.workers,
        at_least=1,
        constraints=Constraints(spread=level),
        beside=world.beside,
    )
    if fit is None:
        return
    siblings = Counter(world.sibling_domains(level))
    mine = Counter(world.domain(pools.nodes.row_of[p.node], None, level) for p in fit.placements)
    free.take(fit.claim)
    # No worker of the fullest domain could stand in one that has two less.
    rooms: Counter[Domain] = Counter()
    for node in range(len(world.facts)):
        only = np.arange(len(world.facts)) == node
        rooms[world.domain(node, None, level)] += how_many(pools, free, (world.demand,), 1, only=only)
    most = max(siblings[domain] + count for domain, count in mine.items())
    assert all(siblings[domain] + mine[domain] >= most - 1 for domain, room in rooms.items() if room)
