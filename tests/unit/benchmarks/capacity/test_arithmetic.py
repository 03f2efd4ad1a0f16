"""Achieved against goal, as tables: what counts, what does not, and why a ratio may be undefined."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.capacity.arithmetic import (
    GoalCapacity,
    WhyNone,
    cpu_entries,
    goal_capacity,
)
from benchmarks.capacity.cards import WhyExcluded, unrated_devices
from benchmarks.history.store import StoredResult
from benchmarks.inventory import Device, Node
from benchmarks.protocol import Verdict
from tests.fakes.bench_records import CATALOGUE, T0, cpu, failed, goal, record, simulated, stored


def node(
    *uuids: str,
    model: str = "H100 SXM",
    vendor: str = "nvidia",
    simulated: bool = False,
    site: str = "dongyang-subnode",
) -> Node:
    return Node(f"node-{uuids[0]}", site, "ready", simulated, tuple(Device(u, model, vendor, True) for u in uuids))


def capacity(nodes: list[Node], *results: StoredResult, **more: Any) -> GoalCapacity:
    return goal_capacity(more.get("goal", goal()), nodes, CATALOGUE, results)


def test_a_site_without_accelerators_has_measured_nothing_whatever_its_cpu_and_simulated_nodes_say() -> None:
    g = capacity(
        [node("c0", "c1", model="EPYC", vendor="cpu"), node("s0", simulated=True)],
        stored(cpu("c0", "c1", gflops=1e9)),
        stored(simulated("s0", 900e6)),
    )
    assert (g.measured.rate.pflops, g.measured.devices) == (0.0, 0)
    assert (g.nominal.rate.pflops, g.nominal.devices) == (0.0, 0)
    assert (g.extrapolated.rate.pflops, g.extrapolated.devices) == (0.0, 0)
    assert (g.simulated.rate.pflops, g.simulated.devices) == (900.0, 1)
    assert g.missing_pflops == 700.0
    assert {r.reason for r in (g.availability, g.efficiency, g.coverage, g.lock_pflops)} == {WhyNone.NO_CARDS}


def test_the_identity_measured_is_availability_times_efficiency_times_nominal() -> None:
    g = capacity(
        [node("a", "b", "c", "d")],
        stored(record("a", 800_000)),
        stored(record("b", 700_000)),
        stored(failed("c", Verdict.LATE_START, "late")),
    )
    assert g.nominal.rate.pflops == pytest.approx(4.0)
    assert g.measured.rate.pflops == pytest.approx(1.5)
    assert (g.availability.value, g.efficiency.value, g.coverage.value) == (0.5, 0.75, 0.75)
    assert g.availability.value * g.efficiency.value * g.nominal.rate.pflops == pytest.approx(g.measured.rate.pflops)
    assert g.lock_pflops.value == pytest.approx(2 * 0.7)
    assert g.missing_pflops == pytest.approx(698.5)
    (row,) = g.models
    assert (row.installed, row.verified, row.p50_gflops, row.min_gflops) == (4, 2, 750_000, 700_000)


def test_a_card_not_run_is_extrapolated_and_one_that_failed_is_not() -> None:
    g = capacity(
        [node("a", "b", "c", "d"), node("x", model="A100")],
        stored(record("a", 800_000)),
        stored(record("b", 600_000)),
        stored(failed("c", Verdict.WRONG_PRODUCT, "residual")),
    )
    assert (g.extrapolated.devices, g.extrapolated.rate.pflops) == (
        1,
        pytest.approx(0.7),
    )  # d; nothing is known of A100s
    assert {e.uuid: e.why for e in g.exclusions} == {
        "c": WhyExcluded.WRONG_PRODUCT,
        "d": WhyExcluded.NEVER_RUN,
        "x": WhyExcluded.NEVER_RUN,
    }


def test_a_card_without_a_vendor_peak_is_measured_but_left_out_of_nominal_and_efficiency() -> None:
    nodes = [node("a"), node("n", model="Ascend 910B", vendor="huawei"), node("u", model="New Card", vendor="new")]
    g = capacity(
        nodes, stored(record("a", 800_000)), stored(record("n", 300_000, model="Ascend 910B", vendor="huawei"))
    )
    assert (g.nominal.devices, g.nominal.rate.pflops, g.unrated_cards) == (1, 1.0, 2)
    assert (g.measured.devices, g.measured.rate.pflops) == (2, pytest.approx(1.1))
    assert (g.efficiency.value, g.availability.value) == (0.8, 1.0)
    assert [(u.model, u.devices, u.in_catalogue) for u in unrated_devices(nodes, CATALOGUE)] == [
        ("Ascend 910B", 1, True),
        ("New Card", 1, False),
    ]


@pytest.mark.parametrize(
    ("nodes", "results", "availability", "efficiency", "lock"),
    [
        ([node("a")], [], WhyNone.NO_WINDOW, WhyNone.NO_WINDOW, WhyNone.NO_WINDOW),
        (
            [node("a")],
            [stored(failed("a", Verdict.LATE_START, "l"))],
            0.0,
            WhyNone.NOTHING_VERIFIED,
            WhyNone.NOTHING_VERIFIED,
        ),
        (
            [node("n", model="Ascend 910B", vendor="huawei")],
            [stored(record("n", 3e5))],
            WhyNone.NO_RATED_CARDS,
            WhyNone.NO_RATED_CARD_VERIFIED,
            0.3,
        ),
    ],
)
def test_what_has_no_denominator_is_undefined_with_a_reason(
    nodes: list[Node], results: list[StoredResult], availability: Any, efficiency: Any, lock: Any
) -> None:
    g = capacity(nodes, *results)
    for ratio, expected in ((g.availability, availability), (g.efficiency, efficiency), (g.lock_pflops, lock)):
        if isinstance(expected, WhyNone):
            assert (ratio.value, ratio.reason) == (None, expected)
        else:
            assert (ratio.value, ratio.reason) == (pytest.approx(expected), None)


def test_only_the_last_shared_window_counts_and_older_figures_are_dated() -> None:
    """Two cards verified in different windows have no common denominator: the older is not covered."""
    g = capacity(
        [node("a", "b")],
        stored(record("a", 800_000), run="monday", at_s=T0),
        stored(record("b", 800_000), run="monday", at_s=T0),
        stored(record("a", 700_000), run="tuesday", at_s=T0 + 86_400),
    )
    assert (g.measured.devices, g.measured.rate.pflops) == (1, pytest.approx(0.7))
    assert g.window is not None
    assert (g.window.run, g.window.label) == ("tuesday", "smoke")
    (left,) = g.exclusions
    assert (left.uuid, left.why, left.last_verified_at_s) == ("b", WhyExcluded.NOT_IN_WINDOW, T0)
    assert g.extrapolated.devices == 1


@pytest.mark.parametrize(
    "result",
    [
        stored(record("a", precision="fp32")),  # not the goal's precision
        stored(record("gone")),  # no longer installed
        stored(record("elsewhere")),  # of another site
        stored(cpu("a")),  # a CPU's figure under an accelerator's name
        stored(simulated("a")),  # simulated, under a real card's name
    ],
)
def test_what_does_not_belong_to_the_goal_does_not_count(result: StoredResult) -> None:
    g = capacity([node("a"), node("elsewhere", site="edge-cloud")], result)
    assert (g.measured.rate.pflops, g.measured.devices, g.cards_run) == (0.0, 0, 0)
    assert g.simulated.devices == 0


@pytest.mark.parametrize(
    ("nodes", "results", "nominal", "measured", "extrapolated"),
    [
        ([], [], WhyNone.NO_CARDS, WhyNone.NO_CARDS, WhyNone.NO_CARDS),
        ([node("a")], [], 1.0, WhyNone.NO_WINDOW, WhyNone.NO_WINDOW),
        ([node("a", "b")], [stored(record("a", 8e5))], 2.0, 0.8, 0.8),
        ([node("a")], [stored(record("a", 8e5))], 1.0, 0.8, WhyNone.ALL_RUN),
        # What was run and failed was measured, and is 0.
        ([node("a")], [stored(failed("a", Verdict.WRONG_PRODUCT, "r"))], 1.0, 0.0, WhyNone.ALL_RUN),
        ([node("a", "b")], [stored(failed("a", Verdict.WRONG_PRODUCT, "r"))], 2.0, 0.0, WhyNone.NO_EQUAL_CARD),
        ([node("x", model="Unknown One", vendor="nobody")], [], WhyNone.NO_RATED_CARDS, *([WhyNone.NO_WINDOW] * 2)),
    ],
)
def test_a_figure_that_nothing_stands_behind_is_absent_with_a_reason(
    nodes: list[Node], results: list[StoredResult], nominal: Any, measured: Any, extrapolated: Any
) -> None:
    g = capacity(nodes, *results)
    for held, expected in ((g.nominal, nominal), (g.measured, measured), (g.extrapolated, extrapolated)):
        if isinstance(expected, WhyNone):
            assert (held.pflops, held.why_none) == (None, expected)
        else:
            assert (held.pflops, held.why_none) == (pytest.approx(expected), None)


def test_a_simulated_card_has_its_newest_figure_once() -> None:
    g = capacity(
        [node("s0", "s1", simulated=True)],
        stored(simulated("s0", 1e6), at_s=1),
        stored(simulated("s0", 2e6, precision="fp16"), at_s=2),
        stored(simulated("s1", None), at_s=2),
    )
    assert (g.simulated.rate.pflops, g.simulated.devices, g.simulated_installed) == (2.0, 1, 2)


@given(st.lists(st.tuples(st.booleans(), st.floats(1.0, 1e6)), min_size=1, max_size=12))
def test_measured_is_the_sum_of_verified_cards_and_the_identity_holds(cards: list[tuple[bool, float]]) -> None:
    names = [f"card-{i}" for i in range(len(cards))]
    results = [
        stored(record(n, rate) if good else failed(n, Verdict.WRONG_PRODUCT, "r"))
        for n, (good, rate) in zip(names, cards, strict=True)
    ]
    g = capacity([node(*names)], *results)
    expected = sum(rate for good, rate in cards if good) / 1e6
    assert g.measured.rate.pflops == pytest.approx(expected)
    assert g.coverage.value == 1.0
    if any(good for good, _ in cards):
        assert g.availability.value is not None
        assert g.efficiency.value is not None
        assert g.availability.value * g.efficiency.value * g.nominal.rate.pflops == pytest.approx(expected)


def test_cpu_entries_show_the_newest_of_each_installed_group() -> None:
    nodes = [node("c0", "c1", model="EPYC", vendor="cpu")]
    results = [
        stored(cpu("c0", "c1", gflops=100.0), at_s=1),
        stored(cpu("c0", "c1", gflops=120.0), at_s=2),
        stored(cpu("gone", gflops=999.0), at_s=3),
        stored(record("a"), at_s=3),
    ]
    (entry,) = cpu_entries(nodes, results)
    assert (entry.gflops, entry.devices, entry.node, entry.label) == (120.0, 2, "node-c0", "smoke")


def test_an_interrupted_run_of_a_cpu_takes_no_other_figures_place() -> None:
    nodes = [node("c0", "c1", model="EPYC", vendor="cpu")]
    broken = {"verified": False, "gflops": 0.0, "verdict": Verdict.INTERRUPTED, "reason": "ctrl-C"}
    good = stored(cpu("c0", "c1"), at_s=1)
    wrong = stored(cpu("c0", "c1", **broken | {"verdict": Verdict.NOT_FINITE}), at_s=2)
    newest = stored(cpu("c0", "c1", **broken), at_s=3)
    assert [e.gflops for e in cpu_entries(nodes, [good, newest])] == [120.0]
    assert [e.verdict for e in cpu_entries(nodes, [newest])] == [Verdict.INTERRUPTED]
    assert [e.verdict for e in cpu_entries(nodes, [good, wrong, newest])] == [Verdict.NOT_FINITE]  # that is told
    other = stored(cpu("c0", "c1", precision="fp64", **broken), at_s=4)
    assert [e.precision for e in cpu_entries(nodes, [good, newest, other])] == ["fp32", "fp64"]
