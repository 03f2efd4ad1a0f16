"""What does one goal's arithmetic cost over a thousand cards and a week of nights? The cards and their figures are made
up for the timing and go nowhere. Run: `make bench`."""

from __future__ import annotations

from collections.abc import Callable

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.capacity.arithmetic import GoalCapacity, goal_capacity
from benchmarks.history.store import StoredResult
from benchmarks.inventory import Device, Node
from benchmarks.protocol import Verdict
from benchmarks.record import DeviceRecord
from scheduler.schema.model import Card, Goal

NODES, CARDS_A_NODE, NIGHTS = 125, 8, 7
SITE, MODEL, VENDOR = "made-up", "made-up card", "nobody"
DAY_S, WINDOW_S, FIRST_S = 86_400.0, 600.0, 1.8e9

CARD = Card(MODEL, VENDOR, 80 * 10**9, {"fp16_bf16": 1000.0}, None, {}, "high", "made up")
GOAL = Goal("made-up", "Made up", "虚构", (SITE,), 700.0, "dense 16-bit", "2029-03-15", "made up", False)


def a_result(node: str, uuid: str, number: int, night: int) -> StoredResult:
    start_s = FIRST_S + DAY_S * night
    record = DeviceRecord(
        device=uuid,
        covers=(uuid,),
        node=node,
        site=SITE,
        model=MODEL,
        vendor=VENDOR,
        evidence="measured",
        on="accelerator",
        workload="gemm",
        precision="bf16",
        gflops=800_000.0 + number % 97,
        verified=True,
        verdict=Verdict.OK,
        reason=None,
        window_s=WINDOW_S,
        window_start_s=start_s,
        samples=100,
        detection_probability=0.03,
    )
    return StoredResult(f"night-{night}", start_s + WINDOW_S, None, record)


def test_a_goal_over_1000_cards(benchmark: BenchmarkFixture) -> None:
    names = [(f"node-{at}", tuple(f"card-{at}-{slot}" for slot in range(CARDS_A_NODE))) for at in range(NODES)]
    nodes = [Node(name, SITE, "ready", False, tuple(Device(u, MODEL, VENDOR, True) for u in of)) for name, of in names]
    results = [
        a_result(name, uuid, at * CARDS_A_NODE + slot, night)
        for night in range(NIGHTS)
        for at, (name, of) in enumerate(names)
        for slot, uuid in enumerate(of)
    ]
    call: Callable[..., GoalCapacity] = benchmark.pedantic
    got = call(goal_capacity, (GOAL, nodes, {MODEL: CARD}, results), rounds=15, warmup_rounds=1)
    assert (got.cards_owned, got.measured.devices) == (NODES * CARDS_A_NODE, NODES * CARDS_A_NODE)
