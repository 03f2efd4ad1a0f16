"""Months of usage: what an open one says, what a closed one keeps saying, and what services answered. The site's clocks
show Dongyang's time; each test begins an hour before November does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.messages import DeviceUse
from scheduler.core.demand import Demand
from scheduler.core.jobs import JobKind
from scheduler.core.usage_book import NOTHING, ModelRate
from scheduler.core.usage_records import SeenLate, UsageRecord
from scheduler.core.usage_sums import summed
from scheduler.errors import BadInput, Conflict, Forbidden
from scheduler.months import following, month_named
from scheduler.ports import ClosedMonth, Json
from scheduler.service.months import Book, book_of, outstanding
from scheduler.service.served import KEEP_EVERY_S
from tests.fakes.fake_engine import node_facts
from tests.fakes.fake_store import FakeStore
from tests.fakes.loads import load
from tests.fakes.service_world import HOSPITAL, OPERATOR, STUDIO, VIEWER, Make, World, service_spec, spec

ZONE = "Asia/Shanghai"
NOVEMBER_S = month_named("2026-11", ZONE).from_ms / 1000
RATE = ModelRate("H100 SXM", "612000", "bf16", "accelerator", "night-1", NOVEMBER_S - 9, 4)


@pytest.fixture
def site(make: Make) -> World:
    return make(node_facts("n1", 4), node_facts("n2", 4), start_s=NOVEMBER_S - 3_600, zone=ZONE)


def long(world: World, **given: Any) -> str:
    return world.one(time_limit_s=1e7, **given)


def usage(world: World, month: str | None = None, *, by: Any = OPERATOR, of: Any = "tenant", **given: Any) -> Json:
    return world.service.usage(by, month=month, of=of, **{"tenant": None, **given})


def seconds(answer: Json) -> dict[str, str]:
    return {each["name"] + ("*" if each["simulated"] else ""): each["device_seconds"] for each in answer["sums"]}


def close(world: World, month: str) -> Json:
    return world.service.close_usage(OPERATOR, month=month, rates=[RATE])


# ---- an open month -------------------------------------------------------------------------------------------------


def test_what_runs_still_counts_up_to_now(site: World) -> None:
    job = long(site, devices=2)
    site.pass_time(600)
    now = usage(site)
    assert (now["month"], now["state"], now["zone"], now["goes_on"]) == ("2026-10", "open", ZONE, 1)
    assert seconds(now) == {"studio": "1200.000000"}
    assert now["sums"][0]["joules"] is None  # it is told when the run has ended
    assert site.store.usage_records(job) == []


def test_a_run_is_split_at_midnight_of_the_sites_own_zone(site: World) -> None:
    job = long(site)
    site.engine.uses[job] = DeviceUse(1, 3_900.0, 1_500_000.5, False, 384.6, 2.0**33, 90.0, False)
    site.pass_time(3_600 + 400.5)
    site.engine.exit(job)
    site.run()
    october, november = usage(site, "2026-10"), usage(site)
    assert (seconds(october), seconds(november)) == ({"studio": "3600.000000"}, {"studio": "400.500000"})
    assert (october["state"], october["goes_on"], october["sums"][0]["joules"]) == ("over", 1, None)
    (total,) = november["sums"]
    assert (total["joules"], total["metered_device_seconds"]) == ("1500000.500", "3900.000000")
    assert total["unmetered_device_seconds"] == "100.500000"
    with pytest.raises(BadInput, match="2026-12 has not begun: this month is 2026-1"):
        usage(site, "2026-12")


def test_by_job_class_site_and_simulated_apart(make: Make) -> None:
    real, made_up = node_facts("n1", 2), node_facts("s1", 2, model="SIM", simulated=True)
    world = make(real, made_up, start_s=NOVEMBER_S - 3_600, zone=ZONE)
    first = long(world)
    second = long(world, alternatives=(Demand(simulated=True, node="s1"),), tenant="hospital")
    world.pass_time(10)
    assert seconds(usage(world, of="job")) == {first: "10.000000", second + "*": "10.000000"}
    assert seconds(usage(world, of="site")) == {"site": "10.000000", "site*": "10.000000"}
    assert seconds(usage(world, of="class")) == {"normal": "10.000000", "normal*": "10.000000"}
    models = {each["name"]: each["models"] for each in usage(world)["sums"]}
    assert models["hospital"] == [{"model": "SIM", "device_seconds": "10.000000"}]
    entries = world.service.usage_entries(OPERATOR, month=None, tenant="studio", offset=0, limit=9)
    assert [entry["job_id"] for entry in entries["entries"]] == [first]
    assert (entries["total"], entries["entries"][0]["models"]) == (1, ["H100 SXM"])
    assert world.service.usage_entries(OPERATOR, month=None, tenant=None, offset=1, limit=9)["total"] == 2


def test_a_tenant_sees_its_own_alone(site: World) -> None:
    site.submit(spec(), spec(tenant="hospital"))
    site.pass_time(10)
    assert seconds(usage(site, by=VIEWER)) == {"hospital": "10.000000", "studio": "10.000000"}
    assert seconds(usage(site, by=STUDIO)) == {"studio": "10.000000"}
    assert seconds(usage(site, tenant="hospital")) == {"hospital": "10.000000"}
    with pytest.raises(Forbidden, match="sees no usage of hospital"):
        usage(site, by=STUDIO, tenant="hospital")
    for by in (STUDIO, HOSPITAL, VIEWER):
        with pytest.raises(Forbidden, match="only operators may close months"):
            site.service.close_usage(by, month="2026-10", rates=[])


@pytest.mark.parametrize("bad", ["2026-13", "2026-1", "26-10", "", "0000-01", "2026-10-01"])
def test_what_is_no_month(site: World, bad: str) -> None:
    with pytest.raises(BadInput, match="YYYY-MM is expected"):
        usage(site, bad)


# ---- closing -------------------------------------------------------------------------------------------------------


def test_a_closed_month_keeps_what_it_was_closed_with(site: World) -> None:
    job = long(site)
    site.pass_time(3_600 + 120)
    closed = close(site, "2026-10")
    assert (closed["state"], closed["rates"][0]["run"], closed["closed"]["by"]) == ("closed", "night-1", "wang")
    assert (closed["closed"]["intact"], closed["closed"]["entries"]) == (True, 1)
    site.pass_time(100)
    site.engine.exit(job)
    site.run().restart()
    assert usage(site, "2026-10") == closed
    assert usage(site)["corrections"] == []  # it ran on as had been booked
    assert seconds(usage(site)) == {"studio": "220.000000"}
    assert usage(site)["closed_months"] == ["2026-10"]


def test_late_news_of_a_closed_month_are_a_correction_in_the_open_one(site: World) -> None:
    """The node fell silent half an hour before midnight, and its job was given up. It told after the closing that its
    launcher had stopped the job a minute later."""
    job = long(site)
    (lost,) = site.engine.live(job)
    site.pass_time(1_800)
    site.engine.vanish(lost.node)
    site.run()
    site.service.cancel(job, OPERATOR, reason="")
    site.pass_time(1_800 + 120)
    closed = close(site, "2026-10")
    assert seconds(closed) == {"studio": "1800.000000"}
    site.engine.come_back(lost.node)
    site.run()
    assert usage(site, "2026-10") == closed
    open_month = usage(site)
    (correction,) = open_month["corrections"]
    before, after = correction["before"], correction["after"]
    assert (correction["of_month"], before["job_id"], before["end"], after["end"]) == ("2026-10", job, "unseen", "seen")
    ended_s = site.engine.lived[lost].to_s
    assert ended_s is not None
    more = f"{ended_s - NOVEMBER_S + 1_800:.6f}"
    (total,) = open_month["sums"]
    assert (total["device_seconds"], total["corrections_device_seconds"], total["runs"]) == (more, more, 0)
    # Booked with November, it is not told again in December.
    site.clock.advance(month_named("2026-12", ZONE).from_ms / 1000 + 100 - site.clock.now_s())
    assert seconds(close(site, "2026-11")) == {"studio": more}
    assert usage(site)["corrections"] == []
    assert usage(site, "2026-10") == closed | {"closed_months": ["2026-10", "2026-11"]}


def test_months_are_closed_in_order_once_and_when_they_are_over(site: World) -> None:
    long(site)
    site.pass_time(60)
    with pytest.raises(Conflict, match="2026-10 is not over yet"):
        close(site, "2026-10")
    with pytest.raises(Conflict, match="2026-11 has not begun: this month is 2026-10"):
        close(site, "2026-11")
    site.clock.advance(month_named("2027-01", ZONE).from_ms / 1000 - site.clock.now_s())
    with pytest.raises(Conflict, match="2026-12 is not over yet"):
        close(site, "2026-12")
    with pytest.raises(Conflict, match="2026-10 is the first in which anything ran"):
        close(site, "2026-11")
    close(site, "2026-10")
    site.clock.advance(100)
    with pytest.raises(Conflict, match="2026-11 is next"):
        close(site, "2026-12")
    with pytest.raises(Conflict, match="closed already"):
        close(site, "2026-10")
    assert [close(site, month)["state"] for month in ("2026-11", "2026-12")] == ["closed", "closed"]


def test_a_book_that_somebody_changed_says_so(site: World) -> None:
    long(site)
    site.pass_time(3_600 + 120)
    close(site, "2026-10")
    (line,) = site.store.kept.books["2026-10"]
    site.store.kept.books["2026-10"] = (replace(line, to_ms=line.to_ms - 1),)  # type: ignore[arg-type,call-arg]
    assert usage(site, "2026-10")["closed"]["intact"] is False
    assert usage(site, "2026-10", tenant="studio")["closed"]["intact"] is None


# ---- requests ------------------------------------------------------------------------------------------------------


def test_requests_are_counted_by_day_and_outlive_the_service(site: World) -> None:
    (job,) = site.submit(service_spec(name="chat"))
    site.service.take_loads("g", [load(job, arrivals=20, answered=18, within_slo=17, errors=1)])
    site.run()
    site.service.take_loads("g", [load(job, arrivals=5)])
    site.run().pass_time(KEEP_EVERY_S)
    site.restart()
    site.service.take_loads("g", [load(job, arrivals=2)])
    site.run().pass_time(3_600)
    site.service.take_loads("g", [load(job, arrivals=100)])
    site.run()
    site.service.close()
    site.start_service()
    assert [(day.day, day.requests, day.answered) for day in site.store.served_days("2026", "2027")] == [
        ("2026-10-31", 27, 25),
        ("2026-11-01", 100, 100),
    ]
    site.run()
    (october,) = usage(site, "2026-10", of="service")["sums"]
    assert (october["name"], october["requests"], october["answered"]) == ("studio/chat", 27, 25)
    assert (october["within_slo"], october["errors"]) == (24, 1)
    assert usage(site, "2026-10", of="class")["sums"][0]["answered"] is None
    site.pass_time(60)
    assert close(site, "2026-10")["sums"][0]["answered"] == 25
    assert usage(site)["corrections"] == []


def test_a_crash_forgets_half_a_minute_and_counts_nothing_twice(site: World) -> None:
    (job,) = site.submit(service_spec(name="chat"))
    for _ in range(3):
        site.service.take_loads("g", [load(job, arrivals=10)])
        site.run().pass_time(9)
    site.restart()
    (day,) = site.store.served_days("2026", "2027")
    assert day.answered == 10  # the first was kept at once
    site.service.take_loads("g", [load(job, arrivals=1), load("77", arrivals=5)])  # 77: nobody knows it
    site.run().pass_time(KEEP_EVERY_S)
    (day,) = site.store.served_days("2026", "2027")
    assert day.answered == 11


def test_answers_of_simulated_replicas_are_apart(make: Make) -> None:
    world = make(node_facts("s1", 2, simulated=True), start_s=NOVEMBER_S - 3_600, zone=ZONE)
    (job,) = world.submit(service_spec(name="chat", alternatives=(Demand(simulated=True),)))
    world.service.take_loads("g", [load(job, arrivals=3)])
    world.run()
    (day,) = world.store.served_days("2026", "2027")
    assert (day.simulated, day.answered) == (True, 3)


# ---- any history ---------------------------------------------------------------------------------------------------

AUGUST_S = month_named("2026-08", ZONE).from_ms / 1000
moments = st.floats(AUGUST_S, NOVEMBER_S, allow_nan=False)
accounts = st.tuples(st.integers(0, 3), moments, st.floats(0, 5e6), st.sampled_from(["seen", "unseen", "late"]))
steps = st.lists(st.one_of(accounts, st.just("close")), max_size=25)


@given(steps)
def test_books_never_change_and_all_together_they_are_the_truth(history: list[Any]) -> None:
    store = FakeStore()
    ids = [job.id for job in store.submit([spec()] * 4, at_s=0.0, by="x")]
    books: dict[str, Book] = {}
    name = "2026-08"
    for step in history:
        if step == "close" and name <= "2026-11":
            book = book_of(store, ZONE, name, (), 9e9)
            closed = ClosedMonth(book.month, ZONE, 0.0, "x", book.write_number, 0, "", ())
            store.close_month(closed, (*book.entries, *book.corrections))
            books[name] = book
            name = following(name)
        elif step != "close":
            which, from_s, lasts_s, end = step
            if end == "late":
                store.commit((), [SeenLate(ids[which], 1, 0, "n1", from_s, from_s + lasts_s, "x")])
            else:
                store.commit((), [record(ids[which], from_s, from_s + lasts_s, end)])
    for month, before in books.items():
        now = book_of(store, ZONE, month, (), 9e9)
        assert (now.entries, now.corrections) == (before.entries, before.corrections)
    total = NOTHING
    for month in ("2026-08", "2026-09", "2026-10", "2026-11", "2026-12", "2027-01"):
        book = book_of(store, ZONE, month, (), 9e9)
        for each in summed(book.entries, book.corrections, "tenant"):
            total += each.amounts
    truth = NOTHING
    for month in ("2026-08", "2026-09", "2026-10", "2026-11", "2026-12", "2027-01"):
        fresh = FakeStore()
        fresh.kept.jobs = store.kept.jobs
        fresh.commit((), list(store.usage_records_between(0.0, 9e9)))
        for each in summed(book_of(fresh, ZONE, month, (), 9e9).entries, (), "tenant"):
            truth += each.amounts
    assert total == truth
    if books:
        settled = outstanding(store, store.closed_months(), ZONE, ())
        assert [c for c in settled if c.before == c.after] == []


def record(job_id: str, from_s: float, to_s: float, end: Any) -> UsageRecord:
    return UsageRecord(
        job_id=job_id,
        attempt=1,
        worker=0,
        tenant="studio",
        priority_class="normal",
        kind=JobKind.TRAINING.value,
        node="n1",
        devices=(0, 1),
        share_milli=0,
        cpus_milli=0,
        memory_bytes=0,
        simulated=False,
        from_s=from_s,
        to_s=to_s,
        end=end,
        cause="x",
        models=("H100 SXM", "H100 SXM"),
    )
