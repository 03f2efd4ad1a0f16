"""What do a device's own counters say of a window? Energy, clocks, heat, memory errors and faults, once a second.

The readings are node_agent.devices': one source a process, read by one thread for all devices. Where node_agent is not
there, or no source knows the device, the window is unwatched, and the record says why; nothing is guessed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from benchmarks.protocol import Conditions
from benchmarks.work import DeviceWatch, Unwatched

if TYPE_CHECKING:
    from node_agent.devices.faults import FaultBook
    from node_agent.devices.quantities import Quantity
    from node_agent.devices.source import DeviceSource, Measured

INTERVAL_S = 1.0
# A driver that does not answer for so long is not waited for.
PATIENCE_S = 10.0


@dataclass(slots=True)
class _Seen:
    """One device's readings over one window, by quantity and in order."""

    readings: dict[Quantity, list[Measured]] = field(default_factory=dict)


class Watches:
    """Watches over the devices of one source. `close` when all windows are over."""

    def __init__(
        self, source: DeviceSource, *, interval_s: float = INTERVAL_S, now_s: Callable[[], float] = time.time
    ) -> None:
        from node_agent.devices.faults import FaultBook

        self._source = source
        self._interval_s = interval_s
        self._now_s = now_s
        self._devices = list(source.enumerate())
        self._driver = _driver(source)
        self._open: dict[str, _Seen] = {}
        self._faults: FaultBook = FaultBook()
        self._rounds = 0
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._look, name="bench-watch", daemon=True)
        self._thread.start()

    def of(self, uuid: str) -> DeviceWatch:
        known = next((d.uuid for d in self._devices if uuid.removeprefix("GPU-") == d.uuid.removeprefix("GPU-")), None)
        if known is None:
            return Unwatched(f"the {self._source.vendor} source does not know {uuid}")
        return _Watch(self, known)

    def models(self) -> dict[str, str]:
        """The catalogue's name of each device, by uuid."""
        return {device.uuid: device.model for device in self._devices}

    def close(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(PATIENCE_S)
        if not self._thread.is_alive():
            self._source.close()

    def _look(self) -> None:
        from node_agent.devices.quantities import Group

        groups = (Group.FAST, Group.CONDITION)
        while True:
            with self._changed:
                if self._ended:
                    return
                watching = bool(self._open)
            if watching:
                now_s = self._now_s()
                read = self._source.read(now_s, groups)
                self._faults.add(self._source.events(now_s), self._devices)
                with self._changed:
                    for uuid, seen in self._open.items():
                        counted = self._faults.readings(uuid, now_s)
                        for quantity, value in {**read.get(uuid, {}), **counted}.items():
                            seen.readings.setdefault(quantity, []).append(value)
            with self._changed:
                self._rounds += 1
                self._changed.notify_all()
                self._changed.wait(self._interval_s)

    def _another_round(self) -> bool:
        """Whether one that began after this call has ended in time."""
        with self._changed:
            wanted = self._rounds + 2
            self._changed.notify_all()
            until_s = time.monotonic() + PATIENCE_S
            while self._rounds < wanted:
                self._changed.notify_all()
                if not self._changed.wait(max(0.0, min(0.5, until_s - time.monotonic()))) and (
                    time.monotonic() >= until_s or not self._thread.is_alive()
                ):
                    return False
            return True

    def begin(self, uuid: str) -> None:
        """Waits for nothing: it is called at the start of a window. The first reading is taken at once."""
        with self._changed:
            self._open[uuid] = _Seen()
            self._changed.notify_all()

    def end(self, uuid: str) -> Conditions:
        answered = self._another_round()
        with self._changed:
            seen = self._open.pop(uuid)
        if not answered:
            return Conditions(driver=self._driver, note=f"the driver did not answer for {PATIENCE_S:g} s")
        return conditions_of(seen.readings, driver=self._driver)


class _Watch:
    def __init__(self, watches: Watches, uuid: str) -> None:
        self._watches = watches
        self._uuid = uuid

    def begin(self) -> None:
        self._watches.begin(self._uuid)

    def end(self) -> Conditions:
        return self._watches.end(self._uuid)


def conditions_of(readings: dict[Quantity, list[Measured]], *, driver: str | None = None) -> Conditions:
    """`readings`: by quantity, in order, the first and the last at the window's ends. Energy is the device's counter
    where it has one, else its power over time (trapezoids)."""
    from node_agent.devices.counters import Gained, gained
    from node_agent.devices.quantities import Quantity
    from node_agent.devices.source import Quality, Reading, Unavailable

    def of(quantity: Quantity) -> list[Reading]:
        return [one for one in readings.get(quantity, []) if isinstance(one, Reading)]

    def added(quantity: Quantity) -> float | None:
        found = readings.get(quantity, [])
        gain = gained(found[0], found[-1]) if len(found) > 1 else None
        return gain.value if isinstance(gain, Gained) else None

    def mean(values: Sequence[float]) -> float | None:
        return sum(values) / len(values) if values else None

    power = of(Quantity.POWER_WATTS)
    energy = added(Quantity.ENERGY_JOULES)
    over_s = 0.0 if len(power) < 2 else power[-1].at_s - power[0].at_s
    if energy is None and over_s > 0:
        energy = sum((b.at_s - a.at_s) * (a.value + b.value) / 2 for a, b in pairwise(power))
    held = [q for q in Quantity if q.startswith("held_by_")]
    rounds = max((len(readings.get(q, [])) for q in held), default=0)
    by_round = [[found[i] for q in held if i < len(found := readings.get(q, []))] for i in range(rounds)]
    told = [[r.value for r in one if isinstance(r, Reading)] for one in by_round]
    told = [values for values in told if values]
    ecc, faults = added(Quantity.ECC_UNCORRECTED_VOLATILE), added(Quantity.FAULTS)
    missing = [r.reason for r in readings.get(Quantity.POWER_WATTS, []) if isinstance(r, Unavailable)]
    simulated = any(r.quality is Quality.SIMULATED for r in power)
    return Conditions(
        energy_joules=energy,
        energy_quality=None if energy is None else "simulated" if simulated else "measured",
        mean_power_watts=mean([r.value for r in power]),
        mean_clock_megahertz=mean([r.value for r in of(Quantity.CLOCK_MEGAHERTZ)]),
        peak_temperature_celsius=max((r.value for r in of(Quantity.TEMPERATURE_CELSIUS)), default=None),
        held_back_share=mean([float(any(values)) for values in told]),
        ecc_uncorrected=None if ecc is None else round(ecc),
        faults=None if faults is None else round(faults),
        driver=driver,
        note=missing[0] if missing else None,
    )


def open_watches(vendor: str) -> Watches | str:
    """The source of this vendor's devices on this machine, or why there is none (a sentence)."""
    if vendor.lower() == "cpu":
        return "a CPU's energy and clocks are not read"
    try:
        from node_agent.devices.openers import adapters, open_here
        from node_agent.devices.source import DeviceSourceError
    except ImportError as error:
        return f"node_agent is not installed beside this ({error})"
    word = vendor.lower().replace(" ", "-")
    reasons = []
    for name, adapter in adapters().items():
        if adapter.vendor != word:
            continue
        try:
            adapter.require()
            return Watches(open_here(name, {}))
        except DeviceSourceError as error:
            reasons.append(str(error))
    return "; ".join(reasons) or f"no device source is known for {vendor}"


def _driver(source: DeviceSource) -> str | None:
    versions = source.topology().versions
    return versions.get("driver") or next(iter(versions.values()), None)
