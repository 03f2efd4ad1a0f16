"""NVIDIA cards through NVML: which are there, how are they, and how is a process confined to some of them?

The only module that imports pynvml, and only when a source is opened. Devices are keyed by UUID, because NVML's order
is not CUDA's; `index` is NVML's order, and visibility names UUIDs. Every field is asked for on its own and fails on its
own: a card that fell off the bus answers `Unavailable("device lost: ...")` and hides no other. A partitioned card (MIG)
is no device: its instances are, and the card goes on being read beside them.

What NVML's numbers mean: utilisation is the share of the last 1/6 to 1 s in which any kernel ran, not how busy the card
was; power is a 1 s average, which on A100 and H100 covers a quarter of the time; energy counts from the load of the
driver, so take differences (`counters.gained`).

Makers of other cards ship the same library under another name (`library`), which is then driven by a copy of pynvml.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from node_agent.devices import nvml_topology
from node_agent.devices.nvml_events import NvmlEvents
from node_agent.devices.nvml_reading import CardReader, Drivers, place_of
from node_agent.devices.source import (
    Device,
    DeviceEvent,
    DeviceProcess,
    DeviceSourceError,
    Group,
    Link,
    Measured,
    Quantity,
    Topology,
    Unavailable,
)
from node_agent.devices.visibility import visible

LIBRARY = "libnvidia-ml.so.1"

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
MIG_NAME = re.compile(r"^(?P<card>.+?) MIG (?P<profile>\S+)$")
INSTANCES_AT_MOST = 16


def catalogue_name(nvml_name: str) -> str:
    """The catalogue's name of a card, or NVML's own where the catalogue has no such row."""
    name = " ".join(nvml_name.split())
    return CATALOGUE_NAMES.get(name.removeprefix("NVIDIA "), name)


def library_there(library: str = LIBRARY) -> bool:
    """Whether the loader finds the library. It is not initialised: no driver is asked anything. Raises
    DeviceSourceError where it is there and cannot be loaded."""
    try:
        ctypes.CDLL(library)
    except OSError as error:
        if "No such file" in str(error):
            return False
        raise DeviceSourceError(f"{library} cannot be loaded: {error}") from None
    return True


def open_pynvml(library: str = LIBRARY) -> ModuleType:
    """pynvml over NVIDIA's library, or a copy of it over another one with the same functions.

    Raises DeviceSourceError where there is no pynvml, or no such library.
    """
    try:
        if library == LIBRARY:
            return importlib.import_module("pynvml")
        spec = importlib.util.find_spec("pynvml")
        if spec is None or spec.loader is None:
            raise ImportError("No module named 'pynvml'")
        nvml = importlib.util.module_from_spec(spec)
        sys.modules[f"pynvml over {library}"] = nvml
        kept = sys.modules.get("pynvml")
        sys.modules["pynvml"] = nvml  # it looks itself up by its name while it is loaded
        try:
            spec.loader.exec_module(nvml)
        finally:
            if kept is None:
                del sys.modules["pynvml"]
            else:
                sys.modules["pynvml"] = kept
        nvml.__dict__["nvmlLib"] = ctypes.CDLL(library)
        return nvml
    except ImportError as error:
        raise DeviceSourceError(
            f"the Python module pynvml cannot be imported ({error}); install nvidia-ml-py"
        ) from error
    except OSError as error:
        raise DeviceSourceError(f"{library} cannot be loaded ({error}); install its maker's driver") from error


def _text(value: str | bytes) -> str:
    """Older pynvml gives bytes, newer gives str."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


@dataclass(slots=True)
class _Card:
    """A card, or an instance `of` one, that was seen once. `lost`: NVML did not name it when last asked."""

    handle: Any
    reader: CardReader
    partitioned: bool = False
    of: str | None = None
    lost: bool = False


@dataclass(slots=True)
class _Seen:
    """What one look at the cards found: whole cards by uuid, in order, with the instances of those that have some."""

    cards: dict[str, Any] = field(default_factory=dict)
    devices: list[Device] = field(default_factory=list)


