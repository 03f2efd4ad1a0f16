"""What does the service say of jobs, services and itself? Only what the live view shows of it, read into slots.

Ten thousand jobs are some ten megabytes of JSON, every few seconds, beside a person who types: msgspec skips what is
not named here. Raises Unavailable where an answer is not what is expected.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from scheduler.errors import Unavailable

Answer = TypeVar("Answer")


class Worker(msgspec.Struct, frozen=True, gc=False):
    node: str
    phase: str
    simulated: bool = False
    devices: tuple[int, ...] = ()


class Reason(msgspec.Struct, frozen=True, gc=False):
    text: str


class Job(msgspec.Struct, frozen=True, gc=False):
    id: str
    name: str
    tenant: str
    kind: str
    priority_class: str
    state: str
    submitted_s: float
    workers_min: int
    workers_max: int
    workers: tuple[Worker, ...]
    workers_wanted: int | None = None
    reason: Reason | None = None
    cause: str | None = None
    detail: str | None = None
    est_start_s: float | None = None
    version: dict[str, Any] | None = None


class Jobs(msgspec.Struct, frozen=True):
    jobs: list[Job]
    total: int | None = None


class Services(msgspec.Struct, frozen=True):
    services: list[dict[str, Any]]


class Status(msgspec.Struct, frozen=True):
    """`jobs` and `nodes`: how many in each state."""

    version: str = ""
    jobs: dict[str, int] = {}
    nodes: dict[str, int] = {}


_jobs = msgspec.json.Decoder(Jobs)
_services = msgspec.json.Decoder(Services)
_status = msgspec.json.Decoder(Status)


def read_jobs(body: bytes) -> Jobs:
    return _read(_jobs, body, "jobs")


def read_services(body: bytes) -> Services:
    return _read(_services, body, "services")


def read_status(body: bytes) -> Status:
    return _read(_status, body, "status")


def _read(decoder: msgspec.json.Decoder[Answer], body: bytes, of: str) -> Answer:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unavailable(f"the service's answer on {of} cannot be read ({error}); is it another version?") from None
