"""One round's step: (state, round, now_s) -> (state, findings). See `rules` for when a rule holds and when it ends.

What others find (Signal.TOLD) is none of its business: the agent keeps that beside this state.

Times are epoch seconds, never falling: where a clock was set back, the step takes the latest that it has seen. What is
Missing is no sign, and it is no recovery either: a device whose readings stop keeps what was found of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from node_agent.health.facts import DeviceFacts, Fault, Missing, Recovery, Round
from node_agent.health.rules import INSPECTION, Escalation, HealthRules, Limits, Rule, Signal
from node_agent.health.verdicts import NODE, Finding, Jobs, Lifts


@dataclass(frozen=True, slots=True)
class Watch:
    """One rule over one device. `signs`: those that count still, oldest first. `since_s`: it holds since then (None: it
    does not). `seen_s`: the last sign; `good_s`: since when rounds have been known to be good. `bursts`: when bursts
    began. `resets`: when it was ended by a reset. `reason` and `mark` (of the machine's start and the device's last
    reset, a line each): as they were when it began to hold.
    """

    signs: tuple[float, ...] = ()
    since_s: float | None = None
    seen_s: float = 0.0
    good_s: float | None = None
    bursts: tuple[float, ...] = ()
    resets: tuple[float, ...] = ()
    reason: str = ""
    mark: str = ""


_NOTHING = Watch()
Watches = Mapping[tuple[str, str], Watch]
"""By device and rule."""


@dataclass(frozen=True, slots=True)
class HealthState:
    """`first_s`: when each device was first looked at, or last read: what its silence is counted from."""

    watches: Watches = field(default_factory=dict)
    first_s: Mapping[str, float] = field(default_factory=dict)
    now_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Sign:
    """`bad` None: not known in this round. `faults`: when each happened."""

    bad: bool | None
    reason: str = ""
    at_s: tuple[float, ...] = ()


def judge(state: HealthState, seen: Round, now_s: float, rules: HealthRules) -> tuple[HealthState, tuple[Finding, ...]]:
    """Findings by device, then rule."""
    now_s = max(now_s, state.now_s)
    first_s = {uuid: _answered_s(state, uuid, facts, now_s) for uuid, facts in seen.devices.items()}
    watches: dict[tuple[str, str], Watch] = {}
    for device in dict.fromkeys((NODE, *seen.expected, *seen.devices, *(uuid for uuid, _ in state.watches))):
        facts = seen.devices.get(device)
        mark = f"{seen.boot}\n{'' if facts is None else facts.mark}"
        for rule in rules.rules.values():
            if not rule.enabled or rule.signal is Signal.TOLD:
                continue
            before = state.watches.get((device, rule.name), _NOTHING)
            sign = _sign(rule, rules, device, seen, first_s.get(device), now_s, holds=before.since_s is not None)
            after = _step(rule, rules.escalation, before, sign, mark, now_s)
            if after is not _NOTHING:
                watches[device, rule.name] = after
        inspected = _inspection(state, watches, rules, device, now_s)
        if inspected is not None:
            watches[device, INSPECTION.name] = inspected
    after_all = HealthState(watches, first_s, now_s)
    return after_all, findings(after_all, rules)


def findings(state: HealthState, rules: HealthRules) -> tuple[Finding, ...]:
    """What holds, by device and rule."""
    found = []
    for (device, name), watch in sorted(state.watches.items()):
        rule = INSPECTION if name == INSPECTION.name else rules.rules.get(name)
        if rule is not None and watch.since_s is not None:
            found.append(
                Finding(device, name, rule.use, rule.jobs, rule.lifts, watch.reason, rule.advice.value, watch.since_s)
            )
    return tuple(found)


def cleared(state: HealthState, device: str | None = None) -> HealthState:
    """An operator says that it is mended (None: all of the node): nothing is held against it any more."""
    left = {key: watch for key, watch in state.watches.items() if device is not None and key[0] != device}
    return replace(state, watches=left)


# ---- one rule over one device --------------------------------------------------------------------------------------


def _step(rule: Rule, escalation: Escalation, before: Watch, sign: _Sign, mark: str, now_s: float) -> Watch:
    if before == _NOTHING and not sign.at_s:
        return before
    watch = before
    if watch.since_s is not None and rule.lifts is Lifts.RESET and _was_reset(watch.mark, mark):
        watch = Watch(bursts=watch.bursts, resets=(*watch.resets, now_s))
    since_s = now_s - rule.window_s
    signs = [at_s for at_s in watch.signs if at_s > since_s]
    bursts = [at_s for at_s in watch.bursts if at_s > now_s - escalation.window_s]
    resets = tuple(at_s for at_s in watch.resets if at_s > now_s - escalation.window_s)
    seen_s, counted = watch.seen_s, False
    for at_s in sign.at_s:
        if rule.signal is Signal.FAULT and (not bursts or at_s - seen_s >= escalation.burst_s):
            bursts.append(at_s)
        seen_s = max(seen_s, at_s)
        same = bool(signs) and rule.signal is not Signal.FAULT and at_s <= signs[-1]  # a reading that was seen before
        if at_s > since_s and not same and (not signs or at_s - signs[-1] >= rule.apart_s):
            signs.append(at_s)
            counted = True
    good_s = watch.good_s
    if sign.bad is not None:
        good_s = None if sign.bad else now_s if good_s is None else good_s
    after = replace(watch, signs=tuple(signs[-rule.count :]), seen_s=seen_s, good_s=good_s, resets=resets)
    if after.since_s is None:
        if counted and len(signs) >= rule.count:
            after = replace(after, since_s=now_s, reason=sign.reason, mark=mark)
            if rule.signal is not Signal.FAULT:  # a reading that was bad now and then is no burst
                bursts.append(now_s)
    elif rule.jobs is Jobs.REQUEUE and counted:
        after = replace(after, since_s=now_s, reason=sign.reason)
    elif _is_over(rule, after, now_s):
        after = Watch(resets=resets)
    after = replace(after, bursts=tuple(bursts[-escalation.bursts :]))
    nothing = after.since_s is None and not after.signs and not after.bursts and not after.resets
    return _NOTHING if nothing else after


def _was_reset(before: str, now: str) -> bool:
    """Each of the two marks (of the machine's start and of the device's) says so only where it is known both times."""
    return any(old and new and old != new for old, new in zip(before.split("\n"), now.split("\n"), strict=True))


def _is_over(rule: Rule, watch: Watch, now_s: float) -> bool:
    if rule.lifts is not Lifts.ALONE:
        return False
    if rule.signal is Signal.FAULT:
        return now_s - watch.seen_s >= rule.clear_s
    return watch.good_s is not None and now_s - watch.good_s >= rule.clear_s


def _inspection(
    state: HealthState, watches: Mapping[tuple[str, str], Watch], rules: HealthRules, device: str, now_s: float
) -> Watch | None:
    before = state.watches.get((device, INSPECTION.name))
    if before is not None:
        return before
    escalation = rules.escalation
    for rule in rules.rules.values():
        watch = watches.get((device, rule.name))
        if watch is None or not rule.escalates:
            continue
        hours = escalation.window_s / 3600
        if len(watch.bursts) >= escalation.bursts:
            said = f"{rule.name}: {len(watch.bursts)} bursts within {hours:g} h"
        elif len(watch.resets) >= escalation.resets and watch.since_s is not None:
            said = f"{rule.name}: back after {len(watch.resets)} resets within {hours:g} h"
        else:
            continue
        return Watch(since_s=now_s, seen_s=now_s, reason=f"{said}; {watch.reason}".rstrip("; "))
    return None


# ---- signs ---------------------------------------------------------------------------------------------------------


def _sign(
    rule: Rule, rules: HealthRules, device: str, seen: Round, first_s: float | None, now_s: float, *, holds: bool
) -> _Sign:
    if rule.signal is Signal.FAULT:
        return _fault_sign(rule, rules, device, seen, now_s)
    bad, reason = _reading_sign(rule.signal, rules.limits, device, seen, first_s, now_s, holds=holds)
    if not bad:
        return _Sign(bad, reason)
    facts = seen.devices.get(device)
    taken = {} if facts is None else facts.taken
    return _Sign(
        bad, reason, (max((min(taken.get(each, now_s), now_s) for each in _READ[rule.signal]), default=now_s),)
    )


_READ: Mapping[Signal, tuple[str, ...]] = {
    **dict.fromkeys(Signal, ()),
    Signal.TOO_HOT: ("temperature_celsius", "memory_temperature_celsius"),
    Signal.THROTTLED: ("throttled",),
    Signal.REMAP_PENDING: ("row_remap_pending",),
    Signal.REMAP_FAILED: ("row_remap_failed",),
    **dict.fromkeys((Signal.ASKS_RESET, Signal.ASKS_REBOOT, Signal.ASKS_NO_PEERS), ("recovery",)),
    **dict.fromkeys((Signal.ALARM, Signal.CRITICAL), ("vendor_health",)),
    Signal.PRE_SEPARATE: ("pre_separate",),
}
"""The fields that it is read from. What comes of asking at all is as old as the round."""


def _fault_sign(rule: Rule, rules: HealthRules, device: str, seen: Round, now_s: float) -> _Sign:
    facts = seen.devices.get(device)
    heard: Iterable[Fault] = seen.faults if device == NODE else () if facts is None else facts.faults
    named = rule.codes or None
    mine = [
        fault for fault in heard if (fault.code in rule.codes if named is not None else _is_others(fault.code, rules))
    ]
    if not mine:
        return _Sign(None)
    last = mine[-1]
    text = f"XID {last.code}" + (f" ({last.text})" if last.text else "")
    return _Sign(True, text, tuple(sorted(min(fault.at_s, now_s) for fault in mine)))


def _is_others(code: int, rules: HealthRules) -> bool:
    return not any(code in rule.codes for rule in rules.rules.values() if rule.enabled)


def _reading_sign(
    signal: Signal, limits: Limits, device: str, seen: Round, first_s: float | None, now_s: float, *, holds: bool
) -> tuple[bool | None, str]:
    """(whether it is bad, None where not known; the sentence)."""
    if device == NODE:
        return _node_sign(signal, seen)
    facts = seen.devices.get(device)
    if signal is Signal.MISSING:
        return facts is None and device in seen.expected, "it is not there any more"
    if facts is None:
        return None, ""
    if signal is Signal.UNREAD:
        if facts.never_read or first_s is None:
            return False, ""
        silent_s = now_s - first_s
        why = f": {facts.silent}" if facts.silent else ""
        return silent_s > limits.stale_after_s, f"no reading for {silent_s:.0f} s{why}"
    if signal is Signal.TOO_HOT:
        return _hot_sign(facts, limits, holds=holds)
    return _flag_sign(signal, facts)


def _node_sign(signal: Signal, seen: Round) -> tuple[bool | None, str]:
    if signal is not Signal.TOO_FEW:
        return None, ""
    if isinstance(seen.found, Missing) or isinstance(seen.expected_count, Missing):
        return None, ""
    known = sum(uuid not in seen.devices for uuid in seen.expected)  # those are told of one by one
    fewer = seen.expected_count - seen.found - known
    return fewer > 0, f"{seen.found} devices answer where {seen.expected_count} are built in"


def _hot_sign(facts: DeviceFacts, limits: Limits, *, holds: bool) -> tuple[bool | None, str]:
    pairs = (
        (facts.temperature_celsius, limits.hot_celsius, limits.cool_celsius, "it"),
        (facts.memory_temperature_celsius, limits.memory_hot_celsius, limits.memory_cool_celsius, "its memory"),
    )
    known = False
    for value, hot, cool, what in pairs:
        if isinstance(value, Missing):
            continue
        known = True
        if value > (cool if holds else hot):
            return True, f"{what} is at {value:.0f} C, over its limit of {hot:.0f} C"
    return (False if known else None), ""


_ASKS: Mapping[Signal, tuple[frozenset[Recovery], str]] = {
    Signal.ASKS_RESET: (
        frozenset({Recovery.RESET, Recovery.DRAIN_AND_RESET, Recovery.RESET_BUS}),
        "its driver asks for a reset",
    ),
    Signal.ASKS_REBOOT: (frozenset({Recovery.REBOOT}), "its driver asks for a restart of the node"),
    Signal.ASKS_NO_PEERS: (
        frozenset({Recovery.DRAIN_PEERS, Recovery.RECOVER_FABRIC}),
        "its driver asks to keep traffic between devices away",
    ),
}


def _flag_sign(signal: Signal, facts: DeviceFacts) -> tuple[bool | None, str]:
    if signal in _ASKS:
        asked, sentence = _ASKS[signal]
        return (None if isinstance(facts.recovery, Missing) else facts.recovery in asked), sentence
    if signal in (Signal.ALARM, Signal.CRITICAL):
        if isinstance(facts.vendor_health, Missing):
            return None, ""
        wanted = 2 if signal is Signal.ALARM else 3
        word = "alarm" if signal is Signal.ALARM else "critical"
        return facts.vendor_health >= wanted, f"its vendor's tool says: {word}"
    flags: Mapping[Signal, tuple[bool | Missing, str]] = {
        Signal.LOST: (facts.lost, "its driver has lost it"),
        Signal.RESET_REQUIRED: (facts.reset_required, "its driver says that it must be reset"),
        Signal.THROTTLED: (facts.throttled, "its hardware keeps holding it down (heat or power brake)"),
        Signal.REMAP_PENDING: (facts.row_remap_pending, "rows of its memory are to be replaced at the next reset"),
        Signal.REMAP_FAILED: (facts.row_remap_failed, "rows of its memory could not be replaced"),
        Signal.PRE_SEPARATE: (facts.pre_separate, "its driver asks to give it nothing new (PreSeparate)"),
    }
    flag, sentence = flags.get(signal, (Missing(""), ""))
    return (None if isinstance(flag, Missing) else flag), sentence


def _answered_s(state: HealthState, uuid: str, facts: DeviceFacts, now_s: float) -> float:
    """What its silence is counted from."""
    known_s = state.first_s.get(uuid)
    if facts.read_at_s is None:
        return now_s if known_s is None else known_s
    return max(known_s or 0.0, min(facts.read_at_s, now_s))
