"""Hold, release, requeue: what somebody says must not start does not, whatever else happens to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from node_agent.messages import Stop
from scheduler.core.demand import Demand
from scheduler.core.jobs import Pending
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import HOSPITAL, OPERATOR, STUDIO, VIEWER, Make, World, service_spec, spec


def hold(world: World, *ids: str, by: Any = OPERATOR, reason: str = "no data yet") -> dict[str, Any]:
    answer = world.service.hold_jobs(ids, by, reason=reason)
    world.run()
    return answer


def release(world: World, *ids: str, by: Any = OPERATOR) -> dict[str, Any]:
    answer = world.service.release_jobs(ids, by)
    world.run()
    return answer


def requeue(world: World, *ids: str, by: Any = OPERATOR, held: bool = False) -> dict[str, Any]:
    answer = world.service.requeue_jobs(ids, by, reason="a better node", hold=held)
    world.run()
    return answer


def said(answer: dict[str, Any]) -> list[str]:
    """Of each id what was done, or the kind and the words of why not."""
    return [row["detail"] or f"{row['error']['type']}: {row['error']['message']}" for row in answer["jobs"]]


def reason(world: World, job_id: str) -> str:
    return world.view(job_id)["reason"]["text"]


# ---- hold and release --------------------------------------------------------------------------------------------


def test_a_held_job_does_not_start_until_it_is_released_also_after_a_restart(world: World) -> None:
    first, second, third = world.submit(*[spec(devices=4)] * 3)
    assert said(hold(world, second)) == ["held"]
    world.engine.exit(first)
    world.run()
    assert world.words(first, second, third) == "succeeded pending running"
    assert reason(world, second) == "held by wang: no data yet"
    world.engine.exit(third)
    world.run().restart().pass_time(120)
    assert world.words(second) == "pending"
    assert reason(world, second) == "held by wang: no data yet"
    text = world.service.why(second, OPERATOR)["text"]
    assert "is pending: held by wang: no data yet\n" in text
    assert "  held          since 2 min ago, by the operator wang\n" in text.replace("120 s", "2 min")
    assert f"  try           suanli release {second} (an operator must)" in text
    assert said(release(world, second)) == ["released"]
    assert world.words(second) == "running"
    assert world.events(second).startswith("submitted held hold_released placed")


def test_what_runs_is_not_held_and_the_answer_says_what_to_do(world: World) -> None:
    (job,) = world.submit(spec())
    (why,) = said(hold(world, job))
    assert why == (
        f"conflict: job {job} is running, and a hold keeps only what waits: take it back with"
        f" `suanli requeue {job} --hold --reason ...`, or end it with `suanli cancel {job}`"
    )
    assert (world.words(job), world.job(job).held) == ("running", None)
    world.engine.exit(job)
    world.run()
    assert said(hold(world, job, "99"))[0].startswith(f"conflict: job {job} has ended already (succeeded)")
    assert said(release(world, "99")) == ["not_found: there is no job 99"]


def test_releasing_what_is_not_held(world: World) -> None:
    _, waits = world.submit(*[spec(devices=4)] * 2)
    assert said(release(world, waits)) == [f"conflict: job {waits} is not held; see: suanli why {waits}"]


def test_the_newest_word_on_a_hold_counts(world: World) -> None:
    _, job = world.submit(*[spec(devices=4)] * 2)
    hold(world, job, by=STUDIO)
    hold(world, job, by=STUDIO, reason="still no data")
    assert reason(world, job) == "held by li: still no data"


def test_a_tenant_does_not_undo_an_operators_hold(world: World) -> None:
    _, mine, others = world.submit(spec(devices=4), spec(), spec(tenant="hospital"))
    hold(world, mine)
    for answer in (release(world, mine, by=STUDIO), hold(world, mine, by=STUDIO, reason="mine")):
        assert said(answer)[0].startswith(f"forbidden: job {mine} is held by the operator wang (no data yet)")
    assert said(hold(world, others, by=STUDIO)) == [f"not_found: there is no job {others}"]
    assert said(hold(world, others, by=HOSPITAL)) == ["held"]
    assert said(release(world, others)) == ["released"]  # an operator may undo any
    with pytest.raises(Exception, match="viewer"):
        hold(world, others, by=VIEWER)


def test_of_an_array_what_waits_is_held(world: World) -> None:
    world.submit(spec(array_size=10))
    world.engine.exit("1.0")
    world.run()
    answer = hold(world, "1")
    assert said(answer) == ["5 tasks held; 4 are left as they are"]
    row = answer["jobs"][0]
    assert (row["tasks"], row["changed"], row["left"], row["ended"]) == (10, 5, 4, 1)
    for task in range(1, 5):
        world.engine.exit(f"1.{task}")
    world.run()
    assert not world.engine.live()
    assert said(release(world, "1")) == ["5 tasks released"]
    assert len(world.engine.live()) == 4
    assert said(release(world, "1"))[0].startswith("conflict: job 1.")


def test_a_hold_outlasts_whatever_else_the_job_waits_for(world: World) -> None:
    (before,) = world.submit(spec(devices=4))
    (after,) = world.submit(spec(after=(before,)))
    hold(world, after)
    text = world.service.why(after, OPERATOR)["text"]
    assert f"  and           waits for job {before}\n" in text
    world.engine.exit(before)
    world.run().restart()
    assert (world.words(after), reason(world, after)) == ("pending", "held by wang: no data yet")
    release(world, after)
    assert world.words(after) == "running"


def test_a_held_job_fails_with_the_one_it_waits_for(world: World) -> None:
    (before,) = world.submit(spec(devices=4))
    (after,) = world.submit(spec(after=(before,)))
    hold(world, after)
    world.engine.exit(before, code=3)
    world.run()
    assert world.words(before, after) == "failed failed"
    assert world.view(after)["held"] is None


def test_a_back_off_that_ends_does_not_end_the_hold(world: World) -> None:
    (job,) = world.submit(spec(retries=3))
    world.engine.exit(job, code=3)
    world.run()
    hold(world, job)
    world.pass_time(90)
    assert world.words(job) == "pending"
    release(world, job)
    assert world.words(job) == "running"


def test_a_lease_that_ends_does_not_end_the_hold_and_the_old_run_is_not_taken_back(make: Make) -> None:
    world = make(node_facts("n1"), node_facts("n2"))
    (job,) = world.submit(spec(saves=True))
    world.engine.saves.add(job)
    (key,) = world.engine.live(job)
    world.engine.vanish(key.node)
    world.run()
    hold(world, job)
    world.engine.come_back(key.node)
    world.run()
    assert not world.engine.live(job)
    world.pass_time(300)
    assert (world.words(job), reason(world, job)) == ("pending", "held by wang: no data yet")
    release(world, job)
    assert (world.words(job), world.job(job).attempts) == ("running", 2)


def test_held_jobs_count_as_queued(world: World) -> None:
    _, job = world.submit(*[spec(devices=4)] * 2)
    hold(world, job)
    studio = next(t for t in world.service.tenants(OPERATOR)["tenants"] if t["name"] == "studio")
    assert studio["queued_jobs"] == 1


# ---- requeue -----------------------------------------------------------------------------------------------------


def test_a_requeued_job_saves_waits_and_goes_on_without_having_used_a_retry(world: World) -> None:
    job, other = world.submit(spec(devices=4, saves=True), spec(devices=4, priority=90))
    world.engine.saves.add(job)
    world.service.cancel(other, OPERATOR, reason="")
    world.run()
    assert world.words(job) == "running"
    (urgent,) = world.submit(spec(devices=4, priority=0))
    answer = world.service.requeue_jobs([job], OPERATOR, reason="a better node", hold=True)
    assert said(answer) == ["asked to save and go, and to wait again (held)"]
    assert answer["jobs"][0]["state"] == "preempting"
    world.run()
    (stop,) = [command for command in world.sent(Stop) if command.key.job_id == job]
    assert (stop.checkpoint, stop.cause) == (True, "requeued")
    assert world.words(job, urgent) == "pending running"
    assert reason(world, job) == "held by wang: a better node"
    world.engine.exit(urgent)
    world.run().restart()
    assert world.words(job) == "pending"
    release(world, job)
    found = world.job(job)
    assert (world.words(job), found.attempts, found.failures, found.preemptions) == ("running", 2, 0, 0)
    assert found.resume_from == f"/ck/{job}/attempt-1"


def test_a_requeued_job_starts_again_at_once_where_there_is_room(world: World) -> None:
    job = world.one(retries=0)
    requeue(world, job)
    assert (world.words(job), world.job(job).attempts, world.job(job).failures) == ("running", 2, 0)
    (event,) = [event for event in world.store.job_events(job) if event.event == "requeued"]
    assert (event.detail["cause"], event.detail["detail"]) == ("requeued", "by wang: a better node")


def test_a_gang_and_a_service_are_taken_back_whole(make: Make) -> None:
    world = make(node_facts("n1", 2), node_facts("n2", 2))
    gang, served = world.submit(
        spec(workers=2), service_spec(workers_min=2, workers_max=2, alternatives=(Demand(devices=1),))
    )
    requeue(world, gang, served, held=True)
    assert world.words(gang, served) == "pending pending"
    assert not world.engine.live()
    release(world, gang, served)
    assert world.words(gang) == "running"
    assert len(world.engine.live(served)) == 2


def test_what_waits_cannot_be_requeued(world: World) -> None:
    _, job = world.submit(*[spec(devices=4)] * 2)
    assert said(requeue(world, job))[0].startswith(f"conflict: job {job} waits already")
    hold(world, job)
    assert said(requeue(world, job))[0].startswith(f"conflict: job {job} is held")


def test_a_job_on_its_way_back_is_held_and_one_on_its_way_out_is_not(world: World) -> None:
    job = world.one(devices=4, saves=True)
    world.engine.stubborn.add(job)
    requeue(world, job)
    assert said(requeue(world, job)) == [f"conflict: job {job} is on its way back to the queue already (requeued)"]
    assert said(requeue(world, job, held=True)) == ["asked to save and go, and to wait again (held)"]
    world.pass_time(60)
    assert (world.words(job), world.job(job).held is not None) == ("pending", True)
    release(world, job)
    world.service.cancel(job, OPERATOR, reason="")
    assert said(requeue(world, job, held=True))[0].startswith(f"conflict: job {job} is being stopped (cancelled)")


def test_a_job_that_finishes_first_has_succeeded(world: World) -> None:
    job = world.one()
    (key,) = world.engine.live(job)
    world.engine.deaf.add("n1")  # the request to stop is still on its way
    world.service.requeue_jobs([job], OPERATOR, reason="r", hold=True)
    world.engine.end(key, "exit", 0)
    world.run()
    assert world.words(job) == "succeeded"


def test_an_ended_job_is_submitted_anew(world: World) -> None:
    job = world.one(name="train", retries=1)
    world.engine.exit(job)
    world.run()
    answer = requeue(world, job, by=STUDIO, held=True)
    assert said(answer) == ["has ended; it is submitted anew as job 2, held"]
    assert (answer["jobs"][0]["new"], answer["changed"]) == ("2", 1)
    assert world.words(job, "2") == "succeeded pending"
    assert world.job("2").spec == world.job(job).spec
    assert reason(world, "2") == "held by li: a better node"
    release(world, "2")
    assert world.words("2") == "running"


def test_arrays_and_their_tasks_are_submitted_anew(world: World) -> None:
    world.submit(spec(array_size=3))
    for task in range(3):
        world.engine.exit(f"1.{task}", code=task)
    world.run()
    assert said(requeue(world, "1.2")) == ["has ended; it is submitted anew as job 2"]
    again = world.job("2")
    assert (again.array_index, again.spec.array_size) == (None, 0)
    (key,) = world.engine.live("2")
    env = world.engine.nodes[key.node].specs[key].env
    assert [value for name, value in env if name == "SUANLI_ARRAY_INDEX"] == ["2"]
    assert said(requeue(world, "1")) == ["has ended; the whole array is submitted anew as job 3"]
    assert world.words("3.0", "3.1", "3.2") == "running running running"


def test_of_an_array_that_lives_what_runs_is_taken_back(world: World) -> None:
    world.submit(spec(array_size=6))
    world.engine.exit("1.0")
    world.run()
    assert said(requeue(world, "1", held=True)) == [
        "4 tasks asked to save and go, and to wait again (held); 1 is left as it is"
    ]
    assert world.words("1.0", "1.1", "1.5") == "succeeded pending running"


def test_what_would_fail_at_once_is_not_submitted_anew(world: World) -> None:
    before = world.one()
    after = world.one(after=(before,))
    world.engine.exit(before, code=1)
    world.run()
    assert world.words(before, after) == "failed failed"
    assert said(requeue(world, after))[0].startswith(f"conflict: job {after} was to run after job {before}")
    assert len(world.store.live_jobs()) == 0


def test_a_token_submits_nothing_anew_above_its_class(world: World) -> None:
    job = world.one(priority=90)
    world.engine.exit(job)
    world.run()
    assert said(requeue(world, job, by=STUDIO))[0].startswith(f"forbidden: job {job} is of class urgent, above normal")
    best_effort_only = replace(STUDIO, max_priority_class="best-effort")
    cheap = world.one(priority=0)
    world.engine.exit(cheap)
    world.run()
    assert said(requeue(world, cheap, by=best_effort_only))[0].startswith("has ended")


def test_a_full_store_holds_later(world: World) -> None:
    _, job = world.submit(*[spec(devices=4)] * 2)
    world.store.full = True
    with pytest.raises(Exception, match="carried out when the store is back"):
        world.service.hold_jobs([job], OPERATOR, reason="r")
    world.store.full = False
    world.run()
    assert world.job(job).held is not None
    assert isinstance(world.job(job).state, Pending)


@pytest.mark.parametrize("batches", range(8))
def test_kill_anywhere_in_a_requeue(make: Make, batches: int) -> None:
    world = make(node_facts("n1"))
    job = world.one(devices=4, saves=True)
    world.engine.saves.add(job)
    world.service.requeue_jobs([job], OPERATOR, reason="r", hold=True)
    for _ in range(batches):
        world.once()
    world.restart().pass_time(30)
    assert (world.words(job), world.job(job).failures) == ("pending", 0)
    assert world.job(job).resume_from == f"/ck/{job}/attempt-1"
    release(world, job)
    assert (world.words(job), world.job(job).attempts) == ("running", 2)
