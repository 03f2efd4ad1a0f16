"""What did device time come to in benchmarked PFlops-hours? Device-hours times the measured 16-bit rate of the model.

Only a rate that was measured on accelerators of that very model counts. A model without one is named with its device
time and multiplied with nothing, least of all with a vendor's figure. Simulated devices have simulated rates, which are
kept apart as their device time is. Exact: fractions, written out at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

from scheduler.core.usage_book import ModelRate, pflops_hours

PLACES = 9
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)


@dataclass(frozen=True, slots=True)
class Achieved:
    """`pflops_hours` None: nothing of it has a measured rate. `unrated`: models (None: not known), with device time."""

    pflops_hours: Fraction | None
    rated: tuple[tuple[ModelRate, int], ...]
    unrated: tuple[tuple[str | None, int], ...]


def achieved(by_model: Iterable[tuple[str | None, int]], rates: Sequence[ModelRate], *, simulated: bool) -> Achieved:
    """`by_model`: device time in millionths of device-seconds, all of it on real or all on simulated devices."""
    usable = {rate.model: rate for rate in rates if rate.on == ("simulated" if simulated else "accelerator")}
    rated, unrated = [], []
    for model, device_us in by_model:
        if model is not None and model in usable:
            rated.append((usable[model], device_us))
        else:
            unrated.append((model, device_us))
    total = sum((pflops_hours(us, rate) for rate, us in rated), Fraction(0)) if rated else None
    return Achieved(total, tuple(rated), tuple(unrated))


def written(value: Fraction, places: int = PLACES) -> str:
    """As a decimal number, rounded at its end alone, half to even."""
    exact = _EXACT.divide(Decimal(value.numerator), Decimal(value.denominator))
    return format(exact.quantize(Decimal(1).scaleb(-places), context=_EXACT), "f")
