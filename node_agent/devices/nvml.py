"""NVIDIA cards through NVML: which are there, how are they, and how is a process confined to some of them?

The only module that imports pynvml, and only when a source is opened. Devices are keyed by UUID, because NVML's order
is not CUDA's; `index` is NVML's order, and visibility names UUIDs. Every field is asked for on its own and fails on its
own: a card that fell off the bus answers `Unavailable("device lost: ...")` and hides no other.

What NVML's numbers mean: utilisation is the share of the last 1/6 to 1 s in which any kernel ran, not how busy the card
was; power is a 1 s average; energy counts from the load of the driver, so take differences and allow for resets.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from node_agent.devices.source import (
    Device,
    DeviceSourceError,
    Measured,
    Quality,
    Quantity,
    Reading,
    Unavailable,
)
from node_agent.devices.visibility import visible

# NVML's product names (without "NVIDIA ") that are one row of the hardware catalogue. Variants with other peaks (PCIe,
# NVL, 40 GB, laptop) are left out on purpose: they keep NVML's name rather than borrow a peak that is not theirs.
CATALOGUE_NAMES: Mapping[str, str] = {
    "A100-SXM4-80GB": "A100 SXM 80GB",
    "H100 80GB HBM3": "H100 SXM",
    "H200": "H200 SXM",
    "H20": "H20",
    "B200": "B200 SXM",
    "L40S": "L40S",
    "L20": "L20",
    "A10": "A10",
    "GeForce RTX 4090": "RTX 4090",
}

MILLI = 1e-3


def catalogue_name(nvml_name: str) -> str:
    """The catalogue's name of a card, or NVML's own where the catalogue has no such row."""
    name = " ".join(nvml_name.split())
    return CATALOGUE_NAMES.get(name.removeprefix("NVIDIA "), name)


def _text(value: str | bytes) -> str:
    """Older pynvml gives bytes, newer gives str."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


class NvmlDevices:
    """A device source over pynvml, or over any object with the same functions (tests pass a fake one)."""

    def __init__(self, nvml: Any = None) -> None:
        if nvml is None:
            try:
                nvml = importlib.import_module("pynvml")
            except ImportError as error:
                raise DeviceSourceError(
                    f"the Python module pynvml cannot be imported ({error}); install nvidia-ml-py"
                ) from error
        self._nvml = nvml
        # NVMLLibraryMismatchError is no NVMLError. AttributeError: an older pynvml lacks the function.
        mismatch = getattr(nvml, "NVMLLibraryMismatchError", None)
        self._errors: tuple[type[BaseException], ...] = (nvml.NVMLError, AttributeError)
        if mismatch is not None:
            self._errors += (mismatch,)
        self._handles: dict[str, Any] = {}  # by uuid, of every device ever seen: a lost one goes on being reported
        self._open = False
        try:
            nvml.nvmlInit()
        except self._errors as error:
            raise DeviceSourceError(self._init_message(error)) from error
        self._open = True

    def _init_message(self, error: BaseException) -> str:
        mismatch = getattr(self._nvml, "NVMLLibraryMismatchError", ())
        if mismatch and isinstance(error, mismatch):
            return (
                f"pynvml and the NVIDIA driver's library do not match ({error}); install the nvidia-ml-py of the driver"
            )
        return f"NVML cannot be used: {error}; on a node with NVIDIA cards check that nvidia-smi works"

    @property
    def vendor(self) -> str:
        return "nvidia"

    def enumerate(self) -> Sequence[Device]:
        """The cards that answer now. A card that does not is left out, and the others keep their index."""
        try:
            count = int(self._nvml.nvmlDeviceGetCount())
        except self._errors as error:
            raise DeviceSourceError(f"NVML does not say how many cards there are: {error}") from error
        found = []
        for index in range(count):
            try:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
                uuid = _text(self._nvml.nvmlDeviceGetUUID(handle))
                name = _text(self._nvml.nvmlDeviceGetName(handle))
            except self._errors:
                continue  # lost before or since: read() says so for cards that were seen once
            self._handles[uuid] = handle
            found.append(Device(index, uuid, catalogue_name(name), "nvidia", self._memory_bytes(handle), False, uuid))
        return found

    def _memory_bytes(self, handle: Any) -> int:
        """Total memory; 0 where the card does not say, which satisfies no demand for memory."""
        try:
            return int(self._nvml.nvmlDeviceGetMemoryInfo(handle).total)
        except self._errors:
            return 0

    def read(self, now_s: float) -> Mapping[str, Mapping[Quantity, Measured]]:
        return {uuid: self._read_device(handle, now_s) for uuid, handle in self._handles.items()}

    def _read_device(self, handle: Any, now_s: float) -> Mapping[Quantity, Measured]:
        nvml = self._nvml
        fields: Mapping[Quantity, tuple[str, Callable[[], float]]] = {
            Quantity.UTILISATION_PERCENT: ("percent", lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            Quantity.MEMORY_USED_BYTES: ("bytes", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used),
            Quantity.MEMORY_TOTAL_BYTES: ("bytes", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total),
            Quantity.POWER_WATTS: ("watts", lambda: nvml.nvmlDeviceGetPowerUsage(handle) * MILLI),
            Quantity.ENERGY_JOULES: ("joules", lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) * MILLI),
            Quantity.TEMPERATURE_CELSIUS: (
                "celsius",
                lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            ),
            Quantity.CLOCK_MEGAHERTZ: ("megahertz", lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
        }
        return {quantity: self._field(call, unit, now_s) for quantity, (unit, call) in fields.items()}

    def _field(self, call: Callable[[], float], unit: str, now_s: float) -> Measured:
        try:
            return Reading(float(call()), unit, now_s, Quality.MEASURED)
        except self._errors as error:
            return Unavailable(self._reason(error))

    def _reason(self, error: BaseException) -> str:
        code = getattr(error, "value", None)
        if code is not None and code == getattr(self._nvml, "NVML_ERROR_GPU_IS_LOST", object()):
            return f"device lost: {error}"
        if code is not None and code == getattr(self._nvml, "NVML_ERROR_NOT_SUPPORTED", object()):
            return "not supported by this device"
        return f"driver call failed: {error}"

    def visibility(self, devices: Sequence[Device]) -> Mapping[str, str]:
        return visible(self.vendor, [device.visible_id for device in devices])

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        try:
            self._nvml.nvmlShutdown()
        except self._errors:
            pass  # the process is about to let go of the library anyway
