"""Before the site goes down, what runs saves its work and goes back to the queue; nothing starts any more."""

from __future__ import annotations

import pytest

from node_agent.messages import Prepare, Stop
from scheduler.errors import Forbidden
from tests.fakes.service_world import OPERATOR, STUDIO, VIEWER, World


def test_what_runs_is_asked_to_save_and_is_requeued_and_nothing_starts(world: World) -> None:
    job = world.one(devices=4, saves=True)
    world.engine.saves.add(job)
    world.engine.stubborn.add(job)  # so that it takes its time to go
    assert world.words(job) == "running"
    asked = world.service.close_down(OPERATOR)
    assert asked["running"] == 1
    (stop,) = world.sent(Stop)
    assert stop.checkpoint
    later = world.one(devices=1)
    world.pass_time(60)
    assert world.words(job, later) == "pending pending"
    assert world.view(job)["reason"]["text"] == "requeued: the site was taken down"
    assert world.service.close_down(OPERATOR) == {"running": 0}
    before = len(world.sent(Prepare))
    world.restart()
    world.run()
    assert world.words(job, later) == "running pending"
    newest = world.sent(Prepare)[before]
    assert (newest.key.attempt, newest.spec.resume_from) == (2, f"/ck/{job}/attempt-1")
    assert world.job(job).failures == 0


@pytest.mark.parametrize("by", [VIEWER, STUDIO])
def test_only_an_operator_takes_the_site_down(world: World, by: object) -> None:
    with pytest.raises(Forbidden):
        world.service.close_down(by)  # type: ignore[arg-type]
