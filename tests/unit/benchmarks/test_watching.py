"""A device's own counters over a window, from sources that invent and sources that fail."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest

from benchmarks.protocol import Conditions
from benchmarks.watching import Watches, conditions_of, open_watches
from node_agent.devices.quantities import Group, Quantity
from node_agent.devices.source import Device, DeviceEvent, Measured, Quality, Topology, Unavailable, reading

CARD = Device(0, "GPU-1", "H100 SXM", "nvidia", 80 << 30, False, "GPU-1", bus_id="0000:01:00.0")


class Told:
    """A source whose counters grow with each look."""

    vendor = "nvidia"

    def __init__(self, events: Sequence[DeviceEvent] = (), *, ecc_each: int = 0, silent: bool = False) -> None:
        self.looks = 0
        self.closed = False
        self._events = list(events)
        self._ecc_each = ecc_each
        self._silent = silent

    def enumerate(self) -> Sequence[Device]:
        return [CARD]

    def read(self, now_s: float, groups: Collection[Group] | None = None) -> Mapping[str, Mapping[Quantity, Measured]]:
        self.looks += 1
        values = {
            Quantity.POWER_WATTS: 500.0,
            Quantity.ENERGY_JOULES: 1000.0 + 100.0 * self.looks,
            Quantity.CLOCK_MEGAHERTZ: 1700.0 + self.looks % 2 * 100,
            Quantity.TEMPERATURE_CELSIUS: 60.0,
            Quantity.ECC_UNCORRECTED_VOLATILE: float(self._ecc_each * self.looks),
            Quantity.HELD_BY_POWER_CAP: float(self.looks % 2),
        }
        if self._silent:
            return {"GPU-1": {q: Unavailable("not supported by this device") for q in values}}
        return {"GPU-1": {q: reading(q, v, now_s) for q, v in values.items()}}

    def events(self, now_s: float) -> Sequence[DeviceEvent]:
        if self.looks < 2:
            return ()
        told, self._events = self._events, []
        return told

    def topology(self) -> Topology:
        return Topology(1, 1, versions={"driver": "580.1"})

    def visibility(self, devices: Sequence[Device]) -> Mapping[str, str]:
        return {}

    def close(self) -> None:
        self.closed = True


def watched(source: Any, uuid: str = "GPU-1") -> Conditions:
    watches = Watches(source, interval_s=0.01)
    try:
        watch = watches.of(uuid)
        watch.begin()
        return watch.end()
    finally:
        watches.close()


def test_energy_clocks_and_heat_are_those_of_the_window() -> None:
    source = Told()
    seen = watched(source)
    assert source.closed
    assert seen.energy_joules is not None
    assert (seen.energy_joules % 100, seen.energy_joules >= 100) == (0, True)
    assert (seen.energy_quality, seen.mean_power_watts, seen.peak_temperature_celsius) == ("measured", 500.0, 60.0)
    assert 1700 <= (seen.mean_clock_megahertz or 0) <= 1800
    assert 0 <= (seen.held_back_share or 0) <= 1
    assert (seen.ecc_uncorrected, seen.faults, seen.driver) == (0, 0, "580.1")


def test_memory_errors_and_faults_of_the_window_are_counted() -> None:
    xid = DeviceEvent("GPU-1", "xid", 79, "fell off the bus", 1.0, "driver")
    seen = watched(Told([xid], ecc_each=1))
    assert (seen.faults, (seen.ecc_uncorrected or 0) >= 1) == (1, True)


def test_what_cannot_be_read_is_none_with_the_reason() -> None:
    seen = watched(Told(silent=True))
    assert (seen.energy_joules, seen.mean_clock_megahertz, seen.ecc_uncorrected) == (None, None, None)
    assert seen.note == "not supported by this device"
    assert "does not know GPU-2" in (watched(Told(), "GPU-2").note or "")


def test_energy_without_a_counter_is_power_over_time() -> None:
    power: list[Measured] = [reading(Quantity.POWER_WATTS, w, t) for t, w in ((0.0, 400.0), (1.0, 600.0), (3.0, 600.0))]
    assert conditions_of({Quantity.POWER_WATTS: power}).energy_joules == 500.0 + 1200.0
    made_up: list[Measured] = [reading(Quantity.POWER_WATTS, 1.0, t, Quality.SIMULATED) for t in (0.0, 1.0)]
    assert conditions_of({Quantity.POWER_WATTS: made_up}).energy_quality == "simulated"


@pytest.mark.parametrize("vendor", ["cpu", "nobody", "Huawei"])
def test_a_device_that_no_source_reads_is_unwatched_with_the_reason(vendor: str) -> None:
    assert isinstance(open_watches(vendor), str)
