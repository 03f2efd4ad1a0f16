"""What nights and checks hold against nodes, as every kind of store keeps it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node_agent.health.verdicts import Finding, Jobs, Lifts, Use
from scheduler.errors import Superseded
from scheduler.ports import HealthNotes, Store
from tests.contract.conftest import Open

SLOW = Finding(
    "GPU-1", "slow-than-like", Use.SCHEDULABLE, Jobs.KEEP, Lifts.ALONE, "慢 12% (night 1)", "compare it", 1795824000.25
)
WRONG = Finding("GPU-2", "check-wrong", Use.NO_NEW_WORK, Jobs.KEEP, Lifts.OPERATOR, "NaN", "diagnose it", 5.0)


def test_the_newest_word_of_each_source_on_each_node_is_kept(reopen: Open) -> None:
    store = reopen()
    assert store.health_notes() == []
    night, check = HealthNotes("n2", "nights", (SLOW,)), HealthNotes("n2", "checks", (WRONG, SLOW))
    store.set_health_notes([night, check, HealthNotes("n1", "nights", (SLOW,))])
    assert reopen().health_notes() == [HealthNotes("n1", "nights", (SLOW,)), check, night]
    store = reopen()
    store.set_health_notes([HealthNotes("n2", "nights", (WRONG,)), HealthNotes("n2", "nights", ())])
    store.set_health_notes([])
    nothing_more = HealthNotes("n2", "nights", ())
    assert reopen().health_notes() == [HealthNotes("n1", "nights", (SLOW,)), check, nothing_more]


def test_a_whole_fleet_is_kept_at_once(reopen: Open) -> None:
    fleet = [HealthNotes(f"n{i:04}", "nights", (replace(SLOW, device=f"GPU-{i}"),)) for i in range(1_250)]
    for _ in range(2):
        reopen().set_health_notes(fleet)
        assert reopen().health_notes() == fleet


def test_what_no_database_takes_in_a_reason_holds_nothing_up(store: Store) -> None:
    store.set_health_notes([HealthNotes("n1", "nights", (replace(SLOW, reason="a \udc80 训练"),))])
    ((kept,),) = [each.findings for each in store.health_notes()]
    assert kept == replace(SLOW, reason="a \\udc80 训练")


def test_a_reason_with_a_nul_holds_nothing_up_either(store: Store) -> None:
    store.set_health_notes([HealthNotes("n1", "nights", (replace(SLOW, reason="a\0b"),))])
    assert [each.key for each in store.health_notes()] == [("n1", "nights")]


def test_a_service_that_was_replaced_writes_none_any_more(two: tuple[Store, Store]) -> None:
    old, new = two
    old.next_epoch()
    kept = [HealthNotes("n1", "nights", (SLOW,))]
    old.set_health_notes(kept)
    epoch = new.next_epoch()
    with pytest.raises(Superseded, match=rf"epoch {epoch}"):
        old.set_health_notes([HealthNotes("n1", "nights", ())])
    assert (new.health_notes(), old.health_notes()) == (kept, kept)
