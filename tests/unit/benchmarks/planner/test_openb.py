"""The openb cluster, from its file or made up alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.planner.openb import ONE_DEVICE, OpenbColumns, OpenbFleet, fleet_of, made_up, shapes
from scheduler.core.packing.rows import Ask
from scheduler.simulation.openb import read_nodes

DATA = Path(__file__).resolve().parents[5] / "shared" / "data" / "openb"


@dataclass(frozen=True)
class Row:
    name: str
    devices: int
    model: str = "T4"
    cpus_milli: int = 64_000
    memory_bytes: int = 2**38


def make_up(fleet: OpenbFleet) -> Counter[tuple[int, int, int, str]]:
    return Counter(
        (facts.cpus_milli, facts.memory_bytes, len(facts.devices), facts.devices[0].model) for facts in fleet.nodes
    )


def test_the_made_up_cluster_has_the_traces_size() -> None:
    fleet = made_up()
    assert (len(fleet.nodes), fleet.devices) == (1_213, 6_212)
    assert len({facts.name for facts in fleet.nodes}) == 1_213
    assert "made up" in fleet.origin


def test_the_made_up_cluster_is_made_up_like_the_trace() -> None:
    file = DATA / "openb_node_list_gpu_node.csv"
    if not file.is_file():
        pytest.skip("shared/data is not beside this checkout")
    assert make_up(made_up()) == make_up(fleet_of(read_nodes(file), "file"))


def test_every_node_has_cpus_and_memory_for_all_its_devices() -> None:
    for facts in made_up().nodes:
        assert facts.cpus_milli >= len(facts.devices) * ONE_DEVICE.cpus_milli, facts
        assert facts.memory_bytes >= len(facts.devices) * ONE_DEVICE.memory_bytes, facts


def test_shapes_are_weighed_by_their_pods() -> None:
    first, second = shapes().shapes[:2]
    assert (first.shape.gpu_milli, second.shape.cpus_milli) == (810, 11_300)
    assert sum(each.weight for each in shapes().shapes) == pytest.approx(1.0)


def test_columns_are_taken_from_and_every_take_has_its_stamp() -> None:
    fleet = fleet_of([Row("a", 1), Row("b", 2)], "test")
    free = OpenbColumns(fleet.nodes)
    assert free.milli.tolist() == [[1000, -1], [1000, 1000]]
    ask = Ask(free.milli[:, 0] > 0, devices=1, cpus_milli=4_000)
    free.take(1, (1,), ask)
    free.take(1, (0,), ask)
    assert free.milli.tolist() == [[1000, -1], [0, 0]]
    assert (free.cpus_milli.tolist(), free.stamps.tolist()) == ([64_000, 56_000], [0, 2])
