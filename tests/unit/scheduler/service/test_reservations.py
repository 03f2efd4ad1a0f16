"""Reservations: made, refused, kept over restarts, dropped when they are over, and told to the planner."""

from __future__ import annotations

import pytest

from scheduler.core.decisions import AdvanceReservation, Policy, TenantPolicy
from scheduler.core.demand import Demand
from scheduler.errors import BadInput, Conflict, Forbidden, NotFound
from scheduler.ports import Json, Principal, Reservation, ReservationRequest
from scheduler.service.reserving import window
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import HOSPITAL, OPERATOR, STUDIO, Make, World, service_spec, spec

HOUR, DAY = 3_600.0, 86_400.0


@pytest.fixture
def site(make: Make) -> World:
    """Three nodes of one device, and one of another model."""
    return make(*(node_facts(f"n{i}", 1) for i in range(3)), node_facts("a0", 1, model="A100"))


def reserve(world: World, name: str = "night", start: float = HOUR, lasts: float = HOUR, **more: object) -> Json:
    """From `start` seconds from now."""
    given: dict[str, object] = {
        "nodes": ("n0",),
        "count": 0,
        "device": None,
        "every_s": None,
        "reason": "bench",
        **more,
    }
    start_s = world.clock.now_s() + start
    wanted = ReservationRequest(name=name, start_s=start_s, end_s=start_s + lasts, **given)  # type: ignore[arg-type]
    made = world.service.reserve(wanted, OPERATOR)
    world.run()
    return made


def told(world: World) -> list[tuple[str, float, float]]:
    """What the planner knows: name, and from and until when, in seconds from now."""
    now_s = world.clock.now_s()
    policy = world.service.loop._state.policy
    return [(each.name, each.start_s - now_s, each.end_s - now_s) for each in policy.reservations]


def test_a_reservation_is_told_to_the_planner_shown_and_dropped_when_it_is_over(site: World) -> None:
    made = reserve(site, nodes=("n0", "n1"))
    assert (made["state"], made["nodes"], made["by"], made["jobs"]) == ("upcoming", ["n0", "n1"], "wang", [])
    start_s = site.clock.now_s() + HOUR
    policy = site.service.loop._state.policy
    assert policy.reservations == (AdvanceReservation("night", ("n0", "n1"), start_s, start_s + HOUR, "bench"),)
    shown = {node["name"]: node["reservations"] for node in site.service.nodes(OPERATOR)["nodes"]}
    entry = {"name": "night", "start_s": start_s, "end_s": start_s + HOUR, "reason": "bench"}
    assert shown == {"a0": [], "n0": [entry], "n1": [entry], "n2": []}
    site.pass_time(HOUR)
    assert [view["state"] for view in site.service.reservations(OPERATOR)["reservations"]] == ["active"]
    site.pass_time(HOUR)
    assert site.service.reservations(OPERATOR) == {"reservations": []}
    assert (told(site), site.store.reservations()) == ([], [])


def test_it_survives_a_restart_and_ends_while_nobody_looks(site: World) -> None:
    reserve(site)
    reserve(site, "day", start=5 * HOUR)
    assert told(site.restart()) == [("night", HOUR, 2 * HOUR), ("day", 5 * HOUR, 6 * HOUR)]
    site.kill_service()
    site.clock.advance(3 * HOUR)
    assert told(site.start_service().run()) == [("day", 2 * HOUR, 3 * HOUR)]
    assert [each.name for each in site.store.reservations()] == ["day"]


def test_one_that_comes_again_moves_on_and_stays(site: World) -> None:
    reserve(site, every_s=DAY)
    assert told(site) == [("night", HOUR, 2 * HOUR)]
    site.pass_time(2 * HOUR)
    assert told(site) == [("night", 23 * HOUR, 24 * HOUR)]
    assert site.service.reservations(OPERATOR)["reservations"][0]["every_s"] == DAY
    site.kill_service()
    site.clock.advance(10 * DAY + 23.5 * HOUR)
    assert told(site.start_service().run()) == [("night", -0.5 * HOUR, 0.5 * HOUR)]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (0.0, (100.0, 110.0)),
        (105.0, (100.0, 110.0)),
        (110.0, (150.0, 160.0)),
        (149.0, (150.0, 160.0)),
        (160.0, (200.0, 210.0)),
    ],
)
def test_windows(now: float, expected: tuple[float, float]) -> None:
    again = Reservation("r", ("n",), 100.0, 110.0, "", "", 0.0, 50.0)
    assert window(again, now) == expected
    once = Reservation("r", ("n",), 100.0, 110.0, "", "", 0.0)
    assert window(once, now) == ((100.0, 110.0) if now < 110 else None)


