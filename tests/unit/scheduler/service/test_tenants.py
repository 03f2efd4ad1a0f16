"""`suanli tenants`: what each tenant may hold, holds and has held, in the numbers that the planner goes by."""

from __future__ import annotations

import pytest

from scheduler.api.site_models import TenantsAnswer
from scheduler.core.decisions import Policy, TenantPolicy
from scheduler.core.demand import Demand
from scheduler.ports import Json
from scheduler.service.tenants import tenants_view
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import HOSPITAL, OPERATOR, STUDIO, VIEWER, Make, World

HALF_LIFE_S = 3_600.0
REHEARSAL = (Demand(devices=1, simulated=True),)


@pytest.fixture
def site(make: Make) -> World:
    """Four devices, of which a tenant is guaranteed one."""
    limits = TenantPolicy(
        weight=2.0, guaranteed_milli=1_000, maximum_milli=3_000, max_running_jobs=3, max_queued_jobs=9
    )
    idle = TenantPolicy(max_queued_milli=64_000)
    return make(node_facts("n1", 4), policy=Policy(tenants={"studio": limits, "idle": idle}), half_life_s=HALF_LIFE_S)


def tenants(world: World) -> dict[str, Json]:
    answer = world.service.tenants(OPERATOR)
    TenantsAnswer.model_validate(answer)
    return {view["name"]: view for view in answer["tenants"]}


def test_what_a_tenant_holds_waits_for_and_has_used(site: World) -> None:
    site.one(devices=2, time_limit_s=9e9)
    waiting = site.one(devices=2)
    site.one(devices=1, after=(waiting,))
    site.pass_time(HALF_LIFE_S)
    studio = tenants(site)["studio"]
    real = studio.pop("real")
    assert studio == {
        "name": "studio",
        "weight": 2.0,
        "guaranteed_milli": 1_000,
        "maximum_milli": 3_000,
        "max_running_jobs": 3,
        "max_queued_jobs": 9,
        "max_queued_milli": None,
        "running_jobs": 1,
        "queued_jobs": 2,
        "simulated": None,
    }
    assert (real["held_milli"], real["borrowed_milli"], real["queued_milli"]) == (2_000, 1_000, 3_000)
    assert real["held_share"] == 0.5
    assert real["usage"] == pytest.approx(0.25, abs=0.001)
    assert real["standing"] == pytest.approx((0.25 + 0.5) / 2 / 2, abs=0.001)


def test_usage_is_that_of_now_and_looking_changes_nothing(site: World) -> None:
    site.one(devices=2, time_limit_s=9e9)
    state = site.service.loop._state
    before = dict(state.usage.averages)
    (studio,) = tenants_view(state, site.clock.now_s() + HALF_LIFE_S, tenant="studio")["tenants"]
    assert studio["real"]["usage"] == pytest.approx(0.25, abs=0.001)
    assert dict(state.usage.averages) == before


def test_the_one_whose_turn_is_next_is_first_also_one_that_is_not_configured(site: World) -> None:
    site.one(devices=1, time_limit_s=9e9)
    site.one(devices=2, tenant="hospital", time_limit_s=9e9)
    assert list(tenants(site)) == ["idle", "studio", "hospital"]


def test_rehearsals_are_shown_apart_also_when_they_are_over(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("sim", 3, simulated=True))
    jobs = [world.one(alternatives=REHEARSAL, time_limit_s=9e9) for _ in range(2)]
    world.pass_time(HALF_LIFE_S)
    studio = tenants(world)["studio"]
    assert (studio["real"]["held_milli"], studio["simulated"]["held_milli"]) == (0, 2_000)
    assert (studio["real"]["usage"], studio["running_jobs"]) == (0.0, 2)
    for job in jobs:
        world.engine.exit(job)
    world.run()
    studio = tenants(world)["studio"]
    assert (list(tenants(world)), studio["simulated"]["held_milli"]) == (["studio"], 0)
    assert studio["simulated"]["usage"] == pytest.approx(0.25, abs=0.001)


def test_a_tenant_sees_itself_alone(site: World) -> None:
    site.one(tenant="hospital")
    seen = {
        by.name: [each["name"] for each in site.service.tenants(by)["tenants"]] for by in (STUDIO, HOSPITAL, VIEWER)
    }
    assert seen == {"li": ["studio"], "zhao": ["hospital"], "guest": ["idle", "studio", "hospital"]}
