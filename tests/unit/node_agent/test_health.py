"""Verdicts over a table of readings and faults."""

from __future__ import annotations

import pytest

from node_agent.devices.source import Measured, Quality, Quantity, Reading, Unavailable
from node_agent.health import Action, Fault, judge

NOW_S = 1000.0


def at(age_s: float, celsius: float = 50.0) -> dict[Quantity, Measured]:
    temperature = Reading(celsius, "celsius", NOW_S - age_s, Quality.MEASURED)
    return {Quantity.TEMPERATURE_CELSIUS: temperature, Quantity.POWER_WATTS: Unavailable("not supported")}


LOST: dict[Quantity, Measured] = {Quantity.POWER_WATTS: Unavailable("device lost: it fell off the bus")}
SILENT: dict[Quantity, Measured] = {Quantity.POWER_WATTS: Unavailable("the driver has not answered for 9 s")}


@pytest.mark.parametrize(
    ("readings", "faults", "action", "said"),
    [
        ({"d": at(1)}, [], Action.SCHEDULABLE, ""),
        ({}, [], Action.CORDON, "missing"),
        ({"d": at(31)}, [], Action.NO_NEW_WORK, "31 s"),
        ({"d": at(30)}, [], Action.SCHEDULABLE, ""),
        ({"d": at(1, celsius=91)}, [], Action.NO_NEW_WORK, "91 C"),
        ({"d": LOST}, [], Action.CORDON, "fell off the bus"),
        ({"d": SILENT}, [], Action.NO_NEW_WORK, "9 s"),
        ({"d": at(1)}, [Fault("d", Action.CORDON, "XID 79")], Action.CORDON, "XID 79"),
        ({"d": at(1)}, [Fault("other", Action.CORDON, "XID 79")], Action.SCHEDULABLE, ""),
        ({"d": at(1, celsius=95)}, [Fault("d", Action.SCHEDULABLE, "XID 45")], Action.NO_NEW_WORK, "95 C"),
    ],
)
def test_verdict(readings: dict[str, dict[Quantity, Measured]], faults: list[Fault], action: Action, said: str) -> None:
    verdict = judge(["d"], readings, faults, now_s=NOW_S)["d"]
    assert verdict.action is action
    assert said in verdict.reason