def test_cancelling_gives_the_nodes_back(site: World) -> None:
    reserve(site)
    assert site.service.cancel_reservation("night", OPERATOR)["nodes"] == ["n0"]
    assert (told(site.run()), site.store.reservations()) == ([], [])
    with pytest.raises(NotFound, match="there is no reservation night; there are: none"):
        site.service.cancel_reservation("night", OPERATOR)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"nodes": ("n9",)}, NotFound, "there is no node n9"),
        ({"name": "day"}, Conflict, "there is a reservation day already"),
        ({"name": "list"}, BadInput, "a word of `suanli reserve`"),
        ({"lasts": 0.0}, BadInput, "ends after it starts"),
        ({"start": -2 * HOUR}, BadInput, "would be over already"),
        ({"every_s": 60.0}, BadInput, "cannot come again every 60 s"),
        ({"nodes": ("n1",), "start": 4.5 * HOUR}, Conflict, "node n1 is reserved for day at that time"),
        ({"nodes": ("n1",), "start": HOUR, "every_s": 4 * HOUR}, Conflict, "node n1 is reserved for day"),
        ({"nodes": (), "count": 2, "device": "A100"}, Conflict, "1 nodes with A100 are free"),
        ({"nodes": (), "count": 1, "device": "H200"}, Conflict, "0 nodes with H200"),
    ],
)
def test_what_cannot_be_reserved(site: World, given: dict[str, object], error: type[Exception], said: str) -> None:
    reserve(site, "day", start=5 * HOUR, nodes=("n1",))
    with pytest.raises(error, match=said):
        reserve(site, **given)  # type: ignore[arg-type]
    assert [each.name for each in site.store.reservations()] == ["day"]


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ({"start": 1 * HOUR}, {"start": 2 * HOUR}, False),
        ({"start": 1 * HOUR}, {"start": 1.5 * HOUR}, True),
        ({"start": 1 * HOUR, "every_s": DAY}, {"start": 49 * HOUR}, True),
        ({"start": 1 * HOUR, "every_s": DAY}, {"start": 50 * HOUR}, False),
        ({"start": 1 * HOUR, "every_s": DAY}, {"start": 250.5 * HOUR - 9 * HOUR, "every_s": DAY}, True),
        ({"start": 1 * HOUR, "every_s": DAY}, {"start": 3 * HOUR, "every_s": DAY}, False),
    ],
)
def test_reservations_that_meet(site: World, one: dict[str, float], other: dict[str, float], meet: bool) -> None:
    for first, second in ((one, other), (other, one)):
        reserve(site, "a", **first)  # type: ignore[arg-type]
        if meet:
            with pytest.raises(Conflict, match="node n0 is reserved for a"):
                reserve(site, "b", **second)  # type: ignore[arg-type]
        else:
            reserve(site, "b", **second)  # type: ignore[arg-type]
            site.service.cancel_reservation("b", OPERATOR)
        site.service.cancel_reservation("a", OPERATOR)


def test_nodes_are_chosen_by_model_and_by_when_they_are_free(site: World) -> None:
    long, short = site.submit(spec(time_limit_s=9 * HOUR), spec(time_limit_s=60.0))
    stands = {job: site.view(job)["workers"][0]["node"] for job in (long, short)}
    assert set(stands.values()) < {"n0", "n1", "n2", "a0"}
    made = reserve(site, nodes=(), count=2, device="H100 SXM")
    assert stands[long] not in made["nodes"]
    assert made["running_past_start"] == []
    with pytest.raises(Conflict, match="1 nodes with H100 SXM are free"):
        reserve(site, "more", nodes=(), count=2, device="H100 SXM")


def test_what_may_still_run_when_it_starts_is_said(site: World) -> None:
    jobs = site.submit(*(spec(time_limit_s=9 * HOUR) for _ in range(4)))
    made = reserve(site)
    assert len(made["running_past_start"]) == 1
    assert made["running_past_start"][0] in jobs


def test_tenants_look_and_see_their_own_jobs_alone(site: World) -> None:
    reserve(site)
    theirs = site.one(tenant="hospital", reservation="night", time_limit_s=60.0)
    mine = site.one(reservation="night", time_limit_s=60.0)
    (view,) = site.service.reservations(OPERATOR)["reservations"]
    assert view["jobs"] == [theirs, mine]
    (view,) = site.service.reservations(STUDIO)["reservations"]
    assert view["jobs"] == [mine]
    with pytest.raises(Forbidden, match="only operators may reserve nodes"):
        site.service.reserve(ReservationRequest("x", ("n0",), 0, None, 1.0, 2.0, ""), STUDIO)
    with pytest.raises(Forbidden):
        site.service.cancel_reservation("night", STUDIO)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"reservation": "nigth"}, "there is no reservation nigth; there are: night"),
        (
            {"reservation": "night", "time_limit_s": 2 * HOUR},
            "lasts 60 min|lasts 1 h, and the job has a time_limit of 2 h",
        ),
    ],
)
def test_a_job_for_a_reservation_that_cannot_take_it(site: World, given: dict[str, object], said: str) -> None:
    reserve(site)
    with pytest.raises(BadInput, match=said) as caught:
        site.one(**given)
    assert caught.value.field == "reservation"
    with pytest.raises(BadInput, match="no time limit"):
        site.submit(service_spec(reservation="night"))


