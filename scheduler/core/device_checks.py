"""What is made of checks of idle devices: when a device is due, and which results mean something. Pure.

A check has parts: products of matrices that are verified, memory that is written and read back, links between two
devices. A part that came out wrong counts against its device from so many failures in a row (`failures`): one may be a
cosmic ray, and the next check tells. A part that was right has a rate, and rates of devices of one kind are compared: a
device that stays so many times in a row under a share of the median of its like is slow. Where too few of its like were
checked of late, nothing is said of slowness. A part that could not be run says why, and changes nothing.

Times are epoch seconds. Nothing of this needs to survive: what was found is kept elsewhere, the rest is found again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median


class Part(StrEnum):
    """Of a check. Links join two devices; a wrong or slow one is held against both, as nobody knows which it is."""

    PRODUCTS = "products"
    MEMORY = "memory"
    LINKS = "links"


class Came(StrEnum):
    """How a part came out."""

    RIGHT = "right"
    WRONG = "wrong"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """Each device is due `every_s`, when it has been idle for `idle_s`. At most `at_once` devices of the fleet are
    checked at a time, but always those of one node. `slow_share`: below this share of the median of at least `likes`
    others of its kind a device is slow. `cpu`: whether CPU devices are checked; simulated ones never are.
    `measure_s`: how long each part measures; `time_limit_s`: after so long a check is given up.
    """

    every_s: float = 86_400.0
    idle_s: float = 600.0
    at_once: int = 16
    parts: tuple[Part, ...] = tuple(Part)
    failures: int = 2
    slow_share: float = 0.9
    likes: int = 4
    measure_s: float = 3.0
    time_limit_s: float = 180.0
    cpu: bool = False


@dataclass(frozen=True, slots=True)
class PartResult:
    """`rate` in `unit`, of what was verified; None where there is none. `why`: a sentence, where it is not RIGHT."""

    part: Part
    came: Came
    rate: float | None = None
    unit: str = ""
    why: str = ""


Kind = tuple[str, str, str | None]
"""Vendor, model and MIG profile: rates of one kind are compared."""


class Verdict(StrEnum):
    WRONG = "wrong"
    SLOW = "slow"
    FINE = "fine"
    UNDECIDED = "undecided"  # it is not held against the device, and nothing that is is taken back


@dataclass(frozen=True, slots=True)
class Judged:
    verdict: Verdict
    reason: str = ""


@dataclass(slots=True)
class CheckHistory:
    """The last rates by kind and part, and failures in a row by device and part."""

    rates: dict[tuple[Kind, Part], dict[str, tuple[float, float]]] = field(default_factory=dict)
    wrong: dict[tuple[str, Part], int] = field(default_factory=dict)
    slow: dict[tuple[str, Part], int] = field(default_factory=dict)

    def judge(self, device: str, kind: Kind, result: PartResult, settings: CheckSettings, now_s: float) -> Judged:
        """One more result."""
        key = device, result.part
        if result.came is Came.NOT_RUN:
            return Judged(Verdict.UNDECIDED, result.why)
        if result.came is Came.WRONG:
            self.wrong[key] = self.wrong.get(key, 0) + 1
            if self.wrong[key] < settings.failures:
                return Judged(Verdict.UNDECIDED, result.why)
            return Judged(Verdict.WRONG, f"{result.part}: {result.why}{_times(self.wrong[key])}")
        self.wrong.pop(key, None)
        return self._compared(key, kind, result, settings, now_s)

    def _compared(
        self, key: tuple[str, Part], kind: Kind, result: PartResult, settings: CheckSettings, now_s: float
    ) -> Judged:
        rate = result.rate
        if rate is None or not math.isfinite(rate) or rate <= 0:
            return Judged(Verdict.UNDECIDED)
        known = self.rates.setdefault((kind, result.part), {})
        like = [each for of, (each, at_s) in known.items() if of != key[0] and now_s - at_s <= 3 * settings.every_s]
        known[key[0]] = (rate, now_s)
        if len(like) < settings.likes:
            return Judged(Verdict.UNDECIDED)
        usual = median(like)
        if rate >= settings.slow_share * usual:
            self.slow.pop(key, None)
            return Judged(Verdict.FINE)
        self.slow[key] = self.slow.get(key, 0) + 1
        if self.slow[key] < settings.failures:
            return Judged(Verdict.UNDECIDED)
        return Judged(
            Verdict.SLOW,
            f"{result.part}: {rate:.4g} {result.unit}, {100 * rate / usual:.0f}% of the {usual:.4g} {result.unit} that "
            f"is usual for its like ({len(like)} of them){_times(self.slow[key])}",
        )

    def forget(self, devices: Iterable[str]) -> None:
        """An operator says that they are mended: their failures count no more, nor do their rates."""
        gone = set(devices)
        for counts in (self.wrong, self.slow):
            for key in [key for key in counts if key[0] in gone]:
                del counts[key]
        for known in self.rates.values():
            for device in gone & known.keys():
                del known[device]

    def suspects(self, device: str) -> bool:
        """The last check left a doubt that the next one is to settle."""
        return any((device, part) in counts for counts in (self.wrong, self.slow) for part in Part)


def _times(count: int) -> str:
    return f", {count} times in a row" if count > 1 else ""


# ---- when ----------------------------------------------------------------------------------------------------------


def next_due_s(node: str, settings: CheckSettings, after_s: float) -> float:
    """The first time after that at which devices of the node are due. Nodes are spread over the interval by their
    names, so that a service that starts does not have them all due at once, and one that is restarted often enough to
    forget misses none."""
    digest = hashlib.blake2b(node.encode(), digest_size=8).digest()
    phase_s = settings.every_s * int.from_bytes(digest, "big") / 2.0**64
    rounds = math.floor((after_s - phase_s) / settings.every_s) + 1
    return phase_s + rounds * settings.every_s


@dataclass(frozen=True, slots=True)
class IdleDevices:
    """Devices of one node and kind that have been idle for long enough, `due_s` when the first of them was due."""

    node: str
    kind: Kind
    indices: tuple[int, ...]
    due_s: float


def chosen(idle: Sequence[IdleDevices], settings: CheckSettings, being_checked: int, now_s: float) -> list[IdleDevices]:
    """Which of them are checked now: those that are due longest, a node once, within `at_once`."""
    picked: list[IdleDevices] = []
    count = being_checked
    for each in sorted(idle, key=lambda each: (each.due_s, each.node, each.indices)):
        if each.due_s > now_s or any(each.node == other.node for other in picked):
            continue
        if count and count + len(each.indices) > settings.at_once:
            break  # the one that is due longest is not passed over for smaller ones
        picked.append(each)
        count += len(each.indices)
    return picked
