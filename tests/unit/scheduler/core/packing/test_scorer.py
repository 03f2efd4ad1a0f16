"""The scorer's caches never change an answer, and what it answers fits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.packing import node_states, scorer
from scheduler.core.packing.policies import PACKINGS
from scheduler.core.packing.rows import Ask
from scheduler.core.packing.shapes import Shape, TypicalShapes
from tests.fakes.packing_table import FreeTable, PackingTable, packing_table

TYPICAL = TypicalShapes.of_counts(
    {
        Shape(4000, 1, 1000): 9,
        Shape(2000, 1, 250): 5,
        Shape(3000, 1, 810): 4,
        Shape(16000, 4, 1000): 2,
        Shape(8000, 2, 1000, frozenset({"T4"})): 2,
        Shape(8000): 3,
    }
)
NODES = [
    "1000 1000 1000 1000, 32 CPUs, 64 GiB",
    "1000 1000 1000 1000, 32 CPUs, 64 GiB",
    "1000 1000, 16 CPUs, 16 GiB, model T4",
    "1000 1000, 16 CPUs, 16 GiB, model T4",
    "1000 1000 1000, 64 CPUs, 8 GiB",
    "1000, 2 CPUs",
]


def asks(table: PackingTable) -> list[Ask]:
    return [
        table.ask(devices=1, cpus_milli=4000),
        table.ask(devices=2, cpus_milli=8000, rows=[False, False, True, True, False, False]),
        table.ask(devices=4, cpus_milli=16000),
        table.ask(share_milli=250, cpus_milli=2000, memory_bytes=2**30),
        table.ask(share_milli=810, cpus_milli=3000),
        table.ask(share_milli=500, cpus_milli=1000, memory_bytes=2**32, rows=[True, False, True, True, True, True]),
        table.ask(share_milli=300, usable=[[True, False, True, False], *[[False, True, False, False]] * 5]),
        table.ask(cpus_milli=8000),
    ]


def check_fits(free: FreeTable) -> None:
    assert (free.milli >= -1).all()
    assert (free.cpus_milli >= 0).all()
    assert (free.memory_bytes >= 0).all()


@pytest.mark.parametrize("policy", sorted(PACKINGS))
@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 9), st.booleans()), max_size=40))
def test_kept_scores_are_fresh_scores_and_nothing_is_over_committed(
    policy: str, steps: list[tuple[int, int, bool]]
) -> None:
    """Each step takes with one ask or gives an earlier one back, now and then in a copy that is thrown away."""
    table = packing_table(*NODES, typical=TYPICAL)
    kinds = asks(table)
    kept, free = table.scorer(policy), table.free
    held: list[tuple[int, tuple[int, ...], Ask]] = []
    for number, victim, aside in steps:
        ask = kinds[number]
        if held and victim > 6:
            free.give(*held.pop(victim % len(held)))
        where = free.copy() if aside else free
        row = kept.best(where, ask)
        fresh = table.scorer(policy)
        assert row == fresh.best(where, ask)
        for mine, anew in zip(kept.scores(where, ask), fresh.scores(where, ask), strict=True):
            assert mine.tolist() == anew.tolist()
        scores, fits = fresh.scores(where, ask)
        highest = max((score for score, fit in zip(scores.tolist(), fits.tolist(), strict=True) if fit), default=None)
        first = [i for i, fit in enumerate(fits.tolist()) if fit and scores[i] == highest]  # node order 0, 1, ...
        assert row == (first[0] if first else None)
        if row is not None:
            devices = kept.devices(where, row, ask)
            assert devices == fresh.devices(where, row, ask)
            assert ask.rows[row]
            assert ask.usable is None or ask.usable[row, list(devices)].all()
            where.take(row, devices, ask)
            check_fits(where)
            if not aside:
                held.append((row, devices, ask))


@settings(max_examples=25, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, 7), max_size=12), min_size=1, max_size=6))
def test_rows_numbered_all_together_are_as_rows_numbered_one_by_one(batches: list[list[int]]) -> None:
    """After any number of changes between two choices, of few rows and of most."""
    table = packing_table(*NODES, typical=TYPICAL)
    kinds = asks(table)
    kept, free = table.scorer("default"), table.free
    for batch in batches:
        for number in batch:
            fresh = table.scorer("default")
            row = fresh.best(free, kinds[number])
            if row is not None:
                free.take(row, fresh.devices(free, row, kinds[number]), kinds[number])
        free.followed = None  # so that all changes are looked for
        fresh = table.scorer("default")
        for ask in kinds:
            wanted = fresh.best(free, ask), *(column.tolist() for column in fresh.scores(free, ask))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(node_states, "_MANY", 0)
                assert (kept.best(free, ask), *(column.tolist() for column in kept.scores(free, ask))) == wanted


@pytest.mark.parametrize("policy", sorted(PACKINGS))
def test_a_cluster_is_filled_until_nothing_fits(policy: str) -> None:
    table = packing_table(*NODES, typical=TYPICAL)
    chosen, ask, placed = table.scorer(policy), table.ask(share_milli=330, cpus_milli=100), 0
    while (row := chosen.best(table.free, ask)) is not None:
        table.free.take(row, chosen.devices(table.free, row, ask), ask)
        check_fits(table.free)
        placed += 1
    assert placed == 3 * 16


def test_caches_that_overflow_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_states, "_KEPT_STATES", 3)
    monkeypatch.setattr(scorer, "_KEPT_ASKS", 2)
    check_choices_are_those_of_a_fresh_scorer()


def test_moves_that_are_forgotten_are_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ask that is put seldom finds that more rows have moved than are remembered of their kind."""
    monkeypatch.setattr(node_states, "_KEPT_MOVES", 2)
    monkeypatch.setattr(node_states, "_FOLLOWED", 2)
    monkeypatch.setattr(scorer, "_FEW_MOVES", 1)
    check_choices_are_those_of_a_fresh_scorer()


