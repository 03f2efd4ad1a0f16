"""What an operator's id stands for: one job, or all tasks of an array named by its number alone."""

from __future__ import annotations

from collections.abc import Iterable

from scheduler.cli.client import Client, Json, job_path
from scheduler.errors import NotFound


def job_or_array(client: Client, job_id: str) -> list[Json]:
    """The job of that id; for an array's number all its tasks, in order. Raises NotFound for neither."""
    try:
        return [client.get(job_path(job_id))]
    except NotFound:
        if not job_id.isdigit():
            raise
        try:
            first = client.get(job_path(f"{job_id}.0"))
        except NotFound:
            first = None
        if first is None:
            raise
    size = int(first["spec"]["array_size"])
    return [first, *(client.get(job_path(f"{job_id}.{index}")) for index in range(1, size))]


def named(client: Client, given: str) -> str:
    """`last` as the number of the newest job, or of the whole array it belongs to; any other id as it is."""
    return str(client.get(job_path("last"))["id"]).split(".")[0] if given == "last" else given


def every_id(client: Client, job_ids: Iterable[str]) -> list[str]:
    """Each job's own id: arrays as their tasks; `last` is looked up now."""
    found: list[str] = []
    for given in job_ids:
        name = named(client, given)
        if name.isdigit():
            found.extend(job["id"] for job in job_or_array(client, name))
        else:
            found.append(name)
    return list(dict.fromkeys(found))
