"""How is one card, by NVML? Its readings in the schema, each asked for and failing on its own.

Told apart are a card that fell off the bus or must be reset (then nothing more is asked of it), what this card never
has, and what failed just now.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from node_agent.devices.nvml_activity import METRICS, ActivityMeter
from node_agent.devices.nvml_fields import HELD_BITS, MILLI, Batch, batches, first_of_each, no_value
from node_agent.devices.quantities import Group, Quantity, asked_for
from node_agent.devices.source import NOT_SUPPORTED, Measured, Quality, Reading, Unavailable, reading

LINKS_AT_MOST = 36
NOT_UNDER_MIG = Unavailable("not offered while the card is partitioned (MIG)", lasting=True)
NOT_OF_INSTANCE = Unavailable("not offered for a MIG instance", lasting=True)


class Gone(Exception):
    """The card does not answer any more; the message says how."""


def place_of(handle: Any) -> int | None:
    """The driver's address of a card: handles of one card are different objects with the same address."""
    try:
        return ctypes.cast(handle, ctypes.c_void_p).value
    except (ctypes.ArgumentError, TypeError):
        return None


class Drivers(NamedTuple):
    """pynvml, and what its functions raise."""

    nvml: Any
    errors: tuple[type[BaseException], ...]

    def code(self, name: str) -> object:
        return getattr(self.nvml, name, None)

    def reason(self, error: BaseException) -> Unavailable:
        """Raises Gone where the error says so."""
        return self._told(getattr(error, "value", None), str(error))

    def of_code(self, code: int) -> Unavailable:
        """Of a field that failed by itself. Raises Gone."""
        try:
            text = str(self.nvml.NVMLError(code))
        except Exception:  # a code that this pynvml does not know
            text = f"NVML error {code}"
        return self._told(code, text)

    def _told(self, code: object, text: str) -> Unavailable:
        if code is None:
            return Unavailable(f"driver call failed: {text}")
        if code == self.code("NVML_ERROR_GPU_IS_LOST"):
            raise Gone(f"device lost: {text}")
        if code == self.code("NVML_ERROR_RESET_REQUIRED"):
            raise Gone(f"device must be reset: {text}")
        if code == self.code("NVML_ERROR_NOT_SUPPORTED"):
            return NOT_SUPPORTED
        if code == self.code("NVML_ERROR_FUNCTION_NOT_FOUND"):
            return Unavailable("this driver does not have it", lasting=True)
        return Unavailable(f"driver call failed: {text}")