def check_choices_are_those_of_a_fresh_scorer() -> None:
    table = packing_table(*NODES, typical=TYPICAL)
    kept = table.scorer("default")
    kinds = asks(table)
    for turn in range(30):
        for ask in kinds[turn % 2 :: 1 + turn % 3]:
            row = kept.best(table.free, ask)
            assert row == table.scorer("default").best(table.free, ask)
            if row is not None:
                table.free.take(row, kept.devices(table.free, row, ask), ask)


def test_candidates_narrow_the_choice() -> None:
    table = packing_table("1000", "1000", "1000")
    chosen, ask = table.scorer("best-fit"), table.ask(devices=1)
    assert chosen.best(table.free, ask, np.array([False, False, True])) == 2
    assert chosen.best(table.free, ask, np.array([False, False, False])) is None
    assert chosen.best(table.free, ask) == 0


@pytest.mark.parametrize(
    ("asked", "workers", "row"),
    [
        ({"devices": 1, "cpus_milli": 4000}, 2, 1),
        ({"devices": 2, "cpus_milli": 4000}, 2, 2),
        ({"devices": 2, "cpus_milli": 4000}, 3, None),
        ({"share_milli": 500, "cpus_milli": 1000}, 3, 1),
        ({"share_milli": 500, "cpus_milli": 1000}, 5, 2),
        ({"share_milli": 500, "cpus_milli": 1000}, 9, None),
        ({"cpus_milli": 4000}, 5, 2),
    ],
)
def test_several_workers_go_together_where_all_have_room(asked: dict[str, int], workers: int, row: int | None) -> None:
    table = packing_table("1000, 8 CPUs", "1000 1000, 8 CPUs", "1000 1000 1000 1000, 64 CPUs")
    chosen, ask = table.scorer("best-fit"), table.ask(**asked)
    assert chosen.best(table.free, ask, workers=workers) == row
    assert chosen.best(table.free, ask, workers=workers) == row


def test_a_share_never_goes_to_a_device_that_may_not_serve_it() -> None:
    table = packing_table("300 1000", typical=TYPICAL)
    ask = table.ask(share_milli=250, usable=[[False, True]])
    for policy in PACKINGS:
        assert table.best(policy, ask) == (0, (1,))


def test_devices_spoken_for_more_than_once_are_not_free() -> None:
    table = packing_table("1000 1000")
    table.free.milli[0, 0] = -700
    assert table.best("default", table.ask(devices=2)) is None
    assert table.best("fgd", table.ask(share_milli=500)) == (0, (1,))


def test_an_empty_cluster_has_no_place() -> None:
    table = packing_table()
    assert table.best("best-fit", table.ask(devices=1)) is None


def test_a_row_outside_does_not_spoil_its_state_for_rows_inside() -> None:
    """Two nodes in the same state, one of which the ask may not use."""
    table = packing_table("1000", "1000", typical=TYPICAL)
    ask = table.ask(devices=1, rows=[False, True])
    assert table.best("fgd", ask) == (1, (0,))
