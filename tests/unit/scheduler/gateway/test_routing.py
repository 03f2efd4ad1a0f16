"""Who gets a replica's slot, in which order, and who is turned away. No sockets: a replica here is only counted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from scheduler.gateway.routing import IN_FLIGHT_PER_REPLICA, NoReplicas, QueueFull, ReplicaState, Service
from scheduler.ports import Replica, Route


def route(replicas: int, *, job: str = "1", priority: int = 5) -> Route:
    told = tuple(Replica(job, worker, 1, f"127.0.0.1:{1000 + worker}", False) for worker in range(replicas))
    return Route("chat", "film", priority, None, told, "secret")


def service(replicas: int, *, max_waiting: int = 100) -> Service:
    made = Service("film", "chat", random.Random(3), max_waiting=max_waiting)
    made.update([route(replicas)])
    return made


async def fill(full: Service) -> list[ReplicaState]:
    slots = len(full.replicas) * IN_FLIGHT_PER_REPLICA
    return [await full.acquire(priority=0, deadline_s=0) for _ in range(slots)]


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def in_a_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 10))

    run.__name__ = test.__name__
    return run


@in_a_loop
async def test_a_replica_gets_at_most_eight() -> None:
    full = service(2)
    await fill(full)
    assert [state.outstanding for state in full.replicas] == [IN_FLIGHT_PER_REPLICA] * 2


@in_a_loop
async def test_waiting_is_ordered_by_priority_then_deadline_then_arrival() -> None:
    full = service(1)
    (state,) = full.replicas
    await fill(full)
    order: list[str] = []

    async def wait(name: str, priority: int, deadline_s: float) -> None:
        await full.acquire(priority=priority, deadline_s=deadline_s)
        order.append(name)

    asks = [("low", 1, 5.0), ("late", 5, 9.0), ("soon", 5, 2.0), ("also soon", 5, 2.0), ("urgent", 9, 99.0)]
    tasks = [asyncio.create_task(wait(*ask)) for ask in asks]
    await settle()
    assert full.waiting == 5
    for _ in asks:
        full.release(state)
        await settle()
    assert order == ["urgent", "soon", "also soon", "late", "low"]
    await asyncio.gather(*tasks)
    assert state.outstanding == IN_FLIGHT_PER_REPLICA


@in_a_loop
async def test_a_full_queue_refuses_the_least_urgent() -> None:
    full = service(1, max_waiting=2)
    await fill(full)
    low = [asyncio.create_task(full.acquire(priority=1, deadline_s=at)) for at in (1.0, 2.0)]
    await settle()
    with pytest.raises(QueueFull):
        await full.acquire(priority=1, deadline_s=0.0)
    urgent = asyncio.create_task(full.acquire(priority=2, deadline_s=9.0))
    await settle()
    with pytest.raises(QueueFull):
        await low[1]
    assert full.waiting == 2
    full.release(full.replicas[0])
    assert await urgent is full.replicas[0]
    low[0].cancel()


@in_a_loop
async def test_who_gives_up_leaves_the_queue_and_loses_no_slot() -> None:
    full = service(1, max_waiting=200)
    (state,) = full.replicas
    await fill(full)
    tasks = [asyncio.create_task(full.acquire(priority=1, deadline_s=0.0)) for _ in range(200)]
    await settle()
    for task in tasks[:199]:
        task.cancel()
    await settle()
    assert full.waiting == 1
    full.release(state)  # given to the one that is left, which gives up before it can take it
    tasks[199].cancel()
    await settle()
    assert all(task.cancelled() for task in tasks)
    assert (full.waiting, state.outstanding) == (0, IN_FLIGHT_PER_REPLICA - 1)


@in_a_loop
async def test_new_replicas_take_those_who_wait() -> None:
    full = service(1)
    await fill(full)
    task = asyncio.create_task(full.acquire(priority=1, deadline_s=0.0))
    await settle()
    old = full.replicas[0]
    full.update([route(2)])
    assert full.replicas[0] is old
    assert await task is full.replicas[1]


@in_a_loop
async def test_when_the_last_replica_goes_those_who_wait_are_told() -> None:
    full = service(1)
    await fill(full)
    task = asyncio.create_task(full.acquire(priority=1, deadline_s=0.0))
    await settle()
    full.update([route(0)])
    with pytest.raises(NoReplicas):
        await task
    with pytest.raises(NoReplicas):
        await full.acquire(priority=1, deadline_s=0.0)


@in_a_loop
async def test_jobs_of_one_name_share_the_service_and_a_new_attempt_is_a_new_replica() -> None:
    both = service(0)
    both.update([route(1, job="1", priority=3), route(1, job="2", priority=7)])
    assert ([state.replica.job_id for state in both.replicas], both.priority) == (["1", "2"], 7)
    first = both.replicas[0]
    restarted = Route("chat", "film", 3, None, (Replica("1", 0, 2, "127.0.0.1:1000", False),), "secret")
    both.update([restarted])
    assert both.replicas[0] is not first


@in_a_loop
async def test_an_avoided_replica_is_used_only_when_there_is_no_other() -> None:
    two = service(2)
    bad, good = two.replicas
    two.avoid(bad)
    assert {id(await two.acquire(priority=0, deadline_s=0)) for _ in range(8)} == {id(good)}
    two.avoid(good)
    assert await two.acquire(priority=0, deadline_s=0) is bad


@in_a_loop
async def test_two_choices_are_more_even_than_one() -> None:
    """1,000 requests that never end, on 200 replicas: one random choice each would leave some with 12 and more."""
    many = service(200)
    for _ in range(1000):
        await many.acquire(priority=0, deadline_s=0)
    assert max(state.outstanding for state in many.replicas) <= 7
