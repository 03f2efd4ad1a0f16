"""What the configuration says of every run reaches the nodes with it."""

from __future__ import annotations

from node_agent.messages import Prepare, Stop
from scheduler.core.jobs import Checkpoint
from scheduler.service.dispatch import RunSettings
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import HOSPITAL, STUDIO, World, spec

SETTINGS = RunSettings(unix_users={"hospital": "h-jobs"}, log_cap_bytes=5 << 20, log_keep_s=3600.0)


def test_each_run_is_told_its_tenant_s_user_and_how_its_logs_are_kept() -> None:
    world = World(run_settings=SETTINGS)
    world.submit(spec(tenant="hospital"), by=HOSPITAL)
    world.submit(spec(tenant="studio"), by=STUDIO)
    told = [prepare.spec for prepare in world.sent(Prepare)]
    assert [(each.tenant, each.unix_user) for each in told] == [("hospital", "h-jobs"), ("studio", None)]
    assert {(each.log_cap_bytes, each.log_keep_s) for each in told} == {(5 << 20, 3600.0)}


def test_a_service_that_starts_again_tells_the_same() -> None:
    world = World(run_settings=SETTINGS)
    world.restart()
    world.submit(spec(tenant="hospital"), by=HOSPITAL)
    assert world.sent(Prepare)[-1].spec.unix_user == "h-jobs"


def test_a_job_is_asked_to_save_as_its_file_says() -> None:
    world = World(node_facts("n1", 1))
    checkpoint = Checkpoint("/ck", 40.0, "SIGUSR2", 2.0)
    victim = world.submit(spec(checkpoint=checkpoint, priority=0))[0]
    world.clock.advance(3600.0)
    world.one(priority=90)
    (stop,) = world.sent(Stop)
    assert stop.key.job_id == victim
    assert (stop.checkpoint, stop.grace_s, stop.checkpoint_signal, stop.kill_wait_s) == (True, 40.0, "SIGUSR2", 2.0)
    assert world.sent(Prepare)[0].spec.checkpoint_signal == "SIGUSR2"
