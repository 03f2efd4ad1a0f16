"""The shapes of requests and answers about usage. See `models.py`. Numbers that are billed are decimal numbers in text
("80.500000"): exact, whoever reads them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from scheduler.api.models import Answer, Shape

MONTH = r"^\d{4}-(0[1-9]|1[0-2])$"
By = Literal["tenant", "job", "class", "site", "service"]


class ModelRateView(Shape):
    """The measured rate of one model of device, with where it is from."""

    model: str = Field(min_length=1, max_length=200)
    gflops: str = Field(pattern=r"^\d{1,15}(\.\d{1,12})?$", description="of one device; a decimal number, exact")
    precision: str = Field(min_length=1, max_length=60)
    on: Literal["accelerator", "cpu", "simulated"]
    run: str = Field(min_length=1, max_length=200, description="of the benchmark's history")
    recorded_s: float = Field(ge=0, lt=1e11, allow_inf_nan=False)
    devices: int = Field(ge=1, description="so many were measured; the rate is their median")


class CloseUsageRequest(Shape):
    """`rates` are kept with the month: what its device-seconds are multiplied with, whatever is measured later."""

    month: str = Field(pattern=MONTH)
    rates: list[ModelRateView] = Field(default_factory=list, max_length=1_000)

    @field_validator("rates")
    @classmethod
    def _one_a_model(cls, rates: list[ModelRateView]) -> list[ModelRateView]:
        if len({(rate.model, rate.on) for rate in rates}) < len(rates):
            raise ValueError("a model has one rate of each evidence")
        return rates


class ClosedView(Shape):
    closed_s: float
    by: str
    sha256: str = Field(description="of the whole month's entries and rates, as they were closed")
    entries: int
    intact: bool | None = Field(description="the entries still have that hash; null: one tenant's part is shown")


class ModelSecondsView(Shape):
    model: str | None = Field(description="null: not known which")
    device_seconds: str


class UsageSumView(Shape):
    """Corrections are in all of it. Requests are null where they cannot be told by this."""

    name: str
    tenant: str | None = Field(description="whose it is; null: several tenants'")
    simulated: bool
    runs: int
    device_seconds: str
    share_seconds: str = Field(description="of device_seconds those that were held in shares of devices")
    unseen_device_seconds: str = Field(description="of runs whose end nobody saw")
    corrections_device_seconds: str
    joules: str | None = Field(description="of the metered part of runs that ended in the month; null: none is")
    joules_at_least: bool = Field(description="a counter was set back in some run: it used that or more")
    metered_device_seconds: str = Field(description="of runs that ended in the month, whole: what readings cover")
    unmetered_device_seconds: str = Field(description="of the same runs: what no reading covers")
    models: list[ModelSecondsView]
    requests: int | None
    answered: int | None
    within_slo: int | None
    errors: int | None


class _Month(Answer):
    month: str
    tenant: str | None
    zone: str
    from_ms: int = Field(description="epoch milliseconds")
    to_ms: int
    state: Literal["open", "over", "closed", "to come"] = Field(description="over: not closed yet")
    closed: ClosedView | None
    rates: list[ModelRateView] = Field(description="of a closed month: those that it was closed with")
    closed_months: list[str]
    goes_on: int = Field(description="runs that had not ended within the month")


class UsageAnswer(_Month):
    of: By
    sums: list[UsageSumView]
    corrections: list[dict[str, Any]] = Field(
        description='of closed months: {"of_month", "before", "after"}, the entry as it was booked and as it is known'
    )


class UsageEntriesAnswer(_Month):
    total: int
    offset: int
    entries: list[dict[str, Any]] = Field(description="in the order in which they are hashed; corrections last")
