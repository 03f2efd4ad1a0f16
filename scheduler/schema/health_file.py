"""What a site's health.yaml says: which rules hold, with which numbers, and how much health may take out at a time.

A rule is named and changed, never made: what a sign means is in `node_agent.health.rules`. Every line may be left out.
Raises BadInput with file, line and field. pydantic ends here; what goes on is dataclasses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, PlainValidator

from node_agent.health.rules import DEFAULT_RULES, Escalation, HealthRules, Limits, Rule, Signal
from node_agent.health.verdicts import Jobs, Lifts, Use
from scheduler.core.device_checks import CheckSettings, Part
from scheduler.core.health_budget import Budget
from scheduler.schema.fields import duration, expected, finite_number, one_of, whole, without_nulls
from scheduler.schema.model import HealthPolicy
from scheduler.schema.problems import Problems, Shape, nearest, raise_together, validated
from scheduler.schema.yaml_source import read_yaml

MAX_CELSIUS: Final = 150.0
# How long a check may take: its parts, each measured once, and what comes before them (a library, memory to fill).
MEASURED: Final = 3
BESIDE_S: Final = 60.0
_OF_SIGNS: Final = ("count", "window", "apart", "clear", "lifts")
_LIMITS: Final = Limits()
_ESCALATION: Final = Escalation()
_BUDGET: Final = Budget()
_CHECKS: Final = CheckSettings()


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise expected("true or false")
    return value


def _percent(value: object) -> float:
    text = value[:-1] if isinstance(value, str) and value.endswith("%") else None
    try:
        number = finite_number(float(text)) if text is not None else None
    except ValueError:
        number = None
    if number is None or not 0 <= number <= 100:
        raise expected('a share from 0% to 100%, such as "2%"')
    return number / 100


def _celsius(value: object) -> float:
    number = finite_number(value)
    if number is None or not 0 < number <= MAX_CELSIUS:
        raise expected(f"degrees Celsius, above 0 and at most {MAX_CELSIUS:g}")
    return number


def _pause(value: object) -> float:
    return 0.0 if value == 0 and not isinstance(value, bool) else duration()(value)


Flag = Annotated[bool, PlainValidator(_flag)]
Celsius = Annotated[float, PlainValidator(_celsius)]
Time = Annotated[float, PlainValidator(duration(low_s=1.0))]
Pause = Annotated[float, PlainValidator(_pause)]


class BudgetShape(Shape):
    share: Annotated[float, PlainValidator(_percent)] = _BUDGET.share
    nodes: Annotated[int, PlainValidator(whole(0, 1000))] = _BUDGET.nodes


class LimitsShape(Shape):
    stale_after: Time = _LIMITS.stale_after_s
    hot: Celsius = _LIMITS.hot_celsius
    cool: Celsius = _LIMITS.cool_celsius
    memory_hot: Celsius = _LIMITS.memory_hot_celsius
    memory_cool: Celsius = _LIMITS.memory_cool_celsius


class EscalationShape(Shape):
    bursts: Annotated[int, PlainValidator(whole(2, 1000))] = _ESCALATION.bursts
    window: Time = _ESCALATION.window_s
    burst: Time = _ESCALATION.burst_s
    resets: Annotated[int, PlainValidator(whole(1, 100))] = _ESCALATION.resets


class RuleShape(Shape):
    """What is left out is as the rule has it."""

    enabled: Flag | None = None
    report_only: Flag | None = None
    use: Annotated[str, PlainValidator(one_of(*Use))] | None = None
    jobs: Annotated[str, PlainValidator(one_of(*Jobs))] | None = None
    lifts: Annotated[str, PlainValidator(one_of(*Lifts))] | None = None
    count: Annotated[int, PlainValidator(whole(1, 1000))] | None = None
    window: Time | None = None
    apart: Pause | None = None
    clear: Pause | None = None


def _parts(value: object) -> tuple[Part, ...]:
    words = f"a list of {', '.join(Part)}, each once"
    if not isinstance(value, list) or not value or not set(map(str, value)) <= set(Part):
        raise expected(words)
    if len(set(value)) < len(value):
        raise expected(words)
    return tuple(Part(each) for each in value)


class ChecksShape(Shape):
    """Of idle devices; what each means is in scheduler.core.device_checks.CheckSettings."""

    enabled: Flag = True
    every: Annotated[float, PlainValidator(duration(low_s=600.0))] = _CHECKS.every_s
    idle: Annotated[float, PlainValidator(duration(low_s=30.0))] = _CHECKS.idle_s
    at_once: Annotated[int, PlainValidator(whole(1, 100_000))] = _CHECKS.at_once
    what: Annotated[tuple[Part, ...], PlainValidator(_parts)] = _CHECKS.parts
    failures: Annotated[int, PlainValidator(whole(1, 100))] = _CHECKS.failures
    slow: Annotated[float, PlainValidator(_percent)] = _CHECKS.slow_share
    likes: Annotated[int, PlainValidator(whole(1, 10_000))] = _CHECKS.likes
    measure: Annotated[float, PlainValidator(duration(low_s=0.5, high_s=600.0))] = _CHECKS.measure_s
    time_limit: Annotated[float, PlainValidator(duration(low_s=30.0))] = _CHECKS.time_limit_s
    cpu: Flag = _CHECKS.cpu


class HealthShape(Shape):
    """health.yaml."""

    report_only: Flag = False
    budget: BudgetShape = Field(default_factory=BudgetShape)
    limits: LimitsShape = Field(default_factory=LimitsShape)
    escalation: EscalationShape = Field(default_factory=EscalationShape)
    checks: ChecksShape = Field(default_factory=ChecksShape)
    rules: dict[str, RuleShape] = Field(default_factory=dict)


def check_health(file: HealthShape, own: Problems) -> None:
    """What must hold between its lines."""
    for name, told in file.rules.items():
        rule = DEFAULT_RULES.get(name)
        if rule is None:
            own.expected(f"rules.{name}", "a rule that there is", name, names=nearest(name, DEFAULT_RULES, count=3))
            continue
        if rule.signal is Signal.TOLD:
            for field in _OF_SIGNS:
                if getattr(told, field) is not None:
                    own.expected(f"rules.{name}.{field}", "nothing: no reading is a sign of it", getattr(told, field))
            continue
        count = rule.count if told.count is None else told.count
        window_s = rule.window_s if told.window is None else told.window
        apart_s = rule.apart_s if told.apart is None else told.apart
        if (count - 1) * apart_s > window_s:
            words = f"long enough for {count} signs that are {apart_s:g} s apart"
            own.expected(f"rules.{name}.window", words, f"{window_s:g} s")
        if (told.jobs or rule.jobs) == Jobs.MOVE and (told.use or rule.use) == Use.SCHEDULABLE:
            own.expected(
                f"rules.{name}.jobs", "keep or requeue, since the device goes on being given work", Jobs.MOVE.value
            )
    checks = file.checks
    if checks.time_limit < MEASURED * checks.measure + BESIDE_S:
        words = f"{MEASURED} times checks.measure and {BESIDE_S:g} s beside, so at least"
        own.expected("checks.time_limit", f"{words} {MEASURED * checks.measure + BESIDE_S:g} s", checks.time_limit)
    limits = file.limits
    for hot, cool in (("hot", "cool"), ("memory_hot", "memory_cool")):
        if getattr(limits, cool) > getattr(limits, hot):
            own.expected(f"limits.{cool}", f"at most limits.{hot}, {getattr(limits, hot):g}", getattr(limits, cool))


def health_policy(file: HealthShape) -> HealthPolicy:
    """Of a file that was checked."""
    limits = file.limits
    return HealthPolicy(
        rules=HealthRules(
            rules={name: _rule(rule, file.rules.get(name)) for name, rule in DEFAULT_RULES.items()},
            limits=Limits(limits.stale_after, limits.hot, limits.cool, limits.memory_hot, limits.memory_cool),
            escalation=Escalation(
                file.escalation.bursts, file.escalation.window, file.escalation.burst, file.escalation.resets
            ),
        ),
        budget=Budget(file.budget.share, file.budget.nodes),
        report_only=file.report_only,
        only_told=frozenset(name for name, told in file.rules.items() if told.report_only),
        checks=_checks(file.checks) if file.checks.enabled else None,
    )


def _checks(told: ChecksShape) -> CheckSettings:
    return CheckSettings(
        every_s=told.every,
        idle_s=told.idle,
        at_once=told.at_once,
        parts=told.what,
        failures=told.failures,
        slow_share=told.slow,
        likes=told.likes,
        measure_s=told.measure,
        time_limit_s=told.time_limit,
        cpu=told.cpu,
    )


def _rule(rule: Rule, told: RuleShape | None) -> Rule:
    if told is None:
        return rule
    given: Mapping[str, object] = {
        "enabled": told.enabled,
        "report_only": told.report_only,
        "use": None if told.use is None else Use(told.use),
        "jobs": None if told.jobs is None else Jobs(told.jobs),
        "lifts": None if told.lifts is None else Lifts(told.lifts),
        "count": told.count,
        "window_s": told.window,
        "apart_s": told.apart,
        "clear_s": told.clear,
    }
    return replace(rule, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def load_health(path: Path) -> HealthPolicy:
    """A health.yaml alone. Raises BadInput."""
    document = read_yaml(path)
    problems = Problems(str(path), document.lines)
    shape = validated(HealthShape, without_nulls(document.mapping()), problems)
    if shape is not None:
        check_health(shape, problems)
    raise_together([problems])
    assert shape is not None
    return health_policy(shape)
