"""Executed amounts and vouchers: prices, chains, caps, borders, rounding; and that lines add up to the amounts."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.billing.pflops import achieved, written
from scheduler.billing.vouchers import (
    Booked,
    Contract,
    Price,
    Rules,
    Vertical,
    VoucherYear,
    down,
    entitled,
    half_up,
    overlap,
    vouchers,
    yuan,
)
from scheduler.core.usage_book import Correction, ModelRate, RunLine
from scheduler.months import month_named

ZONE = "Asia/Shanghai"
HOUR_MS = 3_600_000
APRIL = month_named("2026-04", ZONE)
YEAR_END = month_named("2027-01", ZONE).from_ms
RULES = Rules(
    source="the plan",
    from_ms=month_named("2026-03", ZONE).from_ms + 15 * 24 * HOUR_MS,
    until_ms=month_named("2029-03", ZONE).from_ms,
    share=Fraction(30, 100),
    cap=500_000,
    vertical_cap=1_000_000,
)
HOURLY = Price("H100 SXM", "device-hour", Decimal("12.50"), "§ 3.2", "c.yaml:6")
BY_PFLOPS = Price(None, "pflops-hour", Decimal(18), "§ 3.3", "c.yaml:7")
MAGNETS = Vertical("magnetic-materials", frozenset({"9"}), ("coercivity*",), ("training",), "annex 2", "c.yaml:9")
CONTRACT = Contract("magnet-factory", "C-1", month_named("2026-01", ZONE).from_ms, YEAR_END, (HOURLY,), (), "c.yaml")
RATE = ModelRate("910B", "250000", "bf16", "accelerator", "night-1", 0.0, 8)


def line(**given: Any) -> RunLine:
    """Two H100 for ten hours."""
    base = RunLine(
        job_id="7",
        attempt=1,
        worker=0,
        tenant="magnet-factory",
        name="anneal",
        priority_class="normal",
        kind="training",
        site="dongyang",
        node="edge-0",
        devices=(0, 1),
        models=("H100 SXM", "H100 SXM"),
        share_milli=0,
        simulated=False,
        from_ms=APRIL.from_ms,
        to_ms=APRIL.from_ms + 10 * HOUR_MS,
        end="seen",
        cause="succeeded",
    )
    return replace(base, **given)


def book(*lines: RunLine, month: str = "2026-04", corrections: tuple[Correction, ...] = (), rates: Any = ()) -> Booked:
    return Booked(month, lines, corrections, rates)


def one(*books: Booked, contract: Contract = CONTRACT, rules: Rules = RULES) -> VoucherYear:
    (found,) = vouchers(books, [contract], rules)
    return found


def test_device_hours_times_the_agreed_price() -> None:
    found = one(book(line()))
    assert (found.tenant, found.year, found.contracts) == ("magnet-factory", 2026, ("C-1",))
    assert (yuan(found.executed_fen), yuan(found.voucher_fen), found.limited_by) == ("250.00", "75.00", "nothing")
    (each,) = found.lines
    assert (each.job_id, each.attempt, each.worker, each.device_milli, each.price.where) == (
        "7",
        1,
        0,
        2000,
        "c.yaml:6",
    )
    assert each.amount == 250


def test_a_share_of_a_device_costs_its_share() -> None:
    assert one(book(line(devices=(3,), models=("H100 SXM",), share_milli=250))).executed_fen == 3_125


def test_pflops_hours_times_the_agreed_price_by_the_measured_rate_of_the_model() -> None:
    contract = replace(CONTRACT, prices=(HOURLY, BY_PFLOPS))
    found = one(book(line(models=("910B", "H100 SXM")), rates=(RATE,)), contract=contract)
    assert [(each.model, each.amount) for each in found.lines] == [("910B", 45), ("H100 SXM", 125)]
    assert [each.rate and each.rate.run for each in found.lines] == ["night-1", None]


@pytest.mark.parametrize(
    ("given", "why", "model"),
    [
        ({"simulated": True}, "simulated", None),
        ({"models": ("B200", "B200")}, "no price", "B200"),
        ({"models": ()}, "model not known", None),
        ({"from_ms": YEAR_END + 1, "to_ms": YEAR_END + 2}, "outside the period", "H100 SXM"),
    ],
)
def test_what_comes_to_nothing_is_named(given: dict[str, Any], why: str, model: str | None) -> None:
    found = one(book(line(**given)))
    assert (found.executed_fen, found.voucher_fen, found.lines) == (0, 0, ())
    (left,) = found.left_out
    assert (left.why, left.model, left.device_us) == (why, model, line(**given).device_us)


def test_what_was_never_measured_has_no_price_by_pflops_hours() -> None:
    contract = replace(CONTRACT, prices=(BY_PFLOPS,))
    cpu, made_up = replace(RATE, model="H100 SXM", on="cpu"), replace(RATE, model="H100 SXM", on="simulated")
    found = one(book(line(), rates=(cpu, made_up)), contract=contract)
    assert [(left.why, left.model) for left in found.left_out] == [("no measured rate", "H100 SXM")]


def test_other_tenants_are_not_looked_at() -> None:
    assert vouchers([book(line(tenant="hospital"))], [CONTRACT], RULES) == ()


def test_a_run_is_cut_at_the_borders_of_contract_and_plan() -> None:
    begin = RULES.from_ms
    contract = replace(CONTRACT, from_ms=begin - HOUR_MS)
    march = line(from_ms=begin - 2 * HOUR_MS, to_ms=begin + 3 * HOUR_MS)
    found = one(book(march, month="2026-03"), contract=contract)
    assert [(each.in_force, each.amount) for each in found.lines] == [(False, 25), (True, 75)]
    assert (found.executed_fen, found.out_of_force_fen, found.voucher_fen) == (10_000, 2_500, 2_250)
    assert [left.why for left in found.left_out] == ["outside the period"]


@pytest.mark.parametrize(
    ("given", "vertical"),
    [
        ({"name": "coercivity-12"}, True),
        ({"name": "coercivity-12", "kind": "inference"}, False),
        ({"name": "anneal"}, False),
        ({"name": "x", "job_id": "9"}, True),
        ({"name": "x", "job_id": "9.4", "kind": "batch"}, True),
        ({"name": "x", "job_id": "90"}, False),
    ],
)
def test_which_jobs_train_a_vertical_model(given: dict[str, Any], vertical: bool) -> None:
    found = one(book(line(**given)), contract=replace(CONTRACT, verticals=(MAGNETS,)))
    assert found.vertical_fen == (25_000 if vertical else 0)
    assert found.ordinary_fen == (0 if vertical else 25_000)


@pytest.mark.parametrize(
    ("ordinary", "vertical", "voucher", "limited_by"),
    [
        (1_000_000, 0, 300_000, "nothing"),
        (1_666_667, 0, 500_000, "cap"),
        (9_000_000, 0, 500_000, "cap"),
        (0, 3_000_000, 900_000, "nothing"),
        (0, 9_000_000, 1_000_000, "vertical cap"),
        (9_000_000, 1_000_000, 800_000, "cap"),
        (9_000_000, 9_000_000, 1_000_000, "vertical cap"),
        (1_000_000, 1_000_000, 600_000, "nothing"),
        (0, 0, 0, "nothing"),
    ],
)
def test_caps(ordinary: int, vertical: int, voucher: int, limited_by: str) -> None:
    assert entitled(Fraction(ordinary), Fraction(vertical), RULES) == (voucher, limited_by)


amounts = st.fractions(0, 10**8, max_denominator=3_600_000)


@given(amounts, amounts)
def test_no_voucher_is_over_what_the_rules_allow(ordinary: Fraction, vertical: Fraction) -> None:
    voucher, _ = entitled(ordinary, vertical, RULES)
    paid = Fraction(down(voucher), 100)
    assert paid <= RULES.share * (ordinary + vertical)
    assert paid <= (RULES.vertical_cap if vertical else RULES.cap)
    assert entitled(ordinary, Fraction(0), RULES)[0] <= voucher
    assert entitled(ordinary, vertical + 1, RULES)[0] >= voucher


def test_corrections_count_in_the_year_in_which_the_devices_were_held() -> None:
    before = line(from_ms=YEAR_END - 10 * HOUR_MS, to_ms=YEAR_END - 5 * HOUR_MS, end="unseen")
    after = replace(before, to_ms=YEAR_END - HOUR_MS, end="seen")
    december = book(before, month="2026-12")
    january = book(month="2027-01", corrections=(Correction("2026-12", before, after),))
    found = one(december, january)
    assert (found.year, yuan(found.executed_fen)) == (2026, "225.00")
    assert [(each.booked_in, each.sign, each.amount) for each in found.lines] == [
        ("2026-12", 1, 125),
        ("2027-01", -1, -125),
        ("2027-01", 1, 225),
    ]


durations = st.lists(st.integers(1, 40 * HOUR_MS), min_size=1, max_size=30)


@given(durations, st.decimals("0.000001", 1_000, places=6))
def test_lines_add_up_to_the_amount_and_nothing_is_rounded_on_the_way(lasts_ms: list[int], price: Decimal) -> None:
    contract = replace(CONTRACT, prices=(replace(HOURLY, cny=price),))
    runs = [line(job_id=str(n), to_ms=APRIL.from_ms + ms) for n, ms in enumerate(lasts_ms)]
    found = one(book(*runs), contract=contract)
    exact = Fraction(2 * sum(lasts_ms), HOUR_MS) * Fraction(price)
    assert sum(each.amount for each in found.lines) == exact
    assert abs(Fraction(found.executed_fen, 100) - exact) <= Fraction(1, 200)
    assert 0 <= exact * Fraction(3, 10) - Fraction(found.voucher_fen, 100) < Fraction(1, 100)


def test_rounding_to_the_fen() -> None:
    assert [half_up(Fraction(n, 1000)) for n in (4, 5, 14, 15, -5, -6)] == [0, 1, 1, 2, 0, -1]
    assert [down(Fraction(n, 1000)) for n in (9, 10, 19, 20)] == [0, 1, 1, 2]
    assert (yuan(5), yuan(-1234567)) == ("0.05", "-12345.67")


def test_contracts_of_one_tenant_must_not_overlap() -> None:
    after = replace(CONTRACT, number="C-2", from_ms=CONTRACT.until_ms, until_ms=CONTRACT.until_ms + 1)
    assert overlap([after, CONTRACT]) is None
    assert overlap([CONTRACT, replace(after, from_ms=CONTRACT.until_ms - 1)]) is not None
    assert overlap([CONTRACT, replace(CONTRACT, tenant="hospital")]) is None


def test_pflops_hours_of_what_was_measured_and_the_rest_by_name() -> None:
    found = achieved([("910B", 7_200_000_000), ("X", 5), (None, 2)], [RATE], simulated=False)
    assert (found.pflops_hours, found.unrated) == (Fraction(1, 2), (("X", 5), (None, 2)))
    assert achieved([("910B", 1)], [RATE], simulated=True).pflops_hours is None
    assert achieved([("X", 1)], [RATE], simulated=False).pflops_hours is None
    assert [written(Fraction(1, 3)), written(Fraction(-5, 2), 0), written(Fraction(0))] == [
        *("0.333333333", "-2", "0.000000000")
    ]
