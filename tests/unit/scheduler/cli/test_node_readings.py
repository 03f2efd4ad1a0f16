"""Of a card's many readings `suanli nodes NODE` shows those that a look at a node is for, and what is amiss."""

from __future__ import annotations

from scheduler.cli.nodes import _readings


def measured(value: float, unit: str) -> dict[str, object]:
    return {"value": value, "unit": unit, "at_s": 1.0, "quality": "measured"}


def test_what_is_well_is_not_told_at_length() -> None:
    readings = {
        "power_watts": measured(412.0, "watts"),
        "temperature_celsius": {"unavailable": "device lost"},
        "ecc_corrected_volatile": measured(7.0, "count"),
        "held_by_power_cap": measured(1.0, "flag"),
        "row_remap_pending": measured(0.0, "flag"),
        "recovery_action": {"unavailable": "device lost"},
    }
    assert _readings(readings) == "power 412 watts; no temperature: device lost"


def test_what_is_amiss_is_told() -> None:
    readings = {
        "power_watts": measured(412.0, "watts"),
        "row_remap_pending": measured(1.0, "flag"),
        "faults": measured(2.0, "count"),
        "last_fault": measured(79.0, "code"),
    }
    assert _readings(readings) == "power 412 watts; row remap pending: 1; faults: 2; last fault: 79"


def test_a_counter_of_many_digits_is_no_power_of_ten() -> None:
    assert _readings({"energy_joules": measured(123_456_789.4, "joules")}) == "energy 123,456,789 joules"
