"""What does the service say of the site's devices, and how is it told? `GET /v1/devices`, read once and typed. Pure.

An answer for 10,000 devices is some megabytes: it is read straight into slots (msgspec), a fifth of the time and of the
memory that dictionaries take, and the garbage collector need not look at it (`gc=False`: a tree has no cycles). What is
not known has no number anywhere: a value is None, and `unavailable` says why.
Real and simulated devices are counted apart and never added.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from scheduler.cli import words
from scheduler.errors import Unavailable

# What is shown unless somebody asks for other fields; also what the API gives where none are named.
SHOWN_FIELDS = (
    "utilisation_percent",
    "memory_used_bytes",
    "memory_total_bytes",
    "power_watts",
    "temperature_celsius",
    "clock_megahertz",
    "energy_joules",
    "ecc_uncorrected_volatile",
    "faults",
)
# Older than this a reading is told with its age; health calls a device unread after as long (docs/health.md).
STALE_AFTER_S = 30.0
NOT_TOLD = "not told"
_UNITS = (
    ("_percent", "%"),
    ("_watts", " W"),
    ("_celsius", " C"),
    ("_megahertz", " MHz"),
)
_DIGITS = re.compile(r"(\d+)")


class Held(msgspec.Struct, frozen=True, gc=False):
    """A job on a device. `share_milli` in thousandths of it; 0: all of it."""

    id: str
    tenant: str = ""
    share_milli: int = 0


class Device(msgspec.Struct, frozen=True, gc=False):
    """One device. `values` in the order of the listing's fields; `use`: what the health policy lets it be given."""

    node: str
    site: str
    index: int
    uuid: str
    model: str
    simulated: bool
    node_state: str
    use: str
    values: tuple[float | None, ...]
    rack: str | None = None
    vendor: str = ""
    reason: str = ""
    jobs: tuple[Held, ...] = ()
    quality: str | None = None
    read_at_s: float | None = None
    unavailable: dict[str, str] = {}

    @property
    def is_simulated(self) -> bool:
        """Nothing of it counts as measured: it is made up, or what it says is."""
        return self.simulated or self.quality in ("simulated", "replayed")


class DeviceListing(msgspec.Struct, frozen=True):
    at_s: float
    fields: list[str]
    devices: list[Device]
    truncated: bool = False

    def column(self, field: str) -> int | None:
        """Where `field` stands in `values`; None: it is not in this answer."""
        return self.fields.index(field) if field in self.fields else None


_decoder = msgspec.json.Decoder(DeviceListing)


def read_listing(body: bytes) -> DeviceListing:
    """Raises Unavailable where the answer is not such a listing."""
    try:
        listing = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unavailable(f"the service's list of devices cannot be read ({error}); is it another version?") from None
    width = len(listing.fields)
    if any(len(device.values) != width for device in listing.devices):
        raise Unavailable("the service's list of devices has not as many values as fields; is it another version?")
    return listing


# ---- one device in words -----------------------------------------------------------------------------------------


@lru_cache(maxsize=65_536)
def natural(name: str) -> tuple[str | int, ...]:
    """A key that puts node-2 before node-10: text and numbers in turn, beginning with text."""
    return tuple(int(part) if at % 2 else part for at, part in enumerate(_DIGITS.split(name)))


def used_milli(device: Device) -> int:
    """Thousandths of it that are held, at most all."""
    return min(1000, sum(job.share_milli or 1000 for job in device.jobs))


def use_word(device: Device) -> str:
    """What can be done with it now: its node's state where that is what counts, else what health lets it be given."""
    if device.node_state == "down":
        return "down"
    if device.use == "schedulable" and device.node_state in ("draining", "drained"):
        return device.node_state
    return device.use.replace("_", " ")


def is_unhealthy(device: Device) -> bool:
    """Health keeps work from it, or its node does not answer. What an operator drained is not unhealthy."""
    return device.use != "schedulable" or device.node_state == "down"


def model_text(device: Device) -> str:
    """`H100 SXM (simulated)`; `(replayed)` where a recording speaks."""
    if not device.is_simulated:
        return device.model
    return f"{device.model} ({'replayed' if device.quality == 'replayed' else 'simulated'})"


def jobs_text(device: Device) -> str:
    """`7 9:0.25`: ids, of shared devices with the part that each has."""
    return " ".join(
        job.id if job.share_milli in (0, 1000) else f"{job.id}:{words.milli(job.share_milli)}" for job in device.jobs
    )


