"""Readings become facts by the names of quantities; what is not read is not known."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from node_agent.devices.source import Measured, Quality, Reading, Unavailable
from node_agent.health import Missing, Recovery
from node_agent.health.mapping import device_facts, round_of

NAMES = [
    "temperature_celsius",
    "held_by_power_cap",
    "held_by_hardware",
    "held_by_power_brake",
    "row_remap_pending",
    "row_remap_failed",
    "recovery_action",
    "vendor_health",
    "power_watts",
]


@dataclass(frozen=True)
class Told:
    uuid: str | None
    kind: str
    code: int | None
    text: str = ""
    at_s: float = 1.0


def read(**values: float) -> dict[str, Measured]:
    return {name: Reading(value, "count", 5.0, Quality.MEASURED) for name, value in values.items()}


def test_what_is_read_is_known() -> None:
    facts = device_facts(read(temperature_celsius=70, row_remap_pending=1, row_remap_failed=0, recovery_action=2))
    assert (facts.temperature_celsius, facts.row_remap_pending, facts.row_remap_failed) == (70, True, False)
    assert (facts.recovery, facts.read_at_s, facts.lost) == (Recovery.REBOOT, 5.0, False)
    assert facts.taken == dict.fromkeys(
        ("temperature_celsius", "row_remap_pending", "row_remap_failed", "recovery"), 5.0
    )
    assert isinstance(facts.throttled, Missing)
    assert isinstance(facts.vendor_health, Missing)


def test_a_power_cap_that_software_set_is_no_slowdown() -> None:
    assert device_facts(read(held_by_power_cap=1, held_by_hardware=0)).throttled is False
    assert device_facts(read(held_by_power_brake=1, held_by_hardware=0)).throttled is True


def test_a_lost_device_and_one_that_does_not_answer() -> None:
    lost = device_facts({"power_watts": Unavailable("device lost: it fell off the bus")})
    assert lost.lost is True
    silent = device_facts({"power_watts": Unavailable("the driver has not answered for 9 s")})
    assert isinstance(silent.lost, Missing)
    assert (silent.silent, silent.never_read) == ("the driver has not answered for 9 s", False)
    assert device_facts({}).never_read


def test_what_a_driver_tells_of_goes_to_its_device_or_else_to_the_node() -> None:
    seen = round_of(
        {"a": read(power_watts=1)}, ("a", "b"), [Told("a", "xid", 79), Told(None, "xid", 48), Told("b", "lost", None)]
    )
    assert [fault.code for fault in seen.devices["a"].faults] == [79]
    assert [fault.code for fault in seen.faults] == [48]
    assert isinstance(seen.expected_count, Missing)


@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        st.builds(Reading, st.floats(), st.just("count"), st.floats(0, 10), st.sampled_from(Quality))
        | st.builds(Unavailable, st.text(max_size=30)),
    )
)
def test_any_readings_make_facts(fields: dict[str, Measured]) -> None:
    facts = device_facts(fields)
    assert (facts.read_at_s is None) == (not any(isinstance(value, Reading) for value in fields.values()))