class CardReader:
    """Of one card, or of one instance of a partitioned one. Makes no call that does not belong to an asked group."""

    def __init__(self, drivers: Drivers, handle: Any, *, partitioned: bool = False, instance: bool = False) -> None:
        self._drivers = drivers
        self._nvml = drivers.nvml
        self._handle = handle
        self._partitioned = partitioned
        self._instance = instance
        self._batches: Mapping[Group, Batch] | None = None
        self._meter: ActivityMeter | Unavailable | None = None
        self._links: int | None = None

    def read(self, now_s: float, groups: Collection[Group] | None) -> dict[Quantity, Measured]:
        quantities = asked_for(groups)
        found: dict[Quantity, Measured] = {}
        answered = _Answers(found, now_s, self._drivers)
        try:
            if self._instance:
                self._read_instance(answered, groups)
            else:
                for group, ask in (
                    (Group.FAST, self._fast),
                    (Group.LINKS, self._traffic),
                    (Group.CONDITION, self._sound),
                ):
                    if groups is None or group in groups:
                        ask(answered)
        except Gone as gone:
            return dict.fromkeys(quantities, Unavailable(str(gone)))
        rest = NOT_OF_INSTANCE if self._instance else NOT_SUPPORTED
        return {quantity: found.get(quantity, rest) for quantity in quantities}

    # ---- groups ----------------------------------------------------------------------------------------------------

    def _fast(self, answered: _Answers) -> None:
        nvml, handle = self._nvml, self._handle
        self._batch(answered, Group.FAST)
        answered.call(Quantity.POWER_WATTS, lambda: nvml.nvmlDeviceGetPowerUsage(handle), MILLI)
        answered.call(Quantity.ENERGY_JOULES, lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle), MILLI)
        answered.call(
            Quantity.TEMPERATURE_CELSIUS, lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
        )
        answered.call(Quantity.CLOCK_MEGAHERTZ, lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
        answered.call(Quantity.MEMORY_CLOCK_MEGAHERTZ, lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM))
        answered.calls(HELD_BITS, self._held)
        self._memory(answered)
        if self._partitioned:
            answered.set(Quantity.UTILISATION_PERCENT, NOT_UNDER_MIG)
            for quantity in METRICS:
                answered.set(quantity, NOT_UNDER_MIG)
        else:
            answered.call(Quantity.UTILISATION_PERCENT, lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
            self._activity(answered)

    def _traffic(self, answered: _Answers) -> None:
        self._batch(answered, Group.LINKS)
        answered.call(Quantity.PCIE_REPLAYS, lambda: self._nvml.nvmlDeviceGetPcieReplayCounter(self._handle))
        self._processes(answered)

    def _sound(self, answered: _Answers) -> None:
        nvml, handle = self._nvml, self._handle
        self._batch(answered, Group.CONDITION)
        answered.call(Quantity.POWER_LIMIT_WATTS, lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle), MILLI)
        for quantity, kind, counter in (
            (Quantity.ECC_CORRECTED_VOLATILE, 0, 0),
            (Quantity.ECC_UNCORRECTED_VOLATILE, 1, 0),
            (Quantity.ECC_CORRECTED_AGGREGATE, 0, 1),
            (Quantity.ECC_UNCORRECTED_AGGREGATE, 1, 1),
        ):
            answered.call(quantity, self._ecc(kind, counter))
        answered.calls(
            (
                Quantity.ROWS_REMAPPED_CORRECTED,
                Quantity.ROWS_REMAPPED_UNCORRECTED,
                Quantity.ROW_REMAP_PENDING,
                Quantity.ROW_REMAP_FAILED,
            ),
            lambda: nvml.nvmlDeviceGetRemappedRows(handle),
        )
        answered.call(Quantity.LINKS_UP, self._links_up)

    def _ecc(self, kind: int, counter: int) -> Callable[[], float]:
        def ask() -> float:
            return float(self._nvml.nvmlDeviceGetTotalEccErrors(self._handle, kind, counter))

        return ask

    def _read_instance(self, answered: _Answers, groups: Collection[Group] | None) -> None:
        """An instance has memory and processes of its own; power, heat and clocks are the card's."""
        if groups is None or Group.FAST in groups:
            self._memory(answered)
        if groups is None or Group.LINKS in groups:
            self._processes(answered)

    # ---- calls with an answer for several quantities -----------------------------------------------------------------

    def _batch(self, answered: _Answers, group: Group) -> None:
        if self._batches is None:
            self._batches = batches(self._nvml, self._link_count())
        fields, ids = self._batches[group]
        if not ids:
            return
        try:
            answers = self._nvml.nvmlDeviceGetFieldValues(self._handle, ids)
        except self._drivers.errors as error:  # every one of them failed
            why = self._drivers.reason(error)
            for field in fields:
                answered.set(field.quantity, why)
            return
        for quantity, value in first_of_each(fields, answers).items():
            answered.tell(quantity, value)

    def _memory(self, answered: _Answers) -> None:
        """By version 2, which counts what the driver keeps apart; else by version 1, which counts it as used."""
        nvml, handle = self._nvml, self._handle
        three = (Quantity.MEMORY_TOTAL_BYTES, Quantity.MEMORY_USED_BYTES, Quantity.MEMORY_RESERVED_BYTES)

        def apart() -> tuple[int, int, int]:
            memory = nvml.nvmlDeviceGetMemoryInfo(handle, nvml.nvmlMemory_v2)
            return memory.total, memory.used, memory.reserved

        def together() -> tuple[int, int]:
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            return memory.total, memory.used

        answered.calls(three, apart)
        answered.calls(three[:2], together)

    def _held(self) -> Iterable[float]:
        try:
            bits = int(self._nvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle))
        except self._drivers.errors as error:
            self._drivers.reason(error)  # a card that is gone is not asked again
            bits = int(self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle))  # its name before 2023
        return [float(bool(bits & mask)) for mask in HELD_BITS.values()]

    def _processes(self, answered: _Answers) -> None:
        nvml, handle = self._nvml, self._handle
        answered.call(Quantity.PROCESSES, lambda: len(nvml.nvmlDeviceGetComputeRunningProcesses(handle)))

    def _links_up(self) -> float:
        """Links that a card has not are invalid to ask for; where it has none at all, that is its answer."""
        up, count = 0, LINKS_AT_MOST if self._links is None else self._links
        for link in range(count):
            try:
                up += int(self._nvml.nvmlDeviceGetNvLinkState(self._handle, link)) == 1
            except self._drivers.errors as error:
                if link == 0:
                    raise
                self._drivers.reason(error)
                self._links = link
                break
        return float(up)

    def _link_count(self) -> int:
        """How many NVLinks the card has, up or not; 0 where it has none, or does not say."""
        if self._links is None:
            try:
                self._links_up()
            except self._drivers.errors as error:
                self._drivers.reason(error)
                return 0
        return LINKS_AT_MOST if self._links is None else self._links

    def _activity(self, answered: _Answers) -> None:
        try:
            if self._meter is None:
                meter = ActivityMeter(self._nvml, self._handle)
                self._meter = meter if meter.supported else NOT_SUPPORTED
            if isinstance(self._meter, Unavailable):
                found: Mapping[Quantity, float | int | str | Unavailable] = dict.fromkeys(METRICS, self._meter)
            else:
                found = self._meter.read()
        except self._drivers.errors as error:
            why = self._drivers.reason(error)
            if why.lasting and self._meter is None:
                self._meter = why
            found = dict.fromkeys(METRICS, why)
        for quantity, value in found.items():
            if isinstance(value, Unavailable):
                answered.set(quantity, value)
            else:
                answered.tell(quantity, value)

    def close(self) -> None:
        if isinstance(self._meter, ActivityMeter):
            try:
                self._meter.close()
            except self._drivers.errors:
                pass  # the card is gone, and its samples with it
        self._meter = None


