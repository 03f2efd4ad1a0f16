"""May this device take new work? Readings and faults in, a verdict with its reason out. Pure.

The rows of the health policy that a reading alone can show: a device that is missing is cordoned; one whose readings
are all stale or absent gets no new work until it answers, nor does one that is too hot. Faults bring their own action.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from node_agent.devices.source import Measured, Quantity, Reading


class Action(StrEnum):
    """In rising severity."""

    SCHEDULABLE = "schedulable"
    NO_NEW_WORK = "no_new_work"  # running jobs go on
    CORDON = "cordon"  # running jobs fail over


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is a sentence for the operator; empty when there is nothing to say."""

    action: Action
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something reported about a device beside its readings (a driver event); `action` is what the policy says."""

    uuid: str
    action: Action
    text: str


@dataclass(frozen=True, slots=True)
class HealthLimits:
    """From when on a reading is stale, and from when on a device is too hot."""

    stale_after_s: float = 30.0
    over_temperature_celsius: float = 90.0


_SEVERITY = {action: rank for rank, action in enumerate(Action)}


def judge(
    expected: Sequence[str],
    readings: Mapping[str, Mapping[Quantity, Measured]],
    faults: Iterable[Fault],
    *,
    now_s: float,
    limits: HealthLimits | None = None,
) -> Mapping[str, Verdict]:
    """A verdict for every device in `expected` (uuids the node had when it joined) and every one that has readings."""
    limits = limits or HealthLimits()
    reported: dict[str, list[Fault]] = {}
    for fault in faults:
        reported.setdefault(fault.uuid, []).append(fault)
    uuids = list(dict.fromkeys([*expected, *readings]))
    return {uuid: _judge_device(uuid, readings.get(uuid), reported.get(uuid, ()), now_s, limits) for uuid in uuids}


def _judge_device(
    uuid: str,
    readings: Mapping[Quantity, Measured] | None,
    faults: Sequence[Fault],
    now_s: float,
    limits: HealthLimits,
) -> Verdict:
    verdicts = [Verdict(fault.action, fault.text) for fault in faults]
    if readings is None:
        verdicts.append(
            Verdict(Action.CORDON, f"device {uuid} is missing; reboot the node and check the card's seating")
        )
    else:
        verdicts.append(_judge_freshness(uuid, readings, now_s, limits))
        verdicts.append(_judge_temperature(uuid, readings, limits))
    return max(verdicts, key=lambda verdict: _SEVERITY[verdict.action])


def _judge_freshness(uuid: str, readings: Mapping[Quantity, Measured], now_s: float, limits: HealthLimits) -> Verdict:
    values = [value for value in readings.values() if isinstance(value, Reading)]
    if not values:
        reasons = sorted({value.reason for value in readings.values() if not isinstance(value, Reading)})
        if any(reason.startswith("device lost") for reason in reasons):
            return Verdict(Action.CORDON, f"device {uuid}: {reasons[0]}; reboot the node")
        return Verdict(Action.NO_NEW_WORK, f"device {uuid} gives no reading ({'; '.join(reasons) or 'none offered'})")
    age_s = now_s - max(value.at_s for value in values)
    if age_s > limits.stale_after_s:
        return Verdict(Action.NO_NEW_WORK, f"device {uuid} has not answered for {age_s:.0f} s")
    return Verdict(Action.SCHEDULABLE)


def _judge_temperature(uuid: str, readings: Mapping[Quantity, Measured], limits: HealthLimits) -> Verdict:
    reading = readings.get(Quantity.TEMPERATURE_CELSIUS)
    if isinstance(reading, Reading) and reading.value > limits.over_temperature_celsius:
        return Verdict(
            Action.NO_NEW_WORK,
            f"device {uuid} is at {reading.value:.0f} C, over its limit of {limits.over_temperature_celsius:.0f} C",
        )
    return Verdict(Action.SCHEDULABLE)
