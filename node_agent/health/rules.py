"""What is made of which sign: the rows of the health policy, each a rule with its numbers.

A rule looks for one kind of *sign*: a fault by number, or a reading that is bad in this round. It holds from when
`count` signs fell into `window_s`; signs nearer to each other than `apart_s` count as one. So one noisy reading never
does anything, whereas one fault that the driver itself reports does, where the policy says so. It ends as `lifts` says;
alone it ends when the last sign is `clear_s` ago.

Sources: NVIDIA's XID catalogue and GPU memory error management; the numbers of hardware slowdown as in leptonai/gpud
(0.6 minutes of each over ten); Ascend mind-cluster for PreSeparate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from node_agent.health.verdicts import Advice, Jobs, Lifts, Use

DAY_S = 86_400.0


class Signal(StrEnum):
    """What a rule looks for."""

    FAULT = "fault"  # one of `codes`; without codes: any that no other rule names
    MISSING = "missing"  # an expected device is not there
    LOST = "lost"
    RESET_REQUIRED = "reset_required"
    TOO_FEW = "too_few"  # of the node: fewer devices than the bus has, and it is not known which
    UNREAD = "unread"  # no reading for `stale_after_s`
    TOO_HOT = "too_hot"
    THROTTLED = "throttled"
    REMAP_PENDING = "remap_pending"
    REMAP_FAILED = "remap_failed"
    ASKS_RESET = "asks_reset"
    ASKS_REBOOT = "asks_reboot"
    ASKS_NO_PEERS = "asks_no_peers"
    ALARM = "alarm"
    CRITICAL = "critical"
    PRE_SEPARATE = "pre_separate"
    TOLD = "told"  # nothing is read for it: who finds it is in SOURCES


@dataclass(frozen=True, slots=True)
class Rule:
    """See the module. `escalates`: that it came again and again counts for an inspection. `report_only`: it is told and
    acts on nothing; the service heeds it."""

    name: str
    signal: Signal
    use: Use
    jobs: Jobs
    advice: Advice
    lifts: Lifts
    codes: frozenset[int] = frozenset()
    count: int = 1
    window_s: float = 60.0
    apart_s: float = 0.0
    clear_s: float = 600.0
    escalates: bool = False
    report_only: bool = False
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on a reading is bad, and below what it is good again while its rule holds."""

    stale_after_s: float = 30.0
    hot_celsius: float = 90.0
    cool_celsius: float = 85.0
    memory_hot_celsius: float = 105.0
    memory_cool_celsius: float = 100.0


@dataclass(frozen=True, slots=True)
class Escalation:
    """One rule that began to hold in `bursts` bursts within `window_s` (signs within `burst_s` are one), or came back
    after `resets` resets or restarts within it: the hardware is to be inspected."""

    bursts: int = 5
    window_s: float = DAY_S
    burst_s: float = 600.0
    resets: int = 2


def _codes(*codes: int) -> frozenset[int]:
    return frozenset(codes)


_LINKS = _codes(74, *range(144, 151))
_KEEP, _MOVE, _FAULT = Jobs.KEEP, Jobs.MOVE, Signal.FAULT
_OUT, _NO_NEW, _FINE = Use.CORDONED, Use.NO_NEW_WORK, Use.SCHEDULABLE

INSPECTION = Rule("inspection", _FAULT, _OUT, _MOVE, Advice.INSPECT, Lifts.OPERATOR)
"""What escalation comes to. It looks for nothing itself."""

