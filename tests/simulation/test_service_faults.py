"""Services whose versions take over while the service is killed, gateways fall silent and nodes die."""

from __future__ import annotations

import pytest

from scheduler.core.rollout import Deployed
from scheduler.simulation.faults.chance import story_of
from scheduler.simulation.faults.world import World

RATES = {
    "deploy": 4.0,
    "kill_service": 3.0,
    "go_back": 1.0,
    "undeploy": 0.3,
    "quiet": 1.0,
    "silence_gateway": 0.5,
    "fail_writes": 0.5,
    "cut_off": 0.5,
    "kill_node": 0.3,
}
SEEDS = 16


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_promise_is_broken(seed: int) -> None:
    run = World(story_of(seed, RATES)).run()
    assert run.violation is None, run.violation


def test_these_stories_have_versions_that_take_over_and_some_that_are_given_up() -> None:
    seen: set[str] = set()
    for seed in range(SEEDS):
        world = World(story_of(seed, RATES))
        world.run()
        seen |= {event.event for event in world.disk.kept.events}
        if {"rollout_step", "promoted", "rolled_back", "scaled"} <= seen:
            return
    raise AssertionError(seen)


def test_a_service_whose_requests_go_nowhere_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Deployed.weight

    def wrong(self: Deployed, number: int) -> int:
        """After a second version has failed nobody has any part."""
        return 0 if any(each.state == "rolled back" for each in self.versions) else right(self, number)

    monkeypatch.setattr(Deployed, "weight", wrong)
    runs = (World(story_of(seed, RATES)).run() for seed in range(SEEDS))
    found = next(run.violation for run in runs if run.violation is not None)
    assert found.promise == "routed"
