"""How many faults did each device have? Events of several witnesses in, each fault once out.

The driver and the kernel's log tell of the same XID within moments of each other; it counts once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from node_agent.devices.quantities import Quantity
from node_agent.devices.source import Device, DeviceEvent, Measured, Quality, Unavailable, reading

SAME_WITHIN_S = 5.0
KEPT = 1000
COUNTED = ("xid", "lost")
NONE_YET = Unavailable("no fault was heard of yet", lasting=True)


class FaultBook:
    """Counts since it was begun. `take` gives every event once; the oldest are dropped when nobody takes them."""

    def __init__(self) -> None:
        self._untaken: deque[DeviceEvent] = deque(maxlen=KEPT)
        self._recent: dict[tuple[str, int | None], DeviceEvent] = {}
        self._counts: dict[str, int] = {}
        self._last: dict[str, DeviceEvent] = {}

    def add(self, events: Iterable[DeviceEvent], devices: Sequence[Device]) -> None:
        """`devices`: by which a place on PCI becomes a uuid; of a partitioned card, the card's."""
        places = {device.bus_id: device.card or device.uuid for device in devices if device.bus_id}
        for event in events:
            if event.uuid is None and event.bus_id in places:
                event = replace(event, uuid=places[event.bus_id])
            if not self._is_news(event):
                continue
            self._untaken.append(event)
            if event.uuid is not None and event.kind in COUNTED:
                self._counts[event.uuid] = self._counts.get(event.uuid, 0) + 1
                self._last[event.uuid] = event

    def _is_news(self, event: DeviceEvent) -> bool:
        """Not what another witness has just told."""
        key = (event.uuid or event.bus_id or "", event.code)
        before = self._recent.get(key)
        if before is not None and before.heard != event.heard and abs(event.at_s - before.at_s) <= SAME_WITHIN_S:
            return False
        self._recent[key] = event
        if len(self._recent) > KEPT:
            del self._recent[next(iter(self._recent))]
        return True

    def take(self) -> list[DeviceEvent]:
        taken = []
        while self._untaken:
            taken.append(self._untaken.popleft())
        return taken

    def readings(self, uuid: str, now_s: float, quality: Quality = Quality.MEASURED) -> Mapping[Quantity, Measured]:
        """The quantities of the group `events`."""
        last = self._last.get(uuid)
        return {
            Quantity.FAULTS: reading(Quantity.FAULTS, float(self._counts.get(uuid, 0)), now_s, quality),
            Quantity.LAST_FAULT: NONE_YET
            if last is None or last.code is None
            else reading(Quantity.LAST_FAULT, float(last.code), now_s, quality),
        }
