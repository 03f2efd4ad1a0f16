"""What a tenant's contract file and the file of voucher rules say. Raises BadInput with file, line and field.

pydantic ends here; what goes on is scheduler.billing.vouchers' dataclasses. Money is exact: a number is taken as it is
spelled in the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, PlainValidator

from scheduler.billing.vouchers import Contract, Price, Rules, Vertical, overlap
from scheduler.core.jobs import JobKind
from scheduler.errors import BadInput
from scheduler.schema.fields import ConfigName, Text, expected, finite_number, matching, one_of, whole, without_nulls
from scheduler.schema.problems import Problems, Shape, nearest, raise_together, validated
from scheduler.schema.yaml_source import Document, read_yaml

MAX_PRICE: Final = 1_000_000
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_JOB: Final = r"\d{1,18}(?:\.\d{1,9})?"


def _day(value: object) -> str:
    words = 'a day, such as "2026-03-16"'
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise expected(words)
    try:
        datetime.fromisoformat(value)
    except ValueError:
        raise expected(words) from None
    return value


def _price(value: object) -> Decimal:
    words = f"CNY: a number above 0 and at most {MAX_PRICE}, with at most six decimals"
    if isinstance(value, str):
        text = value if re.fullmatch(r"\d{1,9}(?:\.\d{1,6})?", value, re.ASCII) else None
    else:
        number = finite_number(value)
        text = None if number is None or abs(number) > MAX_PRICE else repr(value)
    price = None if text is None else Decimal(text)
    if price is None or not 0 < price <= MAX_PRICE or price != round(price, 6):
        raise expected(words)
    return price


def _percent(value: object) -> Fraction:
    number = finite_number(value)
    if number is None or not 0 < number <= 100:
        raise expected("a number of per cent, above 0 and at most 100")
    return Fraction(repr(value)) / 100


Day = Annotated[str, PlainValidator(_day)]
Cny = Annotated[int, PlainValidator(whole(1, 10**9))]
Kind = Annotated[str, PlainValidator(one_of(*(kind.value for kind in JobKind)))]
JobId = Annotated[str, PlainValidator(matching(_JOB, 'a job\'s id as text: "7", an array\'s number, or "7.3"'))]


class RulesShape(Shape):
    source: Text
    from_: Day = Field(alias="from")
    until: Day
    percent_of_executed: Annotated[Fraction, PlainValidator(_percent)]
    max_cny: Cny
    max_cny_vertical: Cny
    key_chains: list[ConfigName] = Field(default_factory=list, max_length=100)


class PeriodShape(Shape):
    from_: Day = Field(alias="from")
    until: Day


class PriceShape(Shape):
    model: Text | None = None
    per: Annotated[Literal["device-hour", "pflops-hour"], PlainValidator(one_of("device-hour", "pflops-hour"))]
    cny: Annotated[Decimal, PlainValidator(_price)]
    source: Text


class VerticalShape(Shape):
    chain: ConfigName
    jobs: list[JobId] = Field(default_factory=list, max_length=10_000)
    names: list[Text] = Field(default_factory=list, max_length=1_000)
    kinds: list[Kind] = Field(default_factory=lambda: [JobKind.TRAINING.value], min_length=1)
    source: Text


class ContractShape(Shape):
    tenant: ConfigName
    contract: Text
    period: PeriodShape
    prices: list[PriceShape] = Field(min_length=1, max_length=1_000)
    vertical_training: list[VerticalShape] = Field(default_factory=list, max_length=1_000)


def load_rules(path: Path, zone: str) -> Rules:
    """`zone`: in which the days are meant."""
    document = read_yaml(path)
    problems = Problems(str(path), document.lines)
    shape = validated(RulesShape, without_nulls(document.mapping()), problems)
    if shape is not None:
        if shape.until < shape.from_:
            problems.expected("until", f"a day not before from, {shape.from_}", shape.until)
        if shape.max_cny_vertical < shape.max_cny:
            problems.expected("max_cny_vertical", f"at least max_cny, {shape.max_cny}", shape.max_cny_vertical)
    raise_together([problems])
    assert shape is not None
    return Rules(
        source=shape.source.strip(),
        from_ms=_begins_ms(shape.from_, zone),
        until_ms=_ends_ms(shape.until, zone),
        share=shape.percent_of_executed,
        cap=shape.max_cny,
        vertical_cap=shape.max_cny_vertical,
        chains=tuple(shape.key_chains),
    )


def load_contracts(paths: Sequence[Path], rules: Rules, zone: str) -> tuple[Contract, ...]:
    """All of them, or everything that is wrong with any."""
    found, all_problems = [], []
    for path in paths:
        document = read_yaml(path)
        problems = Problems(str(path), document.lines)
        shape = validated(ContractShape, without_nulls(document.mapping()), problems)
        if shape is not None:
            _check(shape, rules, problems)
            if not problems:
                found.append(_contract(shape, document, str(path), zone))
        all_problems.append(problems)
    raise_together(all_problems)
    both = overlap(found)
    if both is not None:
        one, other = both
        raise BadInput(
            f"{other.file}: period: overlaps that of {one.file}, of the same tenant {one.tenant}: a run would be"
            " counted under both",
            field="period",
        )
    numbers = [contract.number for contract in found]
    for contract in found:
        if numbers.count(contract.number) > 1:
            raise BadInput(
                f"{contract.file}: contract: {contract.number!r} is the number of two files", field="contract"
            )
    return tuple(found)


def _check(shape: ContractShape, rules: Rules, problems: Problems) -> None:
    if shape.period.until < shape.period.from_:
        problems.expected("period.until", f"a day not before period.from, {shape.period.from_}", shape.period.until)
    seen: set[str | None] = set()
    for index, price in enumerate(shape.prices):
        if price.model in seen:
            whose = "all other models" if price.model is None else price.model
            problems.add(f"prices[{index}].model", f"{whose}: has a price already, and a device-hour has one")
        seen.add(price.model)
    for index, vertical in enumerate(shape.vertical_training):
        if not vertical.jobs and not vertical.names:
            problems.expected(f"vertical_training[{index}]", "jobs or names: which jobs are meant")
        if rules.chains and vertical.chain not in rules.chains:
            problems.expected(
                f"vertical_training[{index}].chain",
                f"one of the key industry chains, {', '.join(rules.chains)}",
                vertical.chain,
                names=nearest(vertical.chain, rules.chains),
            )


def _contract(shape: ContractShape, document: Document, file: str, zone: str) -> Contract:
    def where(field: str) -> str:
        return f"{file}:{document.lines.get(field, 1)}"

    return Contract(
        tenant=shape.tenant,
        number=shape.contract,
        from_ms=_begins_ms(shape.period.from_, zone),
        until_ms=_ends_ms(shape.period.until, zone),
        prices=tuple(
            Price(price.model, price.per, price.cny, price.source, where(f"prices[{index}]"))
            for index, price in enumerate(shape.prices)
        ),
        verticals=tuple(
            Vertical(
                each.chain,
                frozenset(each.jobs),
                tuple(each.names),
                tuple(each.kinds),
                each.source,
                where(f"vertical_training[{index}]"),
            )
            for index, each in enumerate(shape.vertical_training)
        ),
        file=file,
    )


def _begins_ms(day: str, zone: str) -> int:
    return round(datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1000


def _ends_ms(day: str, zone: str) -> int:
    """When the next day begins."""
    return _begins_ms((datetime.fromisoformat(day) + timedelta(days=1)).date().isoformat(), zone)
