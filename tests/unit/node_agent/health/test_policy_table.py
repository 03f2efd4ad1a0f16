"""Every row of the health policy: signal, what the device is still given, what becomes of its jobs, what is advised."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node_agent.health import (
    Advice,
    DeviceFacts,
    Fault,
    Finding,
    HealthRules,
    HealthState,
    Jobs,
    Recovery,
    Round,
    Use,
    judge,
    use_of,
)
from node_agent.health.verdicts import NODE

RULES = HealthRules()
FINE = DeviceFacts(
    read_at_s=0.0,
    lost=False,
    reset_required=False,
    temperature_celsius=50.0,
    throttled=False,
    row_remap_pending=False,
    row_remap_failed=False,
    recovery=Recovery.NONE,
    vendor_health=0.0,
    pre_separate=False,
)


class Card:
    """One device, `d`, looked at every `every_s`."""

    def __init__(self) -> None:
        self.state = HealthState()
        self.now_s = 1_000.0

    def see(
        self, facts: DeviceFacts | None, *, rounds: int = 1, every_s: float = 10.0, boot: str = "b1"
    ) -> list[Finding]:
        """`facts` None: it is not there. With a `read_at_s` it is read now."""
        found: tuple[Finding, ...] = ()
        for _ in range(rounds):
            self.now_s += every_s
            devices = {} if facts is None else {"d": facts}
            if facts is not None and facts.read_at_s is not None:
                devices = {"d": replace(facts, read_at_s=self.now_s)}
            self.state, found = judge(self.state, Round(devices, ("d",), boot=boot), self.now_s, RULES)
        return list(found)

    def hears(self, *codes: int, boot: str = "b1") -> list[Finding]:
        at_s = self.now_s + 10.0
        return self.see(replace(FINE, faults=tuple(Fault(code, at_s) for code in codes)), boot=boot)


def outcome(found: list[Finding]) -> tuple[Use, Jobs]:
    """The worst of it."""
    use = use_of(found)
    jobs = max((each.jobs for each in found if each.use is use), key=[*Jobs].index, default=Jobs.KEEP)
    return use, jobs


@pytest.mark.parametrize(
    ("codes", "use", "jobs", "advice"),
    [
        ((79,), Use.CORDONED, Jobs.MOVE, Advice.REBOOT),
        ((48, 95, 140), Use.CORDONED, Jobs.MOVE, Advice.RESET),
        ((64,), Use.CORDONED, Jobs.MOVE, Advice.REPLACE),
        ((63,), Use.SCHEDULABLE, Jobs.KEEP, Advice.NOTHING),
        ((94,), Use.SCHEDULABLE, Jobs.REQUEUE, Advice.NOTHING),
        ((109,), Use.CORDONED, Jobs.KEEP, Advice.RESET),
        ((119, 120, 62, 143), Use.CORDONED, Jobs.MOVE, Advice.RESET_OR_REBOOT),
        ((74, 144, 145, 146, 147, 148, 149, 150), Use.NO_MULTI_DEVICE, Jobs.KEEP, Advice.CABLING),
        ((13, 31, 43), Use.SCHEDULABLE, Jobs.KEEP, Advice.WATCH_JOB),
        ((45, 92), Use.SCHEDULABLE, Jobs.KEEP, Advice.NOTHING),
    ],
)
def test_a_fault_that_the_driver_reports_acts_at_once(
    codes: tuple[int, ...], use: Use, jobs: Jobs, advice: Advice
) -> None:
    for code in codes:
        found = Card().hears(code)
        assert outcome(found) == (use, jobs), code
        assert [each.advice for each in found] == [advice.value], code
        assert f"XID {code}" in found[0].reason


@pytest.mark.parametrize(
    ("bad", "rounds", "use", "jobs", "advice"),
    [
        (None, 3, Use.CORDONED, Jobs.MOVE, Advice.REBOOT),
        (replace(FINE, row_remap_failed=True), 2, Use.CORDONED, Jobs.MOVE, Advice.REPLACE),
        (replace(FINE, row_remap_pending=True), 2, Use.CORDONED, Jobs.KEEP, Advice.RESET),
        (replace(FINE, temperature_celsius=91.0), 3, Use.NO_NEW_WORK, Jobs.KEEP, Advice.COOL),
        (replace(FINE, memory_temperature_celsius=106.0), 3, Use.NO_NEW_WORK, Jobs.KEEP, Advice.COOL),
        (replace(FINE, lost=True), 2, Use.CORDONED, Jobs.MOVE, Advice.REBOOT),
        (replace(FINE, reset_required=True), 2, Use.CORDONED, Jobs.KEEP, Advice.RESET),
        (replace(FINE, recovery=Recovery.RESET), 2, Use.CORDONED, Jobs.KEEP, Advice.RESET),
        (replace(FINE, recovery=Recovery.DRAIN_AND_RESET), 2, Use.CORDONED, Jobs.KEEP, Advice.RESET),
        (replace(FINE, recovery=Recovery.RESET_BUS), 2, Use.CORDONED, Jobs.KEEP, Advice.RESET),
        (replace(FINE, recovery=Recovery.REBOOT), 2, Use.CORDONED, Jobs.KEEP, Advice.REBOOT),
        (replace(FINE, recovery=Recovery.DRAIN_PEERS), 2, Use.NO_MULTI_DEVICE, Jobs.KEEP, Advice.CABLING),
        (replace(FINE, recovery=Recovery.RECOVER_FABRIC), 2, Use.NO_MULTI_DEVICE, Jobs.KEEP, Advice.CABLING),
        (replace(FINE, pre_separate=True), 2, Use.NO_NEW_WORK, Jobs.KEEP, Advice.RESET),
        (replace(FINE, vendor_health=2.0), 3, Use.NO_NEW_WORK, Jobs.KEEP, Advice.DIAGNOSE),
        (replace(FINE, vendor_health=3.0), 2, Use.CORDONED, Jobs.KEEP, Advice.DIAGNOSE),
    ],
)
def test_a_reading_acts_when_it_is_bad_again_and_again(
    bad: DeviceFacts | None, rounds: int, use: Use, jobs: Jobs, advice: Advice
) -> None:
    card = Card()
    assert card.see(FINE) == []
    assert card.see(bad, rounds=rounds - 1) == []
    found = card.see(bad)
    assert outcome(found) == (use, jobs)
    assert [each.advice for each in found] == [advice.value]


def test_hardware_slowdown_acts_when_six_of_ten_minutes_have_it() -> None:
    card, slow = Card(), replace(FINE, throttled=True)
    card.see(FINE)
    for _ in range(5):
        assert card.see(slow, rounds=6) == []  # one minute
        assert card.see(FINE, rounds=1) == []
    assert outcome(card.see(slow, rounds=6)) == (Use.CORDONED, Jobs.MOVE)


def test_a_slowdown_now_and_then_is_nothing() -> None:
    card = Card()
    for _ in range(20):
        assert card.see(replace(FINE, throttled=True)) == []
        assert card.see(FINE, rounds=12) == []


def test_a_device_that_stops_answering_gets_nothing_new_until_it_answers() -> None:
    card, silent = Card(), DeviceFacts(silent="the driver has not answered for 40 s")
    card.see(FINE)
    assert card.see(silent, rounds=3) == []
    found = card.see(silent)
    assert outcome(found) == (Use.NO_NEW_WORK, Jobs.KEEP)
    assert "no reading for 40 s: the driver has not answered" in found[0].reason
    assert card.see(silent, rounds=10) == found  # the same words: no news
    card.see(FINE)
    assert card.see(FINE) == []


def test_a_device_without_readings_is_not_unhealthy() -> None:
    assert Card().see(DeviceFacts(never_read=True), rounds=100) == []


def test_what_is_not_known_is_not_unhealthy_and_no_recovery() -> None:
    card = Card()
    assert card.see(DeviceFacts(read_at_s=0.0), rounds=50) == []
    found = card.see(replace(FINE, vendor_health=3.0), rounds=2)
    assert card.see(DeviceFacts(read_at_s=0.0), rounds=200) == found
    assert card.see(FINE, rounds=70) == []


def test_fewer_devices_than_are_built_in_cordons_the_node() -> None:
    state, found = HealthState(), ()
    for now_s in (10.0, 20.0, 30.0):
        seen = Round({"d": replace(FINE, read_at_s=now_s)}, ("d",), 1, 2)
        assert found == ()
        state, found = judge(state, seen, now_s, RULES)
    assert [(each.device, each.use, each.reason) for each in found] == [
        (NODE, Use.CORDONED, "1 devices answer where 2 are built in")
    ]


def test_a_missing_device_is_told_once_and_not_as_a_fault_of_the_node() -> None:
    state, found = HealthState(), ()
    for now_s in range(10, 100, 10):
        state, found = judge(state, Round({}, ("d",), 0, 1), float(now_s), RULES)
    assert [(each.device, each.rule) for each in found] == [("d", "device-missing")]


def test_a_fault_of_nobody_knows_which_device_is_the_nodes() -> None:
    _, found = judge(HealthState(), Round({"d": FINE}, ("d",), faults=(Fault(79, 5.0, "bus"),)), 5.0, RULES)
    assert [(each.device, each.use, each.reason) for each in found] == [(NODE, Use.CORDONED, "XID 79 (bus)")]


def test_xid_31_twice_in_a_day_is_to_be_diagnosed() -> None:
    card = Card()
    card.hears(31)
    card.see(FINE, rounds=100, every_s=100.0)
    assert {each.advice for each in card.hears(31)} == {Advice.WATCH_JOB.value, Advice.DIAGNOSE.value}
    other = Card()
    other.hears(31)
    other.see(FINE, rounds=100, every_s=1000.0)
    assert [each.advice for each in other.hears(31)] == [Advice.WATCH_JOB.value]


def test_link_faults_again_and_again_drain_the_device() -> None:
    card = Card()
    assert outcome(card.hears(74)) == (Use.NO_MULTI_DEVICE, Jobs.KEEP)
    card.see(FINE, rounds=10)
    assert outcome(card.hears(74, 149)) == (Use.NO_MULTI_DEVICE, Jobs.KEEP)  # together: once
    card.see(FINE, rounds=10)
    assert outcome(card.hears(150)) == (Use.CORDONED, Jobs.MOVE)


def test_five_bursts_in_a_day_are_for_the_hardware_inspection_and_only_a_word_lifts_it() -> None:
    card = Card()
    for i in range(5):
        assert not any(each.rule == "inspection" for each in card.see(FINE, rounds=10, every_s=100.0)), i
        card.hears(94)
    found = card.see(FINE, rounds=1)
    assert [each.advice for each in found if each.rule == "inspection"] == [Advice.INSPECT.value]
    left = card.see(FINE, rounds=400, every_s=1000.0, boot="b2")
    assert [each.rule for each in left] == ["inspection"]


def test_two_restarts_that_did_not_help_are_for_the_hardware_inspection() -> None:
    card = Card()
    assert [each.rule for each in card.hears(79)] == ["fallen-off-bus"]
    assert card.see(FINE, boot="b2") == []
    assert [each.rule for each in card.hears(79, boot="b2")] == ["fallen-off-bus"]
    assert card.see(FINE, boot="b3") == []
    assert {each.rule for each in card.hears(79, boot="b3")} == {"fallen-off-bus", "inspection"}


def test_a_power_cap_that_software_set_is_no_fault() -> None:
    """It is none of the facts; what is, `throttled`, is only what the hardware does by itself (see test_mapping)."""
    assert Card().see(FINE, rounds=200) == []