_RULES = (
    Rule("fallen-off-bus", _FAULT, _OUT, _MOVE, Advice.REBOOT, Lifts.RESET, _codes(79), escalates=True),
    Rule("device-missing", Signal.MISSING, _OUT, _MOVE, Advice.REBOOT, Lifts.ALONE, count=3, escalates=True),
    Rule("device-lost", Signal.LOST, _OUT, _MOVE, Advice.REBOOT, Lifts.RESET, count=2, escalates=True),
    Rule("reset-required", Signal.RESET_REQUIRED, _OUT, _KEEP, Advice.RESET, Lifts.ALONE, count=2, escalates=True),
    Rule("too-few-devices", Signal.TOO_FEW, _OUT, _KEEP, Advice.REBOOT, Lifts.ALONE, count=3, window_s=120.0),
    Rule("memory-fault", _FAULT, _OUT, _MOVE, Advice.RESET, Lifts.RESET, _codes(48, 95, 140), escalates=True),
    Rule("remap-failure", _FAULT, _OUT, _MOVE, Advice.REPLACE, Lifts.OPERATOR, _codes(64)),
    Rule("remap-failed", Signal.REMAP_FAILED, _OUT, _MOVE, Advice.REPLACE, Lifts.OPERATOR, count=2, window_s=300.0),
    Rule("remap-pending", Signal.REMAP_PENDING, _OUT, _KEEP, Advice.RESET, Lifts.ALONE, count=2, window_s=300.0),
    Rule(
        "contained-memory-fault",
        _FAULT,
        _FINE,
        Jobs.REQUEUE,
        Advice.NOTHING,
        Lifts.ALONE,
        _codes(94),
        apart_s=10.0,
        escalates=True,
    ),
    Rule("engine-timeout", _FAULT, _OUT, _KEEP, Advice.RESET, Lifts.RESET, _codes(109), escalates=True),
    Rule(
        "driver-fault",
        _FAULT,
        _OUT,
        _MOVE,
        Advice.RESET_OR_REBOOT,
        Lifts.RESET,
        _codes(62, 119, 120, 143),
        escalates=True,
    ),
    Rule("link-fault", _FAULT, Use.NO_MULTI_DEVICE, _KEEP, Advice.CABLING, Lifts.RESET, _LINKS),
    Rule(
        "link-fault-repeated",
        _FAULT,
        _OUT,
        _MOVE,
        Advice.CABLING,
        Lifts.OPERATOR,
        _LINKS,
        count=3,
        window_s=DAY_S,
        apart_s=60.0,
    ),
    Rule("job-fault", _FAULT, _FINE, _KEEP, Advice.WATCH_JOB, Lifts.ALONE, _codes(13, 31, 43)),
    Rule(
        "job-fault-repeated",
        _FAULT,
        _FINE,
        _KEEP,
        Advice.DIAGNOSE,
        Lifts.ALONE,
        _codes(31),
        count=2,
        window_s=DAY_S,
        apart_s=60.0,
        clear_s=DAY_S,
    ),
    Rule("on-record", _FAULT, _FINE, _KEEP, Advice.NOTHING, Lifts.ALONE),
    Rule(
        "slowdown",
        Signal.THROTTLED,
        _OUT,
        _MOVE,
        Advice.COOL,
        Lifts.ALONE,
        count=6,
        window_s=600.0,
        apart_s=60.0,
        clear_s=1800.0,
        escalates=True,
    ),
    Rule("too-hot", Signal.TOO_HOT, _NO_NEW, _KEEP, Advice.COOL, Lifts.ALONE, count=3, clear_s=300.0),
    Rule("driver-asks-reset", Signal.ASKS_RESET, _OUT, _KEEP, Advice.RESET, Lifts.ALONE, count=2, window_s=300.0),
    Rule("driver-asks-reboot", Signal.ASKS_REBOOT, _OUT, _KEEP, Advice.REBOOT, Lifts.ALONE, count=2, window_s=300.0),
    Rule(
        "driver-asks-no-peers",
        Signal.ASKS_NO_PEERS,
        Use.NO_MULTI_DEVICE,
        _KEEP,
        Advice.CABLING,
        Lifts.ALONE,
        count=2,
        window_s=300.0,
    ),
    Rule("unread", Signal.UNREAD, _NO_NEW, _KEEP, Advice.ANSWER, Lifts.ALONE, clear_s=10.0),
    Rule("vendor-alarm", Signal.ALARM, _NO_NEW, _KEEP, Advice.DIAGNOSE, Lifts.ALONE, count=3, window_s=300.0),
    Rule("vendor-critical", Signal.CRITICAL, _OUT, _KEEP, Advice.DIAGNOSE, Lifts.ALONE, count=2, window_s=300.0),
    # What checks of idle devices find: a device that computes or moves data wrongly is never given back by itself.
    Rule("check-wrong", Signal.TOLD, _NO_NEW, _KEEP, Advice.DIAGNOSE, Lifts.OPERATOR),
    Rule("check-link-wrong", Signal.TOLD, Use.NO_MULTI_DEVICE, _KEEP, Advice.CABLING, Lifts.OPERATOR),
    Rule("check-slow", Signal.TOLD, _FINE, _KEEP, Advice.COMPARE, Lifts.ALONE),
    # What is made of the nights' measurements by whoever compares them.
    Rule("slow-than-like", Signal.TOLD, _FINE, _KEEP, Advice.COMPARE, Lifts.ALONE),
    Rule("slow-than-before", Signal.TOLD, _FINE, _KEEP, Advice.COMPARE, Lifts.ALONE),
    Rule("pre-separate", Signal.PRE_SEPARATE, _NO_NEW, _KEEP, Advice.RESET, Lifts.ALONE, count=2, window_s=300.0),
)

DEFAULT_RULES: Mapping[str, Rule] = {rule.name: rule for rule in _RULES}

CHECKS, NIGHTS = "checks", "nights"
SOURCES: Mapping[str, frozenset[str]] = {
    CHECKS: frozenset({"check-wrong", "check-link-wrong", "check-slow"}),
    NIGHTS: frozenset({"slow-than-like", "slow-than-before"}),
}
"""Who finds what no reading tells, and by which rules (of Signal.TOLD). The agent keeps it for them."""


@dataclass(frozen=True, slots=True)
class HealthRules:
    """All rules with their numbers. `rules` has none of the name of INSPECTION."""

    rules: Mapping[str, Rule] = field(default_factory=lambda: DEFAULT_RULES)
    limits: Limits = Limits()
    escalation: Escalation = Escalation()
