"""More of what the fault simulation found in the service, in another eight thousand seeds: stories that ended badly."""

from __future__ import annotations

import pytest

from node_agent.messages import Stop
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import OPERATOR, Make, service_spec


@pytest.mark.parametrize("old_has_gone", [True, False])
def test_a_replacement_that_answers_while_its_service_is_stopped_replaces_nothing(
    make: Make, old_has_gone: bool
) -> None:
    """Seed 203606. Its node was drained, the service preempted, and the replacement's first answer came late. The
    replica that it was to replace was then let go as if the service ran: an assertion struck, and nothing of the news
    was kept. Where the old one lived still, it was told a second time to go, as if scaled down."""
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    (job,) = world.submit(service_spec())
    world.engine.ready(job)
    (old,) = world.run().engine.live(job)
    world.service.drain(old.node, OPERATOR, reason="fan")
    world.run()
    (new,) = [key for key in world.engine.live(job) if key != old]
    world.engine.stubborn.add(job)
    world.service.cancel(job, OPERATOR, reason="")
    world.run()
    if old_has_gone:
        world.engine.end(old, "signal", 9)
    world.run()
    told = len(world.sent(Stop))
    world.engine.ready(job, new.worker)
    world.run().no_bugs()
    assert "ready" in world.events(job).split()
    assert "releasing" not in world.events(job).split()
    assert len(world.sent(Stop)) == told
    world.pass_time(60)
    assert (world.words(job), world.engine.live(job), world.used_milli()) == ("cancelled", [], 0)
    world.no_bugs()
