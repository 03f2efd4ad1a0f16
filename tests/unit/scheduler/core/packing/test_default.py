"""What our own policy keeps in mind: what can still be cut, what CPUs feed, gangs, and models work insists on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.packing.few_states import has_room
from scheduler.core.packing.policies import NO_ROOM, PACKINGS
from scheduler.core.packing.protection import Protection
from scheduler.core.packing.rows import Ask, NodeKinds, NodeRows
from scheduler.core.packing.shapes import Shape, TypicalShapes
from scheduler.core.packing.worth import ONE, Worth
from tests.fakes.packing_table import FreeTable, packing_table

GIB = 2**30


def typical(**counts: int) -> TypicalShapes:
    """s500=3: three shares of 500; g8: a gang of 8; w1: a whole device. 4 CPUs a device."""
    shapes: dict[Shape, float] = {}
    for name, count in counts.items():
        size = int(name[1:])
        devices, milli = (1, size) if name[0] == "s" else (size, 1000)
        shapes[Shape(4000 * devices * milli // 1000, devices, milli)] = count
    return TypicalShapes.of_counts(shapes)


@pytest.mark.parametrize(
    ("shapes", "nodes", "asked", "picked"),
    [
        # 300 and 700 fill a device, so a 300 goes beside the 700, and not where it would leave 500
        (typical(s300=1, s700=1), ["800", "300"], {"share_milli": 300}, (1, (0,))),
        # what is left of 600 after a 200 takes no 500 any more; after 100 it does
        (typical(s500=1), ["600", "1000"], {"share_milli": 100}, (0, (0,))),
        (typical(s500=1), ["600", "700"], {"share_milli": 200}, (1, (0,))),
        # of devices that are worth the same the one in use
        (typical(s500=1), ["1000 700"], {"share_milli": 200}, (0, (1,))),
        # work without devices goes where CPUs are of no use to devices
        (typical(w1=1), ["1000 1000, 8 CPUs", "0 0, 8 CPUs"], {"cpus_milli": 4000}, (1, ())),
        (typical(w1=1), ["1000 1000, 8 CPUs", "1000 1000, 64 CPUs"], {"cpus_milli": 4000}, (1, ())),
    ],
)
def test_it_keeps_what_typical_work_can_use(
    shapes: TypicalShapes, nodes: list[str], asked: dict[str, int], picked: tuple[int, tuple[int, ...]]
) -> None:
    table = packing_table(*nodes, typical=shapes)
    assert table.best("default", table.ask(**asked)) == picked


def test_it_keeps_gang_slots_while_they_are_scarce() -> None:
    gangs = typical(w1=4, g4=4)
    scarce = packing_table("1000 1000 1000 1000", "1000 1000 1000 0", typical=gangs)
    assert scarce.best("default", scarce.ask(devices=1, cpus_milli=4000)) == (1, (0,))
    none_asked = packing_table("1000 1000 1000 1000", "1000 1000 1000 0", typical=typical(w1=4))
    assert none_asked.best("default", none_asked.ask(devices=1, cpus_milli=4000)) == (0, (0,))  # the node order


def test_it_keeps_models_that_work_insists_on_and_lets_that_work_have_them() -> None:
    insisting = TypicalShapes.of_counts({Shape(4000, 1, 1000): 5, Shape(4000, 1, 1000, frozenset({"T4"})): 5})
    table = packing_table("1000 1000, model T4", *["1000 1000"] * 3, typical=insisting)
    assert table.best("default", table.ask(devices=1, cpus_milli=4000)) == (1, (0,))
    on_t4 = table.ask(devices=1, cpus_milli=4000, rows=[True, False, False, False])
    assert table.best("default", on_t4) == (0, (0,))
    indifferent = packing_table("1000 1000, model T4", *["1000 1000"] * 3, typical=typical(w1=1))
    assert indifferent.best("default", indifferent.ask(devices=1, cpus_milli=4000)) == (0, (0,))


@pytest.mark.parametrize("shapes", [TypicalShapes(), TypicalShapes.of([Shape(4000)])])
def test_where_no_work_with_devices_is_known_it_is_the_best_fit(shapes: TypicalShapes) -> None:
    table = packing_table("1000 1000", "1000 0", typical=shapes)
    assert table.best("default", table.ask(devices=1)) == table.best("best-fit", table.ask(devices=1)) == (1, (0,))


@pytest.mark.parametrize(
    ("milli", "cpus", "memory_gib", "worth"),
    [
        ([1000, 1000], 96, 512, 2.0),
        ([500, 1000], 96, 512, 1.5),
        ([400, 1000], 96, 512, 1.0),
        ([400, 400], 96, 512, 0.0),
        ([1000, 1000], 4, 512, 1.5),  # the CPUs feed two halves; half of the worth is counted unbounded
        ([1000, 1000], 1, 512, 0.0),
        ([1000, 1000], 96, 0, 2.0),
        ([0, 0], 96, 512, 0.0),
    ],
)
def test_worth_of_a_node_to_halves_with_two_cpus_each(
    milli: list[int], cpus: int, memory_gib: int, worth: float
) -> None:
    shapes = TypicalShapes.of([Shape(2000, 1, 500)])
    kinds = NodeKinds.of_nodes([["G2"] * len(milli)], np.array([96_000]), np.array([512 * GIB]))
    found = Worth(shapes, kinds).of(
        kinds.kind, np.array([milli], np.int32), np.array([cpus * 1000]), np.array([memory_gib * GIB])
    )
    assert found.tolist() == pytest.approx([worth], abs=1e-4)


SHAPES = st.lists(
    st.one_of(
        st.builds(lambda c, m: Shape(c, 1, m), st.sampled_from([0, 1000, 4000]), st.sampled_from([1, 250, 810, 1000])),
        st.builds(lambda c, n: Shape(c, n, 1000), st.sampled_from([8000, 32000]), st.integers(2, 8)),
        st.builds(lambda m: Shape(1000, 1, 500, frozenset({m}), GIB), st.sampled_from(["A", "B"])),
    ),
    min_size=1,
    max_size=8,
)


@given(SHAPES, st.lists(st.sampled_from([0, 250, 500, 1000]), min_size=4, max_size=4), st.integers(0, 64_000))
def test_worth_is_between_nothing_and_what_is_idle_and_grows_with_cpus(
    shapes: list[Shape], left: list[int], cpus: int
) -> None:
    kinds = NodeKinds.of_nodes([["A"] * 4, ["A"] * 4], np.array([64_000] * 2), np.array([512 * GIB] * 2))
    worth = Worth(TypicalShapes.of(shapes), kinds)
    less, more = worth.of(
        kinds.kind, np.array([left, left], np.int32), np.array([cpus, cpus + 8000]), np.array([512 * GIB] * 2)
    ).tolist()
    assert -1e-9 <= less <= more + 1e-9
    assert more <= sum(1 for milli in left if milli) + 1e-9


def test_prices_rise_as_slots_grow_scarce_and_fall_as_less_is_to_come() -> None:
    kinds = NodeKinds.of_nodes([["G2"] * 4] * 40, np.array([96_000] * 40), np.array([512 * GIB] * 40))
    shapes = typical(w1=6, g4=1)
    protection = Protection(shapes, kinds, Worth(shapes, kinds), 4, step=0.04)

    def price(full_nodes: int, broken_nodes: int) -> int:
        to_come = [(3 * broken_nodes + 4 * full_nodes) * ONE]
        return int(protection.prices([0, 0, 0, broken_nodes, full_nodes], to_come, {}).content[0][0])

    assert [price(40, 0), price(6, 34), price(5, 35), price(1, 39)] == sorted(
        [price(40, 0), price(6, 34), price(5, 35), price(1, 39)]
    )
    assert (price(40, 0), price(1, 39)) == (0, 20)
    assert price(0, 40) == 0  # no slot is left to protect
    assert price(1, 0) < price(1, 10)


def test_a_policy_prepared_twice_is_the_same() -> None:
    table = packing_table("1000 500 250", "1000 1000", "700 0, 8 CPUs", typical=typical(s250=3, s700=2, g2=1, w1=4))
    ask = table.ask(share_milli=200, cpus_milli=1000)
    assert table.scores("default", ask) == table.scores("default", ask)
    assert PACKINGS["default"].name == "default"


@given(
    SHAPES,
    st.lists(
        st.lists(st.sampled_from([-1, -250, 0, 190, 250, 500, 810, 1000]), min_size=4, max_size=4),
        min_size=1,
        max_size=9,
    ),
    st.integers(0, 40_000),
    st.sampled_from(["no device", "devices", "share"]),
    st.integers(1, 4),
)
def test_a_few_nodes_are_rated_as_many_are(
    shapes: list[Shape], nodes: list[list[int]], cpus: int, what: str, count: int
) -> None:
    """To the last number, whether they are rated one by one or over columns."""
    models = [["A"] * 4 if row % 2 else ["B"] * 4 for row in range(len(nodes))]
    free = FreeTable(nodes, [cpus + 4000 * row for row in range(len(nodes))], list(range(len(nodes))))
    kinds = NodeKinds.of_nodes(models, free.cpus_milli, free.memory_bytes)
    rater = PACKINGS["default"].prepare(TypicalShapes.of(shapes), kinds, 4)
    asked = {"no device": {}, "devices": {"devices": count}, "share": {"share_milli": 230 * count}}[what]
    ask = Ask(np.ones(len(nodes), np.bool_), cpus_milli=4000, memory_bytes=GIB, **asked)
    room = NodeRows.with_room(free, kinds, ask, np.arange(len(nodes)))
    if rater.few is None:
        return
    states = [
        (*each, *sorted([max(milli, 0) for milli in left]))
        for left, each in zip(
            nodes,
            zip(kinds.kind.tolist(), free.cpus_milli.tolist(), free.memory_bytes.tolist(), strict=True),
            strict=True,
        )
    ]
    assert [row for row, state in enumerate(states) if has_room(state, ask)] == room.place.tolist()
    if len(room):
        few = [rater.few.rate(states[row], ask) for row in room.place.tolist()]
        rating = rater.rate(room, ask)
        opening = [NO_ROOM] * len(room) if rating.opening is None else rating.opening.tolist()
        assert few == list(zip(rating.scores.tolist(), opening, rating.device_milli.tolist(), strict=True))


@given(
    st.lists(SHAPES, min_size=1, max_size=5),
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.integers(0, 64_000),
            st.integers(0, 20 * GIB),
            st.lists(st.sampled_from([0, 190, 250, 500, 810, 1000]), min_size=8, max_size=8),
        ),
        min_size=1,
        max_size=90,
    ),
)
def test_a_state_is_worth_the_same_alone_and_among_many(
    shapes: list[list[Shape]], states: list[tuple[int, int, int, list[int]]]
) -> None:
    """To the last digit: a decision must not depend on how many others were asked about."""
    typical = TypicalShapes.of([shape for some in shapes for shape in some])
    if not typical.wanting_devices().shapes:
        return
    kinds = NodeKinds.of_nodes([["A"] * 8, ["B"] * 8], np.array([64_000] * 2), np.array([20 * GIB] * 2))
    worth = Worth(typical, kinds)
    kind, cpus, memory, left = zip(*states, strict=True)
    among = worth.of(np.array(kind), np.array(left, np.int32), np.array(cpus), np.array(memory))
    assert [worth.of_one((*each[:3], *each[3])) for each in states] == among.tolist()