class NvmlDevices:
    """A device source over pynvml, or over any object with the same functions (tests pass a fake one).

    `expected`: how many cards the node must have, where the driver's own list does not say it; None: as many as it ever
    had. `name_of` gives the catalogue's name of a card.
    """

    def __init__(
        self,
        nvml: Any = None,
        *,
        vendor: str = "nvidia",
        library: str = LIBRARY,
        expected: int | None = None,
        name_of: Callable[[str], str] = catalogue_name,
        drivers_list: Path = nvml_topology.DRIVERS_LIST,
        notes: Sequence[str] = (),
    ) -> None:
        if nvml is None:
            nvml = open_pynvml(library)
        self._nvml = nvml
        self._vendor = vendor
        self._expected = expected
        self._name_of = name_of
        self._drivers_list = drivers_list
        self._own_notes = tuple(notes)
        # NVMLLibraryMismatchError is no NVMLError. AttributeError: an older pynvml lacks the function.
        mismatch = getattr(nvml, "NVMLLibraryMismatchError", None)
        self._errors: tuple[type[BaseException], ...] = (nvml.NVMLError, AttributeError)
        if mismatch is not None:
            self._errors += (mismatch,)
        self._drivers = Drivers(nvml, self._errors)
        self._seen: dict[str, _Card] = {}  # every one that was ever seen: a lost one goes on being reported
        self._widths: dict[int, int] = {}  # by card's place: how many indices its instances have, while it has any
        self._most = 0
        self._links: tuple[frozenset[str], tuple[Link, ...]] = (frozenset(), ())
        self._events = NvmlEvents(self._drivers)
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
        changed = self._drivers.code("NVML_ERROR_LIB_RM_VERSION_MISMATCH")
        if changed is not None and getattr(error, "value", None) == changed:
            return (
                f"the driver in the kernel and its library are of different versions ({error}), as after an update;"
                " reboot the node, or load the driver anew"
            )
        return f"NVML cannot be used: {error}; on a node with NVIDIA cards check that nvidia-smi works"

    @property
    def vendor(self) -> str:
        return self._vendor

    # ---- which are there -------------------------------------------------------------------------------------------

    def enumerate(self) -> Sequence[Device]:
        """The cards that answer now. A card that does not is left out, and the others keep their index."""
        try:
            count = int(self._nvml.nvmlDeviceGetCount())
        except self._errors as error:
            raise DeviceSourceError(f"NVML does not say how many cards there are: {error}") from error
        seen = _Seen()
        first = 0
        for place in range(count):
            self._look_at(place, first, seen)
            first += max(1, self._widths.get(place, 1))
        there = {*seen.cards, *(device.uuid for device in seen.devices)}
        for uuid, card in list(self._seen.items()):
            card.lost = uuid not in there
            if card.lost and card.of in seen.cards:  # an instance that was taken away from a card that is well
                card.reader.close()
                del self._seen[uuid]
        self._most = max(self._most, len(seen.cards), count)
        self._events.register(seen.cards)
        if self._links[0] != frozenset(seen.cards):
            self._links = (frozenset(seen.cards), nvml_topology.links(self._drivers, seen.cards))
        island = nvml_topology.islands(list(seen.cards), self._links[1])
        return [replace(device, island=island.get(device.card or device.uuid)) for device in seen.devices]

    def _look_at(self, place: int, index: int, seen: _Seen) -> None:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(place)
            uuid = _text(nvml.nvmlDeviceGetUUID(handle))
            name = self._name_of(_text(nvml.nvmlDeviceGetName(handle)))
        except self._errors:
            return  # lost before or since: read() says so for cards that were seen once
        bus_id = self._bus_id(handle)
        partitioned = self._partitioned(handle)
        seen.cards[uuid] = handle
        self._know(uuid, handle, partitioned=partitioned)
        if not partitioned:
            self._widths.pop(place, None)
            memory_bytes = self._memory_bytes(handle)
            seen.devices.append(
                Device(index, uuid, name, self._vendor, memory_bytes, False, self._visible(index, uuid), bus_id=bus_id)
            )
            return
        self._widths[place] = width = self._instances_at_most(handle)
        for number in range(width):
            try:
                instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
                its_uuid = _text(nvml.nvmlDeviceGetUUID(instance))
                named = MIG_NAME.match(_text(nvml.nvmlDeviceGetName(instance)))
            except self._errors:
                continue  # no instance there
            self._know(its_uuid, instance, of=uuid)
            seen.devices.append(
                Device(
                    index + number,
                    its_uuid,
                    name,
                    self._vendor,
                    self._memory_bytes(instance),
                    False,
                    self._visible(index + number, its_uuid),
                    mig_profile=named["profile"] if named else "unknown",
                    card=uuid,
                    bus_id=bus_id,
                )
            )

    def _visible(self, index: int, uuid: str) -> str:
        """NVIDIA's variable takes uuids, those of the others take numbers."""
        return uuid if self._vendor == "nvidia" else str(index)

    def _know(self, uuid: str, handle: Any, *, partitioned: bool = False, of: str | None = None) -> None:
        known = self._seen.get(uuid)
        place = place_of(handle)
        same = known is not None and (known.handle is handle or (place is not None and place_of(known.handle) == place))
        if known is not None and same and known.partitioned == partitioned:
            return
        if known is not None:
            known.reader.close()
        reader = CardReader(self._drivers, handle, partitioned=partitioned, instance=of is not None)
        self._seen[uuid] = _Card(handle, reader, partitioned, of)

    def _partitioned(self, handle: Any) -> bool:
        try:
            return int(self._nvml.nvmlDeviceGetMigMode(handle)[0]) == 1
        except self._errors:
            return False  # a card that cannot be partitioned says that it does not support the question

    def _instances_at_most(self, handle: Any) -> int:
        try:
            return max(1, min(INSTANCES_AT_MOST, int(self._nvml.nvmlDeviceGetMaxMigDeviceCount(handle))))
        except self._errors:
            return 1

    def _bus_id(self, handle: Any) -> str | None:
        """As the kernel writes it: `0000:3b:00.0`."""
        try:
            text = _text(self._nvml.nvmlDeviceGetPciInfo(handle).busId).lower()
        except self._errors:
            return None
        domain, colon, rest = text.partition(":")
        return f"{domain[-4:]}:{rest}" if colon else None

    def _memory_bytes(self, handle: Any) -> int:
        """Total memory; 0 where the card does not say, which satisfies no demand for memory."""
        try:
            return int(self._nvml.nvmlDeviceGetMemoryInfo(handle).total)
        except self._errors:
            return 0

    # ---- how are they ----------------------------------------------------------------------------------------------

    def read(self, now_s: float, groups: Collection[Group] | None = None) -> Mapping[str, Mapping[Quantity, Measured]]:
        return {uuid: card.reader.read(now_s, groups) for uuid, card in self._seen.items()}

    def events(self, now_s: float) -> Sequence[DeviceEvent]:
        return self._events.heard(now_s)

    def topology(self) -> Topology:
        there = {uuid: card for uuid, card in self._seen.items() if not card.lost}
        cards = [uuid for uuid in there if uuid in self._links[0]]
        users: dict[str, tuple[DeviceProcess, ...] | Unavailable] = {
            uuid: nvml_topology.processes(self._drivers, card.handle) for uuid, card in there.items()
        }
        return Topology(
            found=len(cards),
            expected=max(self._expected or 0, self._most, nvml_topology.bound_cards(self._drivers_list)),
            missing=tuple(uuid for uuid, card in self._seen.items() if card.lost),
            versions=self._versions(),
            links=self._links[1],
            processes=users,
            notes=(*self._own_notes, *self._events.notes),
        )

    def _versions(self) -> dict[str, str]:
        found = {}
        for name, call in (("driver", "nvmlSystemGetDriverVersion"), ("library", "nvmlSystemGetNVMLVersion")):
            try:
                found[name] = _text(getattr(self._nvml, call)())
            except self._errors:
                continue
        return found

    def visibility(self, devices: Sequence[Device]) -> Mapping[str, str]:
        return visible(self._vendor, [device.visible_id for device in devices])

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._events.close()
        for card in self._seen.values():
            card.reader.close()
        try:
            self._nvml.nvmlShutdown()
        except self._errors:
            pass  # the process is about to let go of the library anyway