def value_text(field: str, value: float | None) -> str:
    """By the unit that stands last in the field's name; nothing for what is not known."""
    if value is None:
        return ""
    if field.endswith("_bytes"):
        return words.size(value)
    if field.endswith("_joules"):
        return energy_text(value)
    for ending, unit in _UNITS:
        if field.endswith(ending):
            return f"{value:.0f}{unit}"
    return f"{value:g}"


def energy_text(joules: float) -> str:
    return _scaled(joules, "J")


def power_text(watts: float) -> str:
    return _scaled(watts, "W")


def _scaled(value: float, unit: str) -> str:
    """Three digits and a power of a thousand: `412 W`, `7.03 kW`, `1.31 MW`."""
    for prefix in ("", "k", "M", "G"):
        if abs(value) < 999.5:
            return f"{value:.3g} {prefix}{unit}"
        value /= 1000
    return f"{value:.3g} T{unit}"


def why_silent(listing: DeviceListing, device: Device, fields: Iterable[str]) -> dict[str, str]:
    """Why there is none, of those of `fields` that have no value."""
    silent = {}
    for field in fields:
        column = listing.column(field)
        if column is None:
            silent[field] = "not asked for"
        elif device.values[column] is None:
            silent[field] = device.unavailable.get(field, NOT_TOLD)
    return silent


def silence_text(silent: dict[str, str]) -> str:
    """`no power watts, energy joules: the driver does not tell`: fields of one reason together."""
    by_reason: dict[str, list[str]] = {}
    for field, why in silent.items():
        by_reason.setdefault(why, []).append(field.replace("_", " "))
    return "; ".join(f"no {', '.join(names)}: {why}" for why, names in by_reason.items())


def age_s(listing: DeviceListing, device: Device) -> float | None:
    """How old its readings were when the service answered, where that is worth telling."""
    if device.read_at_s is None:
        return None
    age = listing.at_s - device.read_at_s
    return age if age > STALE_AFTER_S else None


# ---- all of them -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Totals:
    """Of devices of one kind, real or simulated. `watts` sums what `watts_of` of them told; None: none did.
    `utilisation` is the mean, in percent, over those that told it."""

    devices: int = 0
    nodes: int = 0
    unhealthy: int = 0
    used_milli: int = 0
    watts: float | None = None
    watts_of: int = 0
    utilisation: float | None = None


@dataclass(frozen=True, slots=True)
class SiteTotals:
    """Apart, and never to be added: what is simulated is no device."""

    real: Totals
    simulated: Totals


def totals(listing: DeviceListing, devices: Iterable[Device] | None = None) -> SiteTotals:
    """Of `devices`, by default all of the listing."""
    real: list[Device] = []
    simulated: list[Device] = []
    for device in listing.devices if devices is None else devices:
        (simulated if device.is_simulated else real).append(device)
    return SiteTotals(_summed(listing, real), _summed(listing, simulated))


def _summed(listing: DeviceListing, devices: list[Device]) -> Totals:
    watts = _told(listing, devices, "power_watts")
    busy = _told(listing, devices, "utilisation_percent")
    return Totals(
        devices=len(devices),
        nodes=len({device.node for device in devices}),
        unhealthy=sum(1 for device in devices if is_unhealthy(device)),
        used_milli=sum(used_milli(device) for device in devices if device.jobs),
        watts=sum(watts) if watts else None,
        watts_of=len(watts),
        utilisation=sum(busy) / len(busy) if busy else None,
    )


def _told(listing: DeviceListing, devices: list[Device], field: str) -> list[float]:
    column = listing.column(field)
    if column is None:
        return []
    return [value for device in devices if (value := device.values[column]) is not None]


def totals_text(of: Totals, *, asked_power: bool = True) -> str:
    """`8 devices, 1 not schedulable; 3.5 used; 2.14 kW (7 of them tell)`."""
    text = f"{of.devices:,} {'device' if of.devices == 1 else 'devices'}"
    if of.unhealthy:
        text += f", {of.unhealthy:,} not schedulable"
    text += f"; {of.used_milli / 1000:,.10g} used"
    if of.watts is not None:
        text += f"; {power_text(of.watts)}"
        if of.watts_of < of.devices:
            text += f" ({of.watts_of:,} of them tell)"
    elif asked_power and of.devices:
        text += "; power -"
    return text
