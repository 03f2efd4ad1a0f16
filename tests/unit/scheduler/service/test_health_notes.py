"""What nights and checks hold against a node that is away outlives the service; so does the word that it is mended."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.health.rules import CHECKS, DEFAULT_RULES, NIGHTS
from node_agent.health.verdicts import Finding, Jobs, Lifts, Use
from node_agent.messages import Noted
from scheduler.errors import Conflict, SuanliError
from scheduler.ports import HealthNotes
from scheduler.service import health_notes
from scheduler.service.health_book import HealthSettings
from scheduler.service.keeping import Keeping
from scheduler.service.outcome import Outcome
from tests.fakes.fake_engine import node_facts
from tests.fakes.fake_store import FakeStore
from tests.fakes.service_world import OPERATOR, Make, World

RULE = "slow-than-like"
BARS = HealthSettings(rules={**DEFAULT_RULES, RULE: replace(DEFAULT_RULES[RULE], use=Use.NO_NEW_WORK)})


class Killed(BaseException):
    """SIGKILL."""


def two_nodes(make: Make, health: HealthSettings | None = None) -> World:
    return make(node_facts("n1", 1), node_facts("n2", 1), health=health or HealthSettings())


def night(world: World, *devices: str, run: str = "night 1") -> list[str]:
    """Flags these; gives those that no node has."""
    said = [{"device": each, "rule": RULE, "text": "12% slower than its like", "since_s": 5.0} for each in devices]
    ignored = world.service.flag_devices(run, said, OPERATOR)["ignored"]
    world.run()
    return list(ignored)


def away(world: World, node: str = "n2") -> World:
    world.engine.vanish(node)
    return world.run()


def back(world: World, node: str = "n2") -> World:
    world.engine.come_back(node)
    return world.run()


def found(world: World, node: str = "n2") -> list[str]:
    return [each["reason"] for each in world.service.node(node, OPERATOR)["health"]]


def kept_by_agent(world: World, node: str = "n2") -> list[str]:
    return [each.reason for each in world.engine.noted.get(node, {}).get(NIGHTS, ())]


FIRST = "12% slower than its like (night 1)"


# ---- a node that is away ---------------------------------------------------------------------------------------------


def test_a_flag_waits_for_its_node_over_a_restart(make: Make) -> None:
    world = two_nodes(make)
    away(world)
    night(world, "n2-dev0")
    world.restart()
    assert world.engine.noted == {}
    back(world)
    assert (found(world), kept_by_agent(world)) == ([FIRST], [FIRST])
    assert len([each for each in world.sent(Noted) if each.node == "n2"]) == 2  # once into the void
    back(away(world.restart()))
    assert (found(world), kept_by_agent(world)) == ([FIRST], [FIRST])


def test_it_keeps_work_off_from_the_moment_that_its_node_is_back(make: Make) -> None:
    """Its devices are known by name alone until then: the story of a flag that was shown and not heeded."""
    world = two_nodes(make, BARS)
    away(world)
    night(world, "n2-dev0")
    world.restart()
    first = world.one()
    assert world.job(first).state.workers[0].placement.node == "n1"  # type: ignore[union-attr]
    second = world.one()
    back(world)
    assert world.words(first, second) == "running pending"
    assert "12% slower" in str(world.service.why(second, OPERATOR))
    world.service.resume("n2", OPERATOR)
    assert world.run().words(second) == "running"


def test_what_was_said_while_it_was_away_counts_for_more_than_what_it_kept(make: Make) -> None:
    world = two_nodes(make)
    night(world, "n2-dev0")
    away(world)
    night(world, "n2-dev0", run="night 2")
    back(world.restart())
    assert found(world) == kept_by_agent(world) == ["12% slower than its like (night 2)"]


def test_the_next_night_finds_the_node_that_has_not_come_yet(make: Make) -> None:
    """A flag of before is renewed or taken back, though of the node nothing is known but that flag."""
    world = two_nodes(make)
    away(world)
    night(world, "n2-dev0")
    world.restart()
    assert night(world, "n2-dev0", "nobody", run="night 2") == ["nobody"]
    world.restart()
    assert world.store.health_notes()[-1].findings[0].reason.endswith("(night 2)")
    assert night(world, run="night 3") == []
    back(world.restart())
    assert (found(world), kept_by_agent(world)) == ([], [])


def test_what_an_agent_keeps_and_no_store_knows_still_counts(make: Make) -> None:
    """Of an older Suanli, or where the store was begun anew."""
    world = two_nodes(make)
    night(world, "n2-dev0")
    world.store.kept.notes.clear()
    world.restart()
    assert (found(world), kept_by_agent(world)) == ([FIRST], [FIRST])


# ---- an operator's word ----------------------------------------------------------------------------------------------


def test_mended_is_mended_over_restarts(make: Make) -> None:
    world = two_nodes(make)
    away(world)
    night(world, "n2-dev0")
    back(world.restart())
    world.service.resume("n2", OPERATOR)
    world.run()
    for _ in range(2):
        assert (found(world), kept_by_agent(world)) == ([], [])
        back(away(world.restart()))
    with pytest.raises(Conflict, match="nothing is found wrong"):
        world.service.resume("n2", OPERATOR)


def test_a_node_that_slept_through_it_is_told_by_the_next_service(make: Make) -> None:
    world = two_nodes(make)
    night(world, "n2-dev0")
    away(world)
    world.service.resume("n2", OPERATOR)
    world.run().restart()
    assert kept_by_agent(world) == [FIRST]
    back(world)
    assert (found(world), kept_by_agent(world)) == ([], [])


# ---- kills, and a store that fails -----------------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [False, True])
def test_killed_around_the_write(make: Make, durable: bool) -> None:
    """Who posted it has no answer: before the write nothing of it is there, after it all of it."""
    world = two_nodes(make)

    def kill(what: str) -> None:
        if what == "set_health_notes":
            raise Killed

    setattr(world.store, "after_write" if durable else "before_write", kill)
    with pytest.raises(Killed):
        night(world, "n1-dev0", "n2-dev0")
    assert world.sent(Noted) == []
    world.store.after_write = world.store.before_write = None
    world.restart()
    for node in ("n1", "n2"):
        assert found(world, node) == kept_by_agent(world, node) == ([FIRST] if durable else [])


def test_no_agent_is_told_what_the_store_does_not_have(make: Make) -> None:
    world = two_nodes(make)
    world.store.full = True
    with contextlib.suppress(SuanliError):
        night(world, "n2-dev0")
    assert world.sent(Noted) == []
    world.store.full = False
    world.pass_time(10.0)
    assert found(world) == kept_by_agent(world) == [each.findings[0].reason for each in world.store.health_notes()]


def test_one_word_that_cannot_be_stored_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Picky(FakeStore):
        def set_health_notes(self, notes: Sequence[HealthNotes]) -> None:
            if any(each.node == "n1" for each in notes):
                raise ValueError("cannot be encoded")
            super().set_health_notes(notes)

    out = Outcome()
    for node in ("n1", "n2"):
        out.note(HealthNotes(node, NIGHTS, ()))
    keeping = Keeping(out)
    store = Picky()
    with caplog.at_level(logging.ERROR):
        keeping.keep(store)
    assert [each.node for each in store.health_notes()] == ["n2"]
    assert (keeping.bugs, keeping.answer() is None) == (1, False)
    assert "node n1: what nights hold against it is as before when the service restarts" in caplog.text


# ---- how much --------------------------------------------------------------------------------------------------------


def finding(index: int, use: Use = Use.SCHEDULABLE, reason: str = "slow") -> Finding:
    return Finding(f"dev{index}", "check-slow", use, Jobs.KEEP, Lifts.ALONE, reason, "compare", float(index))


def test_of_too_many_the_worst_and_oldest_are_kept_and_a_reason_has_an_end(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    world = make()
    many = [finding(index) for index in range(health_notes.MOST_FINDINGS + 5)]
    many[-1] = finding(9_999, Use.NO_NEW_WORK, "x" * 5_000)
    out = Outcome()
    with caplog.at_level(logging.WARNING):
        health_notes.note(world.service.loop.state, out, "n1", CHECKS, many)
    (kept,) = out.notes.values()
    wanted = [*range(health_notes.MOST_FINDINGS - 1), 9_999]
    assert [each.device for each in kept.findings] == [f"dev{index}" for index in wanted]
    assert kept.findings[-1].reason == "x" * (health_notes.LONGEST_REASON - 1) + "…"
    assert "node n1: checks hold 517 things against it; the worst 512 are kept" in caplog.text
    again = Outcome()
    health_notes.note(world.service.loop.state, again, "n1", CHECKS, many)
    assert (again.notes, again.commands) == ({}, {})  # the same, cut the same way, is no news


# ---- whatever happens ------------------------------------------------------------------------------------------------

DEVICES = ("n1-dev0", "n1-dev1", "n2-dev0")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["night", "restart", "kill before", "kill after", "vanish", "back", "resume"]),
            st.lists(st.sampled_from(DEVICES), max_size=3, unique=True),
        ),
        max_size=10,
    )
)
def test_the_last_word_that_was_committed_counts(steps: list[tuple[str, list[str]]]) -> None:
    """Whatever dies in between: once all nodes are back, service, store and agents say what was said last."""
    world = World(node_facts("n1", 2), node_facts("n2", 1), health=HealthSettings())
    held: set[str] = set()

    def flags(devices: list[str], name: str) -> set[str]:
        ignored = set(night(world, *devices, run=name))
        assert not ignored & held  # whom a flag stands against is known
        return set(devices) - ignored

    def killed(hook: str, devices: list[str]) -> bool:
        """Whether there was anything to write, so that it was killed there."""

        def kill(what: str) -> None:
            if what == "set_health_notes":
                raise Killed

        setattr(world.store, hook, kill)
        try:
            night(world, *devices, run="killed")
        except Killed:
            return True
        finally:
            setattr(world.store, hook, None)
            world.restart()
        return False

    for at, (step, devices) in enumerate(steps):
        if step == "night":
            held = flags(devices, str(at))
        elif step == "restart":
            world.restart()
        elif step == "kill before":
            killed("before_write", devices)
        elif step == "kill after":
            known = held | {each for each in DEVICES if each[:2] in world.service.loop.state.cluster}
            if killed("after_write", devices):
                held = known & set(devices)
        elif step == "vanish" and world.engine.nodes["n2"].reachable:
            away(world)
        elif step == "back":
            back(world)
        elif step == "resume" and "n2" in world.service.loop.state.cluster:
            with contextlib.suppress(Conflict):  # nothing is found there
                world.service.resume("n2", OPERATOR)
            held -= {"n2-dev0"}
        world.run()
    back(world)
    of = {each.key: {finding.device for finding in each.findings} for each in world.store.health_notes()}
    for node in ("n1", "n2"):
        wanted = {each for each in held if each.startswith(node)}
        shown: list[dict[str, Any]] = world.service.node(node, OPERATOR)["health"]
        assert {each["uuid"] for each in shown} == wanted
        assert {each.device for each in world.engine.noted.get(node, {}).get(NIGHTS, ())} == wanted
        assert of.get((node, NIGHTS), set()) == wanted
    world.no_bugs()
