"""Debounce, hysteresis, what lifts a finding, and what holds whatever is seen."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.health import (
    DeviceFacts,
    Fault,
    Finding,
    HealthRules,
    HealthState,
    Lifts,
    Missing,
    Recovery,
    Round,
    Signal,
    Use,
    cleared,
    judge,
)
from node_agent.health.keeping import from_text, to_text
from tests.fakes.examples import examples

RULES = HealthRules()


def hot(celsius: float, now_s: float) -> Round:
    return Round({"d": DeviceFacts(read_at_s=now_s, temperature_celsius=celsius)}, ("d",))


def heard(code: int, now_s: float, *, mark: str = "", boot: str = "") -> Round:
    return Round({"d": DeviceFacts(read_at_s=now_s, faults=(Fault(code, now_s),), mark=mark)}, ("d",), boot=boot)


def well(now_s: float, *, mark: str = "", boot: str = "") -> Round:
    return Round({"d": DeviceFacts(read_at_s=now_s, mark=mark)}, ("d",), boot=boot)


def test_while_it_is_too_hot_it_must_cool_down_properly() -> None:
    state = HealthState()
    for now_s in (0.0, 10.0, 20.0):
        state, found = judge(state, hot(91.0, now_s), now_s, RULES)
    assert len(found) == 1
    for step in range(100):
        state, found = judge(state, hot(88.0, 30.0 + 10 * step), 30.0 + 10 * step, RULES)
    assert len(found) == 1  # under the limit, and not cool
    for step in range(31):
        state, found = judge(state, hot(84.0, 2_000.0 + 10 * step), 2_000.0 + 10 * step, RULES)
        assert bool(found) == (step < 30), step


def test_one_noisy_reading_in_good_ones_begins_the_wait_anew() -> None:
    state = HealthState()
    for now_s in (0.0, 10.0, 20.0):
        state, _ = judge(state, hot(91.0, now_s), now_s, RULES)
    state, _ = judge(state, hot(60.0, 30.0), 30.0, RULES)
    state, _ = judge(state, hot(99.0, 320.0), 320.0, RULES)
    state, found = judge(state, hot(60.0, 340.0), 340.0, RULES)
    assert found
    state, found = judge(state, hot(60.0, 639.0), 639.0, RULES)
    assert found
    _, found = judge(state, hot(60.0, 640.0), 640.0, RULES)
    assert not found


def test_one_reading_that_is_seen_in_many_rounds_counts_once() -> None:
    """What is read every 30 s is shown in each of the rounds between."""
    state = HealthState()
    for now_s in range(1, 60):
        taken = {"row_remap_pending": 1.0 if now_s < 40 else 40.0}
        facts = DeviceFacts(read_at_s=float(now_s), row_remap_pending=True, taken=taken)
        state, found = judge(state, Round({"d": facts}, ("d",)), float(now_s), RULES)
        assert bool(found) == (now_s >= 40), now_s


def test_a_reset_lifts_what_a_reset_mends_and_no_more() -> None:
    state, _ = judge(HealthState(), heard(48, 0.0, mark="1", boot="b"), 0.0, RULES)
    state, _ = judge(state, heard(64, 1.0, mark="1", boot="b"), 1.0, RULES)
    state, found = judge(state, well(9e5, mark="1", boot="b"), 9e5, RULES)
    assert [each.rule for each in found] == ["memory-fault", "remap-failure"]
    _, found = judge(state, well(9e5 + 1, mark="2", boot="b"), 9e5 + 1, RULES)
    assert [each.rule for each in found] == ["remap-failure"]
    _, found = judge(state, well(9e5 + 1, boot="c"), 9e5 + 1, RULES)
    assert [each.rule for each in found] == ["remap-failure"]
    _, found = judge(state, well(9e5 + 1), 9e5 + 1, RULES)  # not known whether it was reset
    assert [each.rule for each in found] == ["memory-fault", "remap-failure"]


def test_an_operators_word_lifts_everything_and_forgets_what_led_to_it() -> None:
    state, _ = judge(HealthState(), heard(64, 0.0), 0.0, RULES)
    state, found = judge(cleared(state), well(10.0), 10.0, RULES)
    assert not found
    assert not state.watches


def test_each_contained_fault_is_news() -> None:
    state, first = judge(HealthState(), heard(94, 0.0), 0.0, RULES)
    state, same = judge(state, well(10.0), 10.0, RULES)
    state, again = judge(state, heard(94, 60.0), 60.0, RULES)
    assert [each.since_s for each in (*first, *same, *again)] == [0.0, 0.0, 60.0]
    _, over = judge(state, well(700.0), 700.0, RULES)
    assert not over


def test_a_rule_that_is_switched_off_finds_nothing() -> None:
    rules = HealthRules({name: replace(rule, enabled=False) for name, rule in RULES.rules.items()})
    assert judge(HealthState(), heard(79, 0.0), 0.0, rules)[1] == ()


def test_what_was_found_outlives_the_agent_that_found_it() -> None:
    state, found = judge(HealthState(), heard(79, 5.0, mark="m", boot="b"), 5.0, RULES)
    kept = from_text(to_text(state))
    assert kept is not None
    again, still = judge(kept, well(10.0, mark="m", boot="b"), 10.0, RULES)
    assert still == found
    assert judge(again, well(11.0, boot="c"), 11.0, RULES)[1] == ()


@given(st.text() | st.just('{"version": 1, "now_s": 0, "watches": [{}]}'))
def test_what_is_no_such_text_is_not_believed(text: str) -> None:
    assert from_text(text) is None


# ---- whatever is seen ------------------------------------------------------------------------------------------------


CODES = [13, 31, 48, 64, 74, 79, 94, 200]


def device(now_s: float) -> st.SearchStrategy[DeviceFacts]:
    missing = st.just(Missing("not offered"))
    flag = st.booleans() | missing
    return st.builds(
        DeviceFacts,
        read_at_s=st.none() | st.just(now_s),
        lost=flag,
        reset_required=flag,
        temperature_celsius=st.floats(20.0, 110.0) | missing,
        throttled=flag,
        row_remap_pending=flag,
        row_remap_failed=flag,
        recovery=st.sampled_from(Recovery) | missing,
        vendor_health=st.sampled_from([0.0, 2.0, 3.0]) | missing,
        pre_separate=flag,
        faults=st.lists(st.builds(Fault, st.sampled_from(CODES), st.just(now_s)), max_size=2).map(tuple),
        mark=st.sampled_from(["", "1", "2"]),
    )


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[float, Round]]:
    now_s, told = 0.0, []
    for _ in range(draw(st.integers(1, 12))):
        now_s += draw(st.sampled_from([1.0, 10.0, 61.0, 700.0, 90_000.0]))
        devices = draw(st.dictionaries(st.sampled_from("ab"), device(now_s), max_size=2))
        boot = draw(st.sampled_from(["x", "y", ""]))
        told.append((now_s, Round(devices, ("a", "b"), len(devices), draw(st.just(2) | st.just(Missing(""))), boot)))
    return told


@settings(max_examples=examples(40))
@given(stories())
def test_nothing_acts_on_a_single_reading(story: list[tuple[float, Round]]) -> None:
    """A reading's rule holds only after `count` bad rounds; what the driver reports, and long silence, are no readings.
    The same story gives the same findings, also by way of a file."""
    state, kept = HealthState(), HealthState()
    bad_rounds: dict[tuple[str, str], int] = {}
    before: dict[tuple[str, str], Finding] = {}
    for now_s, seen in story:
        state, found = judge(state, seen, now_s, RULES)
        kept, same = judge(kept, seen, now_s, RULES)
        assert same == found
        for key, watch in state.watches.items():
            if watch.seen_s == now_s:
                bad_rounds[key] = bad_rounds.get(key, 0) + 1
        now = {(each.device, each.rule): each for each in found}
        assert len(now) == len(found)
        for key, finding in now.items():
            rule = RULES.rules.get(finding.rule)
            if rule is None:
                assert finding.use is Use.CORDONED
                continue
            assert bad_rounds[key] >= rule.count or rule.signal is Signal.FAULT
            assert finding.since_s <= now_s
            if key in before and finding.jobs is not finding.jobs.REQUEUE and finding.since_s != now_s:
                assert finding == before[key]  # it stands still while it holds
        for key, finding in before.items():
            if key not in now:
                assert finding.lifts is not Lifts.OPERATOR
        before = now


@settings(max_examples=examples(40))
@given(stories())
def test_the_clock_may_be_set_back(story: list[tuple[float, Round]]) -> None:
    state = HealthState()
    for now_s, seen in reversed(story):
        before_s = state.now_s
        state, _ = judge(state, seen, now_s, RULES)
        assert state.now_s >= before_s
