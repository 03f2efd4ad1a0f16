"""What a job's records say that its runs used: (attempt.worker, from, to, end, cause) of each."""

from __future__ import annotations

from tests.fakes.service_world import World

Used = list[tuple[str, float, float, str, str]]


def used(world: World, job: str) -> Used:
    return [
        (f"{record.attempt}.{record.worker}", record.from_s, record.to_s, record.end, record.cause)
        for record in world.store.usage_records(job)
    ]
