"""first_for_nodes.py: what is read off for a gang that wants whole nodes is what the search finds."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from scheduler.core.arrays import distinct
from scheduler.core.first_for_nodes import FreeOnNodes
from scheduler.core.reservations import Promise
from scheduler.core.timeline import Slot, Timeline
from tests.fakes.examples import examples
from tests.fakes.held_table import NOW_S, HeldTable, wants


def racks(random: Random) -> HeldTable:
    """Nodes of four devices, of two models, in some racks or none, with jobs on them."""
    table = HeldTable()
    for rack in range(random.randint(1, 4)):
        name = random.choice([None, f"rack{rack}"])
        table.nodes(random.randint(1, 4), 4, f"h{rack}-", cpus=8, memory_gib=8, rack=name)
    table.nodes(random.randint(0, 12), 4, "a", model="A100", cpus=6, memory_gib=8)
    for number, node in enumerate(table.state.node_names):
        ends_in = [random.choice([None, *range(-1, 6)]) for _ in range(4)]
        if random.random() < 0.5:
            ends_in = [ends_in[0]] * 4
        for device in random.sample(range(4), random.choice([0, 1, 4, 4])):
            cpus, memory = random.choice([0, 1]), random.choice([0, 1])
            end = ends_in[device]
            stopping = random.random() < 0.1
            table.run(
                f"{number}.{device}", node, [device], cpus=cpus, memory_gib=memory, ends_in=end, stopping=stopping
            )
    return table


def asked(
    timeline: Timeline, table: HeldTable, workers: int, limit_s: float, cpus: int, memory_gib: int
) -> Slot | None:
    job = wants(4, workers=workers, cpus=cpus, memory_gib=memory_gib, model="H100 SXM")
    return timeline.first_slot(table.pools, job.alternatives, workers, limit_s=limit_s)


def assert_same_promise(one: Slot, other: Slot) -> None:
    promises = [Promise("p", slot.at_s, slot.free, slot.fit.claim) for slot in (one, other)]
    assert promises[0].rows.tolist() == promises[1].rows.tolist()
    for column in ("milli", "whole", "cpus_milli", "memory_bytes"):
        left, wanted = (getattr(promise.after, column) for promise in promises)
        assert left.tolist() == wanted.tolist(), column
        assert left.dtype == wanted.dtype, column


@settings(max_examples=examples(80), deadline=None)
@given(st.integers(0, 2**32))
def test_what_is_read_off_for_whole_nodes_is_what_the_search_finds(seed: int) -> None:
    random = Random(seed)
    table = racks(random)
    timeline = Timeline(table.state.free, table.view(), now_s=NOW_S)
    one_job = wants(random.randint(1, 4), cpus=1)
    for _ in range(random.randint(0, 3)):
        slot = timeline.first_slot(table.pools, one_job.alternatives, 1)
        if slot is not None:
            from_s = random.choice([slot.at_s, -math.inf])
            timeline.occupy(slot.fit.claim, from_s=from_s, until_s=slot.at_s + random.choice([0.5, 3.0, math.inf]))
    read_off = 0
    for workers in (2, 2, 3, 4):
        limit_s, cpus, memory_gib = random.choice([math.inf, 2.5]), random.choice([0, 1, 6]), random.choice([0, 3])
        short = asked(timeline, table, workers, limit_s, cpus, memory_gib)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("scheduler.core.timeline.asks_for_nodes", lambda gang: False)
            searched = asked(timeline, table, workers, limit_s, cpus, memory_gib)
        if short is None or searched is None:
            assert short is searched
            continue
        read_off += isinstance(short.free, FreeOnNodes)
        assert not isinstance(searched.free, FreeOnNodes)
        assert short.at_s == searched.at_s
        assert short.fit.placements == searched.fit.placements
        for column in ("rows", "devices", "milli", "worker_rows", "cpus_milli", "memory_bytes"):
            assert getattr(short.fit.claim, column).tolist() == getattr(searched.fit.claim, column).tolist(), column
        rows, _ = distinct(short.fit.claim.worker_rows)
        free, wanted = short.free.on(rows), searched.free.on(rows)
        for column in ("milli", "whole", "cpus_milli", "memory_bytes"):
            assert getattr(free, column).tolist() == getattr(wanted, column).tolist(), column
        assert_same_promise(short, searched)
        until_s = short.at_s + random.choice([1.5, math.inf])
        timeline.occupy(short.fit.claim, from_s=short.at_s, until_s=until_s)
    event(f"{read_off} read off")