class _Answers:
    """What was found so far. A quantity that has a reading keeps it, so a later call is only a second try."""

    def __init__(self, found: dict[Quantity, Measured], now_s: float, drivers: Drivers) -> None:
        self._found = found
        self._now_s = now_s
        self._drivers = drivers

    def has(self, quantity: Quantity) -> bool:
        return isinstance(self._found.get(quantity), Reading)

    def set(self, quantity: Quantity, why: Unavailable) -> None:
        """The last try tells, unless it is only that this driver has no such call."""
        before = self._found.get(quantity)
        if before is None or (isinstance(before, Unavailable) and (before.lasting or not why.lasting)):
            self._found[quantity] = why

    def tell(self, quantity: Quantity, value: float | int | str) -> None:
        """A value (float), a return code (int) or a sentence."""
        if isinstance(value, str):
            self.set(quantity, Unavailable(value))
        elif isinstance(value, int):
            self.set(quantity, self._drivers.of_code(value))
        elif not self.has(quantity):
            self._found[quantity] = reading(quantity, value, self._now_s, Quality.MEASURED)

    def call(self, quantity: Quantity, ask: Callable[[], float], scale: float = 1.0) -> None:
        self.calls((quantity,), lambda: (ask(),), scale)

    def calls(self, quantities: Iterable[Quantity], ask: Callable[[], Iterable[float]], scale: float = 1.0) -> None:
        """One call for several quantities, made only where one of them is missing."""
        names = tuple(quantities)
        if all(self.has(name) for name in names):
            return
        try:
            for name, value in zip(names, ask(), strict=True):
                self.tell(name, "the driver has no value" if no_value(value) else float(value) * scale)
        except self._drivers.errors as error:
            why = self._drivers.reason(error)
            for name in names:
                self.set(name, why)