def test_only_those_that_a_reservation_is_for_may_name_it(site: World) -> None:
    reserve(site, "shared", nodes=("n0",), tenants=("studio",))
    reserve(site, "fans", nodes=("n1",))
    views = site.service.reservations(STUDIO)["reservations"]
    assert [(view["name"], view["tenants"]) for view in views] == [("fans", []), ("shared", ["studio"])]

    def submit(name: str, tenant: str, by: Principal) -> None:
        site.submit(spec(tenant=tenant, reservation=name, time_limit_s=60.0), by=by)

    def refused(name: str, tenant: str, by: Principal, said: str) -> None:
        for ask in (site.service.submit, lambda specs, by: site.service.dry_run(specs[0], by)):
            with pytest.raises(Forbidden, match=said) as caught:
                ask([spec(tenant=tenant, reservation=name, time_limit_s=60.0)], by)
            assert caught.value.field == "reservation"

    submit("shared", "studio", STUDIO)
    submit("shared", "hospital", OPERATOR)
    submit("fans", "studio", OPERATOR)
    refused("shared", "hospital", HOSPITAL, "shared is for tenant studio; tenant hospital cannot submit to it")
    refused("fans", "studio", STUDIO, "reservation fans is for operators' jobs alone")
    site.restart()
    refused("shared", "hospital", HOSPITAL, "is for tenant studio")
    submit("shared", "studio", STUDIO)
    assert len(site.store.live_jobs()) == 4


def test_a_reservation_for_a_tenant_that_is_none(make: Make) -> None:
    world = make(node_facts("n0", 1), policy=Policy(tenants={"studio": TenantPolicy()}))
    with pytest.raises(BadInput, match="there is no tenant studoi; there are: studio") as caught:
        reserve(world, tenants=("studoi",))
    assert (caught.value.field, world.store.reservations()) == ("tenants", [])
    assert reserve(world, tenants=("studio",))["tenants"] == ["studio"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"alternatives": (Demand(model="H100 SXM"),)}, None),
        ({"alternatives": (Demand(devices=2), Demand(model="A100"))}, None),
        ({"workers": 2}, None),
        (
            {"alternatives": (Demand(model="A100"),), "reservation": "night"},
            "of reservation night can never take 1 worker of 1 x A100: n0, n1 have 1 x H100 SXM, [0-9]+ CPUs, .* each$",
        ),
        ({"workers": 4}, "night can never take 4 workers of .*: n0, n1 have 1 x H100 SXM, .* each; a0 has 1 x A100,"),
    ],
)
def test_a_job_that_the_nodes_of_its_reservation_can_never_take_is_refused(
    site: World, given: dict[str, object], said: str | None
) -> None:
    """The cluster could take it, so it was accepted, and waited for ever."""
    reserve(site, nodes=("n0", "n1") if "reservation" in given else ("n0", "n1", "a0"))
    wanted = {"time_limit_s": 60.0, **given, "reservation": "night"}
    if said is None:
        site.one(**wanted)
        return
    with pytest.raises(BadInput, match=said) as caught:
        site.one(**wanted)
    assert caught.value.field == "reservation"
    assert site.store.live_jobs() == []


def test_of_the_jobs_that_name_a_reservation_those_that_wait_are_told_apart(site: World) -> None:
    reserve(site, start=0.0)
    running, waiting = (site.one(reservation="night", time_limit_s=60.0) for _ in range(2))
    view = site.service.cancel_reservation("night", OPERATOR)
    assert (view["jobs"], view["waiting"]) == ([running, waiting], [waiting])


def test_a_job_of_a_reservation_starts_when_it_begins_and_others_keep_off(site: World) -> None:
    reserve(site, nodes=("n0", "n1"), reason="nightly benchmark")
    bench = site.one(name="bench", reservation="night", time_limit_s=60.0, alternatives=(Demand(model="H100 SXM"),))
    long = [site.one(time_limit_s=2 * HOUR, alternatives=(Demand(model="H100 SXM"),)) for _ in range(2)]
    short = site.one(time_limit_s=60.0, alternatives=(Demand(model="H100 SXM"),))
    where = {job: [worker["node"] for worker in site.view(job)["workers"]] for job in (bench, *long, short)}
    assert (where[bench], where[long[0]], where[long[1]]) == ([], ["n2"], [])
    assert where[short][0] in ("n0", "n1")  # over before it begins
    assert "reservation night begins in 3600 s" in site.service.why(bench, OPERATOR)["text"]
    assert site.view(long[1])["reason"]["kind"] == "nodes_reserved"
    site.engine.exit(short)
    site.run().pass_time(HOUR - 1)
    assert site.words(bench, long[1]) == "pending pending"
    site.pass_time(1)
    assert site.view(bench)["workers"][0]["node"] in ("n0", "n1")
    site.engine.exit(bench)
    site.run().pass_time(HOUR - 1)
    assert site.words(bench, long[1]) == "succeeded pending"
    site.pass_time(1)
    assert site.words(long[1]) == "running"


def test_cancelling_a_reservation_starts_what_it_kept_waiting(site: World) -> None:
    reserve(site, nodes=("n0", "n1", "n2"))
    job = site.one(time_limit_s=2 * HOUR, alternatives=(Demand(model="H100 SXM"),))
    assert site.words(job) == "pending"
    site.service.cancel_reservation("night", OPERATOR)
    assert site.run().words(job) == "running"
