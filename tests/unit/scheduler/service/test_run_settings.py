"""What the configuration says of every run reaches the nodes with it."""

from __future__ import annotations

from node_agent.messages import Prepare
from scheduler.service.dispatch import RunSettings
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
