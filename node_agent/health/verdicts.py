"""What can be said of a device or node: what it may be used for, what becomes of its jobs, what somebody is to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

NODE = ""
"""Stands in a finding for the device where it is about the node as a whole."""


class Use(StrEnum):
    """What new work a device may be given, in rising severity."""

    SCHEDULABLE = "schedulable"
    NO_MULTI_DEVICE = "no_multi_device"  # nothing whose devices talk to each other
    NO_NEW_WORK = "no_new_work"  # until the trouble passes
    CORDONED = "cordoned"  # until it is mended


class Jobs(StrEnum):
    """What becomes of what runs there. None of it uses up a retry."""

    KEEP = "keep"  # it runs to its end
    REQUEUE = "requeue"  # once: it was hit, and may start again at once, here or elsewhere
    MOVE = "move"  # it is asked to save its work and goes back to the queue


class Lifts(StrEnum):
    """What ends a finding."""

    ALONE = "alone"  # the trouble has been away for long enough
    RESET = "reset"  # the device was reset or the node started anew (or an operator says so)
    OPERATOR = "operator"  # an operator's word, and nothing else


class Advice(StrEnum):
    """What somebody should do; the value is the sentence."""

    NOTHING = "nothing to do; it is on record"
    WATCH_JOB = "look at the job's own code first; the device is most likely sound"
    DIAGNOSE = "run a diagnosis of this device when it is idle"
    RESET = "reset the device when nothing runs on it"
    RESET_OR_REBOOT = "reset the device when nothing runs on it; where that does not help, restart the node"
    REBOOT = "restart the node; where that does not help, check the card's seating and power"
    REPLACE = "have the device replaced"
    COOL = "check fans, filters, air flow and power feed"
    CABLING = "check the links: cables, bridges and switch trays"
    INSPECT = "take the device out and have the hardware inspected: the same came back again and again"
    COMPARE = "compare it with its like: cooling, power cap, clocks, the links of its slot"
    ANSWER = "look at the driver and at the agent's log; nothing is known to be broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, or on record. `device` is a uuid, or NODE for the node as a whole.

    `since_s` (epoch) is when it began to hold; with REQUEUE, when it last happened. All of it stands still while it
    holds: the same finding twice is no news.
    """

    device: str
    rule: str
    use: Use
    jobs: Jobs
    lifts: Lifts
    reason: str
    advice: str
    since_s: float


SEVERITY = {use: rank for rank, use in enumerate(Use)}


def use_of(findings: Iterable[Finding]) -> Use:
    """What several findings about one device come to."""
    return max((finding.use for finding in findings), key=SEVERITY.__getitem__, default=Use.SCHEDULABLE)
