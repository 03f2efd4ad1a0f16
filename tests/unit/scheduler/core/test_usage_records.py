"""Which of two accounts of a run is kept, and what tenants' records come to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.core.usage_records import MeteredUse, SeenLate, UsageEntry, UsageRecord, accounted, by_tenant

SEEN = UsageRecord(
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
    from_s=100.0,
    to_s=160.0,
    end="seen",
    cause="succeeded",
)
UNSEEN = replace(SEEN, to_s=130.0, end="unseen", cause="node lost")
LATER = replace(UNSEEN, to_s=140.0)
USE = MeteredUse(2, 50.0, 40_000.0, False, 800.0, 2.0**30, 93.5, False)
LATE = SeenLate("7", 1, 0, "n1", 101.0, 150.0, "lease")
MENDED = replace(UNSEEN, from_s=101.0, to_s=150.0, end="seen", cause="lease")


@pytest.mark.parametrize(
    ("known", "entry", "kept"),
    [
        (None, SEEN, SEEN),
        (None, UNSEEN, UNSEEN),
        (None, LATE, None),
        (UNSEEN, SEEN, SEEN),
        (SEEN, UNSEEN, SEEN),
        (SEEN, replace(SEEN, cause="x"), replace(SEEN, cause="x")),
        (UNSEEN, LATER, LATER),
        (LATER, UNSEEN, LATER),
        (UNSEEN, LATE, MENDED),
        (SEEN, LATE, SEEN),
        (MENDED, UNSEEN, MENDED),
        (UNSEEN, replace(LATE, node="n2"), UNSEEN),
        (UNSEEN, replace(LATE, to_s=90.0), replace(MENDED, to_s=101.0)),
    ],
)
def test_the_better_account_is_kept(known: UsageRecord | None, entry: UsageEntry, kept: UsageRecord | None) -> None:
    assert accounted(known, entry) == kept


def test_no_run_ends_before_it_starts() -> None:
    with pytest.raises(AssertionError):
        replace(SEEN, to_s=99.0)


@pytest.mark.parametrize(
    ("devices", "share_milli", "device_seconds"), [((0, 1), 0, 120.0), ((3,), 250, 15.0), ((), 0, 0.0)]
)
def test_device_seconds(devices: tuple[int, ...], share_milli: int, device_seconds: float) -> None:
    assert replace(SEEN, devices=devices, share_milli=share_milli).device_seconds == device_seconds


def test_sums_by_tenant_hold_real_and_simulated_apart() -> None:
    other = replace(UNSEEN, tenant="hospital", job_id="8")
    simulated = replace(SEEN, job_id="9", simulated=True, devices=(0,))
    sums = by_tenant([SEEN, simulated, other, replace(UNSEEN, attempt=2)])
    assert [(s.tenant, s.simulated, s.runs, s.device_seconds, s.unseen_device_seconds) for s in sums] == [
        ("hospital", False, 1, 60.0, 60.0),
        ("studio", False, 2, 180.0, 60.0),
        ("studio", True, 1, 60.0, 0.0),
    ]


def test_two_periods_come_to_the_sum_of_both() -> None:
    records = [SEEN, UNSEEN, MENDED, replace(SEEN, from_s=160.0)]
    parts = [by_tenant(records, from_s=a, to_s=b)[0].device_seconds for a, b in ((0.0, 120.0), (120.0, 145.0))]
    assert parts == [20 * 2.0 + 20 * 2.0 + 19 * 2.0, 25 * 2.0 + 10 * 2.0 + 25 * 2.0]
    (rest,) = by_tenant(records, from_s=145.0)
    assert sum(parts) + rest.device_seconds == by_tenant(records)[0].device_seconds
    assert by_tenant(records, from_s=160.0) == ()


@pytest.mark.parametrize(
    ("known", "entry", "use"),
    [
        (UNSEEN, replace(SEEN, use=USE), USE),
        (replace(SEEN, use=USE), SEEN, USE),  # told again by an agent that was started anew, and has no meter of it
        (replace(SEEN, use=USE), replace(SEEN, use=replace(USE, joules=None)), replace(USE, joules=None)),
        (UNSEEN, replace(LATE, use=USE), USE),
        (replace(UNSEEN, use=USE), LATE, USE),
    ],
)
def test_what_was_metered_is_not_lost_again(known: UsageRecord, entry: UsageEntry, use: MeteredUse) -> None:
    kept = accounted(known, entry)
    assert kept is not None
    assert kept.use == use


def test_news_of_the_node_say_what_the_devices_were() -> None:
    kept = accounted(UNSEEN, replace(LATE, site="dongyang", models=((0, "A"), (1, "B"), (2, "C"))))
    assert kept is not None
    assert (kept.site, kept.models) == ("dongyang", ("A", "B"))
    half = accounted(UNSEEN, replace(LATE, models=((0, "A"),)))
    assert half is not None
    assert half.models == ()


@pytest.mark.parametrize(
    ("use", "unmetered_s"),
    [
        (None, 60.0),
        (USE, 10.0),
        (replace(USE, joules=None), 60.0),
        (replace(USE, metered_s=60.5), 0.0),  # two clocks
    ],
)
def test_what_no_reading_covers(use: MeteredUse | None, unmetered_s: float) -> None:
    assert replace(SEEN, use=use).unmetered_s == unmetered_s
