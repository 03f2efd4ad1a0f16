"""What did NVIDIA's driver tell of by itself? XIDs, and cards that ask to be recovered, from NVML's event set.

Nothing waits: a round takes what is there, and at most so many that a storm of them cannot hold it up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node_agent.devices.nvml_reading import Drivers, place_of
from node_agent.devices.source import DeviceEvent

AT_MOST = 64
# nvmlEventType*: name, our kind, and what it says.
KINDS: Mapping[str, tuple[str, str]] = {
    "nvmlEventTypeXidCriticalError": ("xid", "XID {code}"),
    "nvmlEventTypeDramRetirementFailure": ("vendor", "a row of memory could not be retired"),
    "nvmlEventTypeGpuUnavailableError": ("lost", "the driver says that the card is unavailable"),
    "nvmlEventTypeGpuRecoveryAction": ("recovery", "the driver asks for recovery action {code}"),
}


class NvmlEvents:
    """Registers cards once each, by uuid. `notes` says what cannot be listened to."""

    def __init__(self, drivers: Drivers) -> None:
        self._drivers = drivers
        self._kinds = {
            int(getattr(drivers.nvml, name)): told for name, told in KINDS.items() if hasattr(drivers.nvml, name)
        }
        self._set: Any = None
        self._registered: dict[str, int | None] = {}  # uuid: where the driver keeps the card
        self.notes: tuple[str, ...] = ()

    def register(self, cards: Mapping[str, Any]) -> None:
        """`cards`: handle by uuid. A card that takes no registration is one that is heard of by the kernel's log."""
        new = {uuid: handle for uuid, handle in cards.items() if uuid not in self._registered}
        if not new or not self._kinds:
            return
        nvml = self._drivers.nvml
        try:
            if self._set is None:
                self._set = nvml.nvmlEventSetCreate()
        except self._drivers.errors as error:
            self.notes = (f"the driver does not tell of faults by itself ({error}); the kernel's log is read",)
            return
        refused = []
        for uuid, handle in new.items():
            self._registered[uuid] = place_of(handle)
            try:
                wanted = sum(self._kinds) & int(nvml.nvmlDeviceGetSupportedEventTypes(handle))
                if wanted:
                    nvml.nvmlDeviceRegisterEvents(handle, wanted, self._set)
                else:
                    refused.append(uuid)
            except self._drivers.errors:
                refused.append(uuid)
        if refused:
            self.notes = (f"the driver tells nothing by itself of {', '.join(refused)}; the kernel's log is read",)

    def heard(self, now_s: float) -> list[DeviceEvent]:
        found: list[DeviceEvent] = []
        while self._set is not None and len(found) < AT_MOST:
            try:
                data = self._drivers.nvml.nvmlEventSetWait_v2(self._set, 0)
            except self._drivers.errors:
                break  # none, or none any more
            kind, text = self._kinds.get(int(data.eventType), ("vendor", f"event {int(data.eventType):#x}"))
            code = int(data.eventData)
            found.append(DeviceEvent(self._uuid(data.device), kind, code, text.format(code=code), now_s, "driver"))
        return found

    def _uuid(self, handle: Any) -> str | None:
        place = place_of(handle)
        for uuid, known in self._registered.items():
            if known is not None and known == place:
                return uuid
        try:
            uuid = self._drivers.nvml.nvmlDeviceGetUUID(handle)
            return uuid.decode("utf-8", "replace") if isinstance(uuid, bytes) else str(uuid)
        except self._drivers.errors:
            return None

    def close(self) -> None:
        if self._set is not None:
            try:
                self._drivers.nvml.nvmlEventSetFree(self._set)
            except self._drivers.errors:
                pass  # the library is about to be let go of anyway
            self._set = None
            self._registered = {}
