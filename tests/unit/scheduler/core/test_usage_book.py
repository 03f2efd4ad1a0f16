"""A month's book: parts that add up to the whole, corrections that name what they correct, sums that are exact."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.usage_book import (
    NOTHING,
    Amounts,
    Correction,
    Entry,
    ModelRate,
    Month,
    RunLine,
    ServedLine,
    book_sha256,
    canonical,
    corrected,
    entry_from_json,
    entry_json,
    in_ms,
    order,
    part_in,
    parts,
    parts_as_they_come,
    pflops_hours,
)
from scheduler.core.usage_records import MeteredUse, UsageRecord
from scheduler.core.usage_sums import summed
from scheduler.months import following, month_at, month_named

ZONE = "Asia/Shanghai"
OCTOBER, NOVEMBER = month_named("2026-10", ZONE), month_named("2026-11", ZONE)
BORDER_S = NOVEMBER.from_ms / 1000
RECORD = UsageRecord(
    job_id="7",
    attempt=1,
    worker=0,
    tenant="studio",
    priority_class="normal",
    kind="training",
    node="n1",
    devices=(0, 1),
    share_milli=0,
    cpus_milli=1_000,
    memory_bytes=0,
    simulated=False,
    from_s=BORDER_S - 60.0,
    to_s=BORDER_S + 40.25,
    end="seen",
    cause="succeeded",
    name="film",
    site="dongyang",
    models=("H100 SXM", "H100 SXM"),
)
USE = MeteredUse(2, 98.5, 150_000.0004, False, 1522.8, 2.0**35, 91.0, False)


def line(record: UsageRecord, month: Month, *, runs_on: bool = False) -> RunLine:
    found = part_in(record, month, runs_on=runs_on)
    assert found is not None
    return found


def plain_sums(lines: list[RunLine]) -> dict[tuple[str, bool], tuple[Amounts, dict[str | None, int]]]:
    """As the amounts and models of each line say, one after the other."""
    found: dict[tuple[str, bool], tuple[Amounts, dict[str | None, int]]] = {}
    for each in lines:
        amounts, by_model = found.get((each.tenant, each.simulated), (NOTHING, {}))
        for model, us in each.by_model().items():
            by_model[model] = by_model.get(model, 0) + us
        found[each.tenant, each.simulated] = (amounts + each.amounts, by_model)
    return found


drawn_runs = st.builds(
    lambda job, tenant, end, models, share, simulated, from_s, lasts_s, use: replace(
        RECORD,
        job_id=str(job),
        tenant=tenant,
        end=end,
        devices=tuple(range(max(1, len(models)))),
        models=models,
        share_milli=share,
        simulated=simulated,
        from_s=BORDER_S + from_s,
        to_s=BORDER_S + from_s + lasts_s,
        use=use,
    ),
    *(st.integers(1, 5), st.sampled_from(("studio", "lab")), st.sampled_from(("seen", "unseen"))),
    st.sampled_from(((), ("A",), ("A", "A"), ("A", "B", "A"))),
    *(st.sampled_from((0, 250)), st.booleans(), st.floats(-1e5, 1e5), st.floats(0.0, 1e5)),
    st.sampled_from((None, USE, replace(USE, joules_at_least=True), replace(USE, joules=None))),
)


@given(st.lists(drawn_runs, max_size=8), st.lists(drawn_runs, max_size=3))
def test_sums_of_runs_as_they_come_are_those_of_the_book(
    records: list[UsageRecord], running: list[UsageRecord]
) -> None:
    once = list({record.key: record for record in records}.values())
    kept = parts(once, running, NOVEMBER)
    assert kept == sorted(parts_as_they_come(once, running, NOVEMBER), key=order)
    sums = summed(parts_as_they_come(once, running, NOVEMBER), (), "tenant")
    plain = plain_sums(kept)
    assert {(s.of, s.simulated): s.amounts for s in sums} == {key: amounts for key, (amounts, _) in plain.items()}
    told = {(s.of, s.simulated): dict(s.by_model) for s in sums}
    assert told == {key: {m: us for m, us in models.items() if us} for key, (_, models) in plain.items()}
    assert sum(s.runs for s in sums) == len(kept)


# ---- parts ---------------------------------------------------------------------------------------------------------


@given(st.floats(-1e12, 1e12) | st.integers(-(10**13), 10**13).map(lambda n: n / 2048))
def test_milliseconds_are_those_of_the_exact_number(seconds: float) -> None:
    assert in_ms(seconds) == round(Fraction(seconds) * 1000)


def test_a_run_over_a_border_has_a_part_in_each_month_and_its_end_in_one() -> None:
    first, second = line(RECORD, OCTOBER), line(RECORD, NOVEMBER)
    assert (first.to_ms, second.from_ms) == (NOVEMBER.from_ms, NOVEMBER.from_ms)
    assert (first.device_us, second.device_us) == (2 * 60 * 10**6, 2 * 40_250_000)
    assert (first.end, first.cause, second.end, second.cause) == ("goes on", "", "seen", "succeeded")
    assert part_in(RECORD, month_named("2026-12", ZONE)) is None
    assert part_in(replace(RECORD, to_s=BORDER_S), NOVEMBER) is None


def test_energy_stands_where_the_run_ended_for_the_whole_run() -> None:
    record = replace(RECORD, use=USE)
    first, second = line(record, OCTOBER), line(record, NOVEMBER)
    assert (first.millijoules, first.metered_us, first.unmetered_us) == (None, 0, 0)
    assert (second.millijoules, second.metered_us) == (150_000_000, 2 * 98_500_000)
    assert second.metered_us + second.unmetered_us == 2 * 100_250_000


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        replace(RECORD, use=replace(USE, joules=None)),
        replace(RECORD, use=replace(USE, simulated=True)),
        replace(RECORD, devices=(3,), models=("H100 SXM",), share_milli=250, use=USE),
    ],
)
def test_what_was_not_read_is_unmetered_and_not_zero_joules(record: UsageRecord) -> None:
    found = line(record, NOVEMBER)
    assert (found.millijoules, found.metered_us) == (None, 0)
    assert found.unmetered_us == record.devices_milli * 100_250


def test_what_runs_still_has_a_part_up_to_its_last_sign_of_life() -> None:
    alive = replace(RECORD, end="unseen", cause="")
    assert line(alive, NOVEMBER, runs_on=True).end == "goes on"
    assert line(alive, NOVEMBER, runs_on=True).amounts.unseen_us == 0
    assert line(alive, NOVEMBER).amounts.unseen_us == 2 * 40_250_000
    assert parts([RECORD], [alive], NOVEMBER) == [line(RECORD, NOVEMBER)]  # it ended between the two looks
    given_up = replace(RECORD, end="unseen", to_s=BORDER_S + 10)
    assert parts([given_up], [alive], NOVEMBER) == [line(alive, NOVEMBER, runs_on=True)]  # its node came back with it


def test_a_month_that_was_closed_while_a_run_went_on_needs_no_correction_when_it_ends() -> None:
    alive = replace(RECORD, end="unseen", cause="", to_s=BORDER_S + 9)
    place = ("2026-10", "run/7/1/0")
    booked = {place: line(alive, OCTOBER, runs_on=True)}
    assert corrected(booked, {place: part_in(replace(RECORD, use=USE), OCTOBER)}) == []


moments = st.floats(min_value=OCTOBER.from_ms / 1000 - 1e6, max_value=NOVEMBER.to_ms / 1000 + 1e6, allow_nan=False)


@given(moments, st.floats(min_value=0, max_value=1e7), st.integers(1, 8), st.sampled_from([0, 1, 250, 999]))
def test_the_months_add_up_to_the_whole(from_s: float, lasts_s: float, devices: int, share_milli: int) -> None:
    """To the millionth of a device-second, in any zone, with no float in between."""
    held = tuple(range(1 if share_milli else devices))
    models = tuple("ABC"[index % 3] for index in held)
    record = replace(
        RECORD, from_s=from_s, to_s=from_s + lasts_s, devices=held, models=models, share_milli=share_milli, use=USE
    )
    whole_us = (share_milli or 1000 * devices) * (in_ms(record.to_s) - in_ms(record.from_s))
    for zone in ("Asia/Shanghai", "America/New_York", "Pacific/Chatham"):
        total, by_model, name = NOTHING, 0, month_at(from_s, zone).name
        while True:
            month = month_named(name, zone)
            if (part := part_in(record, month)) is not None:
                total += part.amounts
                by_model += sum(part.by_model().values())
            if month.from_ms > in_ms(record.to_s):
                break
            name = following(name)
        assert (total.device_us, by_model) == (whole_us, whole_us)
        assert total.metered_us + total.unmetered_us == whole_us


@given(st.lists(moments, min_size=2, max_size=8, unique=True))
def test_runs_that_follow_one_another_add_up_to_one(borders: list[float]) -> None:
    borders.sort()
    runs = [replace(RECORD, attempt=n, from_s=a, to_s=b) for n, (a, b) in enumerate(pairwise(borders))]
    whole = replace(RECORD, from_s=borders[0], to_s=borders[-1])

    def total(records: list[UsageRecord]) -> int:
        months = (month_named(f"2026-{month:02d}", ZONE) for month in (9, 10, 11, 12))
        return sum(part.device_us for month in months for part in parts(records, (), month))

    assert total(runs) == total([whole])


def test_months_touch_also_where_clocks_are_changed() -> None:
    name = "2026-01"
    for _ in range(30):
        month, after = month_named(name, "Europe/Berlin"), month_named(following(name), "Europe/Berlin")
        assert month.to_ms == after.from_ms
        name = following(name)
    assert (
        month_named("2026-03", "Europe/Berlin").to_ms - month_named("2026-03", "Europe/Berlin").from_ms
        == (31 * 24 - 1) * 3_600_000
    )
    assert month_at(NOVEMBER.from_ms / 1000, ZONE) == NOVEMBER
    assert month_at((NOVEMBER.from_ms - 1) / 1000, ZONE) == OCTOBER


# ---- corrections ---------------------------------------------------------------------------------------------------


def test_a_correction_names_the_month_and_what_stood_there_before() -> None:
    unseen = line(replace(RECORD, to_s=BORDER_S - 30, end="unseen", cause="node lost"), OCTOBER)
    seen = line(replace(RECORD, to_s=BORDER_S - 10), OCTOBER)
    place, other = ("2026-10", unseen.key), ("2026-10", "run/8/1/0")
    new = replace(seen, job_id="8")
    found = corrected({place: unseen}, {place: seen, other: new})
    assert found == [Correction("2026-10", unseen, seen), Correction("2026-10", None, new)]
    assert corrected({place: seen}, {place: replace(seen, cause="other words")}) == []
    assert corrected({place: seen}, {place: None}) == [Correction("2026-10", seen, None)]


def test_corrections_count_in_the_sums_and_are_told_apart() -> None:
    base = line(RECORD, NOVEMBER)
    before, after = (
        line(replace(RECORD, to_s=BORDER_S - 30), OCTOBER),
        line(replace(RECORD, to_s=BORDER_S - 10), OCTOBER),
    )
    (total,) = summed([base], [Correction("2026-10", before, after)], "tenant")
    assert (total.of, total.runs, total.simulated) == ("studio", 1, False)
    assert total.corrections.device_us == 2 * 20 * 10**6
    assert total.amounts.device_us == base.device_us + 2 * 20 * 10**6
    assert total.by_model == (("H100 SXM", total.amounts.device_us),)


# ---- sums ----------------------------------------------------------------------------------------------------------


def test_simulated_devices_and_real_ones_never_stand_in_one_sum() -> None:
    made_up = replace(line(RECORD, NOVEMBER), simulated=True)
    share = replace(line(RECORD, NOVEMBER), job_id="8", devices=(1,), models=(), share_milli=125, site=None)
    lines = [line(RECORD, NOVEMBER), made_up, share]
    by_tenant = summed(lines, (), "tenant")
    assert [(s.of, s.simulated, s.runs, s.amounts.device_us, s.amounts.share_us) for s in by_tenant] == [
        ("studio", False, 2, 80_500_000 + 5_031_250, 5_031_250),
        ("studio", True, 1, 80_500_000, 0),
    ]
    assert by_tenant[0].by_model == (("H100 SXM", 80_500_000), (None, 5_031_250))
    assert [s.of for s in summed(lines, (), "site")] == ["dongyang", "dongyang", "not known"]
    assert [s.of for s in summed(lines, (), "job")] == ["7", "7", "8"]
    assert [s.of for s in summed(lines, (), "class")] == ["normal", "normal"]
    assert summed(lines, (), "service") == ()


def test_requests_are_summed_by_tenant_and_service_and_by_nothing_else() -> None:
    served = ServedLine("studio", "chat", False, 10, 9, 8, 1)
    other = replace(served, service="scan")
    replica = replace(line(RECORD, NOVEMBER), kind="inference", name="chat")
    (tenant,) = summed([served, other, replica], (), "tenant")
    assert (tenant.requests, tenant.answered, tenant.within_slo, tenant.errors) == (20, 18, 16, 2)
    chat, scan = summed([served, other, replica], (), "service")
    assert (chat.of, chat.answered, chat.amounts.device_us) == ("studio/chat", 9, 80_500_000)
    assert (scan.of, scan.answered, scan.amounts, scan.tenant) == ("studio/scan", 9, NOTHING, "studio")
    (site,) = summed([served, replica], (), "site")
    assert site.answered is None
    (after,) = summed([served], [Correction("2026-10", served, replace(served, answered=11))], "tenant")
    assert after.answered == 11


amounts = st.builds(Amounts, *(st.integers(-(10**18), 10**18) for _ in range(7)))


@given(amounts, amounts)
def test_amounts_are_taken_away_as_they_were_added(a: Amounts, b: Amounts) -> None:
    assert a + b - b == a


def test_pflops_hours_are_device_hours_times_the_measured_rate() -> None:
    rate = ModelRate("H100 SXM", "612345.678", "bf16", "accelerator", "r", 0.0, 8)
    assert pflops_hours(3_600_000_000, rate) == Fraction("0.612345678")
    assert sum(pflops_hours(us, rate) for us in (1, 2, 7)) == pflops_hours(10, rate)


# ---- text ----------------------------------------------------------------------------------------------------------


def entries() -> list[Entry | Correction]:
    first = line(replace(RECORD, use=USE), NOVEMBER)
    return [first, ServedLine("studio", "聊天", True, 1, 1, 1, 0), Correction("2026-10", None, first)]


@pytest.mark.parametrize("entry", entries())
def test_an_entry_comes_back_from_its_text(entry: Entry | Correction) -> None:
    assert entry_from_json(json.loads(canonical(entry_json(entry)))) == entry


@pytest.mark.parametrize(
    "bad", [{}, {"entry": "x"}, {"entry": "run"}, {"entry": "correction", "of_month": "", "before": None}]
)
def test_what_is_no_entry_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        entry_from_json(bad)


def test_a_book_has_the_same_hash_in_any_order_and_another_when_anything_differs() -> None:
    rate = ModelRate("H100 SXM", "600000", "bf16", "accelerator", "r", 0.0, 8)
    book = entries()
    sha = book_sha256(NOVEMBER, ZONE, [rate], book)
    assert sha == book_sha256(NOVEMBER, ZONE, [rate], book[::-1])
    others = [
        book_sha256(NOVEMBER, "UTC", [rate], book),
        book_sha256(OCTOBER, ZONE, [rate], book),
        book_sha256(NOVEMBER, ZONE, [], book),
        book_sha256(NOVEMBER, ZONE, [replace(rate, gflops="600001")], book),
        book_sha256(NOVEMBER, ZONE, [rate], book[1:]),
    ]
    assert len({sha, *others}) == 6


def test_jobs_are_ordered_as_numbers() -> None:
    ids = ["10", "9", "9.10", "9.2", "100"]
    assert [each.job_id for each in sorted((replace(line(RECORD, NOVEMBER), job_id=i) for i in ids), key=order)] == [
        *("9", "9.2", "9.10", "10", "100")
    ]
