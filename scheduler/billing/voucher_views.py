"""Vouchers as they are printed and as JSON and CSV: exact numbers as text, every line with what it is made of."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from scheduler.billing.pflops import written
from scheduler.billing.plain import no_formula
from scheduler.billing.vouchers import ExecutedLine, Rules, VoucherYear, yuan
from scheduler.core.usage_book import decimal_text

Json = dict[str, Any]

CSV_FIELDS = (
    "tenant",
    "contract",
    "year",
    "month",
    "booked_in",
    "job",
    "attempt",
    "worker",
    "name",
    "node",
    "model",
    "devices",
    "from",
    "to",
    "device_seconds",
    "price_cny",
    "per",
    "price_source",
    "price_line",
    "rate_gflops",
    "rate_run",
    "amount_cny",
    "chain",
    "in_force",
)


def rules_view(rules: Rules) -> Json:
    return {
        "source": rules.source,
        "share": written(rules.share, 4),
        "max_cny": rules.cap,
        "max_cny_vertical": rules.vertical_cap,
        "key_chains": list(rules.chains),
        "rounding": "executed amount: to the fen, half up, once; voucher: down to the fen",
    }


def year_view(year: VoucherYear, zone: str) -> Json:
    return {
        "tenant": year.tenant,
        "year": year.year,
        "contracts": list(year.contracts),
        "executed_cny": yuan(year.executed_fen),
        "ordinary_cny": yuan(year.ordinary_fen),
        "vertical_cny": yuan(year.vertical_fen),
        "out_of_force_cny": yuan(year.out_of_force_fen),
        "voucher_cny": yuan(year.voucher_fen),
        "limited_by": year.limited_by,
        "left_out": [
            {"why": each.why, "model": each.model, "device_seconds": decimal_text(each.device_us, 6)}
            for each in year.left_out
        ],
        "lines": [line_view(line, zone) for line in year.lines],
    }


def line_view(line: ExecutedLine, zone: str) -> Json:
    """`amount_cny` is shown to a millionth; what is added up is exact: device_seconds times price over 3600."""
    return {
        "tenant": line.tenant,
        "contract": line.contract,
        "year": line.year,
        "month": line.month,
        "booked_in": line.booked_in,
        "job": line.job_id,
        "attempt": line.attempt,
        "worker": line.worker,
        "name": no_formula(line.name),
        "node": line.node,
        "model": line.model,
        "devices": decimal_text(line.device_milli, 3),
        "from": moment(line.from_ms, zone),
        "to": moment(line.to_ms, zone),
        "device_seconds": decimal_text(line.device_us, 6),
        "price_cny": format(line.price.cny, "f"),
        "per": line.price.per,
        "price_source": line.price.source,
        "price_line": line.price.where,
        "rate_gflops": None if line.rate is None else line.rate.gflops,
        "rate_run": None if line.rate is None else line.rate.run,
        "amount_cny": written(line.amount, 6),
        "chain": line.chain,
        "in_force": line.in_force,
    }


def moment(at_ms: int, zone: str) -> str:
    """To the millisecond, with the offset of the zone."""
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone)).isoformat(timespec="milliseconds")
