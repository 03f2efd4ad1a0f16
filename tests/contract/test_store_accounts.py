"""What a store keeps for the bill: usage records, requests of a day, closed months."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy.exc import IntegrityError

from scheduler.core.usage_book import Correction, ServedLine
from scheduler.core.usage_records import Achieved, MeteredUse, SeenLate
from scheduler.errors import Conflict
from scheduler.ports import (
    Change,
    ServedDay,
    Store,
    Usage,
)
from tests.contract.conftest import Open
from tests.fakes.stored import SPEC, closed, line, placed, used


def test_usage_records_come_back_and_the_better_account_replaces_the_other(reopen: Open) -> None:
    store = reopen()
    (job,) = store.submit([SPEC], at_s=1.0, by="x")
    share = used(job, worker=1, devices=(2,), share_milli=250, simulated=False, cause="节点丢失")
    store.commit([Change(placed(job, "n1"), "placed", 2.0)], [share, used(job)])
    again = reopen()
    assert again.usage_records(job.id) == [used(job), share]
    seen = used(job, to_s=18.0, end="seen", cause="succeeded")
    again.commit([], [seen, used(job, attempt=2)])
    again.commit((), [used(job)])  # heard late: what was seen stays
    again.commit((), [SeenLate(job.id, 2, 0, "n1", 11.0, 30.0, "lease"), SeenLate(job.id, 9, 0, "n1", 1.0, 2.0, "x")])
    mended = used(job, attempt=2, from_s=11.0, to_s=30.0, end="seen", cause="lease")
    assert reopen().usage_records(job.id) == [seen, share, mended]
    assert reopen().usage_records("99") == []
    assert [event.event for event in reopen().job_events(job.id)] == ["submitted", "placed"]


def test_what_a_record_says_of_its_devices_comes_back(reopen: Open) -> None:
    store = reopen()
    (job,) = store.submit([SPEC], at_s=1.0, by="x")
    use = MeteredUse(2, 9.75, 12_345.678, True, 1_266.2, 2.0**34, None, False)
    did = (Achieved("gemm", "bf16", "accelerator", 6.1e5, 2, 2), Achieved("gemm", "fp32", "cpu", None, 1, 0))
    whole = used(job, name="训练", site="东阳", models=("H100 SXM", "升腾 910B"), use=use, achieved=did)
    store.commit((), [whole, used(job, worker=1)])
    assert reopen().usage_records(job.id) == [whole, used(job, worker=1)]


def test_records_that_changed_since_a_write(store: Store) -> None:
    first, second = store.submit([SPEC, SPEC], at_s=1.0, by="x")
    store.commit((), [used(first), used(second, end="seen")])
    number = store.usage_write_number()
    assert store.usage_records_changed(number, 1e9) == []
    store.commit((), [used(second, to_s=90.0)])  # the seen end stays: nothing changed
    assert store.usage_records_changed(number, 1e9) == []
    seen = used(first, to_s=18.0, end="seen")
    store.commit([Change(first, "x", 2.0)], [seen])
    assert store.usage_records_changed(number, 1e9) == [seen]
    assert store.usage_records_changed(number, seen.from_s) == []
    assert len(store.usage_records_changed(0, 1e9)) == 2
    assert store.usage_records_changed(store.usage_write_number(), 1e9) == []


def test_requests_of_a_day_are_replaced_by_their_newer_sum(reopen: Open) -> None:
    store = reopen()
    first = ServedDay("2026-11-01", "studio", "chat", False, 10, 9, 8, 1)
    made_up = replace(first, simulated=True, requests=4)
    later = ServedDay("2026-11-30", "hospital", "扫描", False, 2**40, 0, 0, 0)
    store.set_served([first, later])
    store.set_served([made_up, replace(first, requests=12)])
    assert reopen().served_days("2026-11-01", "2026-12-01") == [replace(first, requests=12), made_up, later]
    assert reopen().served_days("2026-11-02", "2026-11-30") == []
    many = [replace(first, service=f"s{number}") for number in range(450)]
    store.set_served(many)
    store.set_served(many)
    assert len(store.served_days("2026-11-01", "2026-11-02")) == 452


def test_a_month_is_closed_once_with_its_book(reopen: Open) -> None:
    store = reopen()
    served = ServedLine("studio", "chat", False, 10, 9, 8, 1)
    book = (line("2"), line("10.1", tenant="hospital"), served)
    store.close_month(closed("2026-09", 3), book)
    shorter = line("2", to_ms=4_000, end="unseen", metered_us=0, unmetered_us=6_000_000, millijoules=None)
    wrong = Correction("2026-09", line("2"), shorter)
    new = Correction("2026-09", None, line("3"))
    store.close_month(closed("2026-10", 3), (line("2", attempt=2), wrong, new))
    with pytest.raises(Conflict, match=r"2026-09 is closed already"):
        store.close_month(closed("2026-09", 0), ())
    again = reopen()
    assert again.closed_months() == [closed("2026-09", 3), closed("2026-10", 3)]
    assert again.usage_book("2026-09") == [line("2"), line("10.1", tenant="hospital"), served]
    assert again.usage_book("2026-09", "hospital") == [line("10.1", tenant="hospital")]
    assert again.usage_book("2026-10") == [line("2", attempt=2), wrong, new]
    assert again.usage_book("2026-08") == []
    assert again.usage_booked([line("2").key, line("3").key, served.key, "run/99/1/0"]) == {
        ("2026-09", line("2").key): shorter,
        ("2026-09", line("3").key): line("3"),
        ("2026-09", served.key): served,
    }
    assert again.usage_booked([]) == {}


def test_several_accounts_of_one_run_in_one_commit(store: Store) -> None:
    (job,) = store.submit([SPEC], at_s=1.0, by="x")
    late = SeenLate(job.id, 1, 0, "n1", 10.0, 40.0, "exit")
    store.commit((), [used(job), used(job, to_s=25.0), late, used(job, to_s=50.0)])
    assert store.usage_records(job.id) == [used(job, from_s=10.0, to_s=40.0, end="seen", cause="exit")]


def test_usage_records_of_a_time_and_a_tenant(store: Store) -> None:
    first, second = store.submit([SPEC, replace(SPEC, tenant="hospital")], at_s=1.0, by="x")
    early, late = used(first, from_s=10.0, to_s=20.0), used(first, attempt=2, from_s=30.0, to_s=40.0)
    other = used(second, from_s=15.0, to_s=35.0)
    store.commit((), [late, other, early])
    assert store.usage_records_between(0.0, 100.0) == [early, other, late]
    assert store.usage_records_between(0.0, 100.0, "hospital") == [other]
    assert store.usage_records_between(20.0, 30.0) == [early, other]  # ended at its beginning: no part of it, no harm
    assert store.usage_records_between(20.5, 30.5, "studio") == [late]
    assert store.usage_records_between(41.0, 100.0) == []


def test_changes_and_usage_records_are_kept_together_or_not_at_all(store: Store) -> None:
    (job,) = store.submit([SPEC], at_s=1.0, by="x")
    stranger = replace(job, id="77")
    with pytest.raises((AssertionError, IntegrityError)):
        store.commit([Change(placed(job, "n1"), "placed", 2.0)], [used(job), used(stranger)])
    with pytest.raises(AssertionError):
        store.commit([Change(placed(stranger, "n1"), "placed", 2.0)], [used(job)])
    assert (store.job(job.id), store.usage_records(job.id)) == (job, [])


def test_more_records_than_a_statement_takes_values(store: Store) -> None:
    jobs = store.submit([SPEC] * 1_200, at_s=1.0, by="x")
    store.commit((), [used(job) for job in jobs])
    store.commit((), [used(job, end="seen") for job in jobs])
    assert {record.end for record in store.usage_records_between(0.0, 99.0)} == {"seen"}
    assert len(store.usage_records_between(0.0, 99.0)) == 1_200


def test_usage_is_replaced_as_a_whole(reopen: Open) -> None:
    store = reopen()
    assert store.usage() is None
    store.set_usage(Usage({"studio": 0.25, "studio/simulated": 1e-9}, 10.0))
    store.set_usage(Usage({"hospital": 0.125}, 20.5))
    assert reopen().usage() == Usage({"hospital": 0.125}, 20.5)
    store.set_usage(Usage({}, 30.0))
    assert reopen().usage() is None
