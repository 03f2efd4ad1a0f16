"""How does the live view get its news? From a thread that asks, one question after the other, what is being looked at.

The service's own time comes first: between two rounds lie `every_s`, and no less than four times what the last round
took (up to ten seconds), so that a view on a large site does not keep a service busy. A service that does not
answer is asked again at the same pace. The thread is a daemon: a question that hangs holds up nobody's leaving.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scheduler.cli.client import Client
from scheduler.cli.device_listing import DeviceListing, SiteTotals, read_listing, totals
from scheduler.cli.queue import LIVE, MOST
from scheduler.cli.top.answers import Jobs, Services, read_jobs, read_services, read_status
from scheduler.cli.top.device_pane import FIELDS, read_long_ago
from scheduler.cli.top.node_pane import NodeRow, node_rows
from scheduler.cli.top.pane import Arranged, Pane
from scheduler.errors import SuanliError, Unavailable

# What a pane's rows are made of.
SOURCES = {"nodes": "devices", "devices": "devices", "queue": "jobs", "services": "services"}
REST = 4.0
MOST_REST_S = 10.0


@dataclass(frozen=True, slots=True)
class Told:
    """An answer: what `QUESTIONS[kind]` makes of it, and the rows of each pane that it fills. `at_s` when it came, by
    time.monotonic."""

    kind: str
    value: object
    rows: Mapping[str, Arranged[Any]]
    at_s: float


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer, in an operator's words; `error` that is no SuanliError is a bug of ours."""

    kind: str
    error: Exception
    at_s: float


News = Told | Failed
Question = Callable[[Client], object]


@dataclass(frozen=True, slots=True)
class DeviceNews:
    """The listing, and what is summed up of it: here, so that whoever draws has nothing left to sum."""

    listing: DeviceListing
    nodes: list[NodeRow]
    totals: SiteTotals
    old: str
    """How many devices have had nothing new for long, in words."""


def ask_devices(client: Client) -> DeviceNews:
    listing = read_listing(client.get_bytes("/v1/devices", fields=",".join(FIELDS)))
    if listing.fields != list(FIELDS):
        raise Unavailable("the service tells other readings than it was asked for; is it another version?")
    return DeviceNews(listing, node_rows(listing), totals(listing), read_long_ago(listing))


QUESTIONS: Mapping[str, Question] = {
    "devices": ask_devices,
    "jobs": lambda client: read_jobs(client.get_bytes("/v1/jobs", state=LIVE, limit=MOST)),
    "services": lambda client: read_services(client.get_bytes("/v1/services")),
    "status": lambda client: read_status(client.get_bytes("/v1/status")),
}


def rows_of(value: object) -> dict[str, Sequence[Any]]:
    """By the pane that it fills."""
    match value:
        case DeviceNews():
            return {"devices": value.listing.devices, "nodes": value.nodes}
        case Jobs():
            return {"queue": value.jobs}
        case Services():
            return {"services": value.services}
        case _:
            return {}


class Feed:
    """`deliver` is called in the feed's thread, with each answer as it comes; `client` is the thread's own. Rows are
    put into the order of `panes` here, so that sorting ten thousand of them keeps no key waiting."""

    def __init__(
        self,
        client: Client,
        deliver: Callable[[News], None],
        *,
        every_s: float,
        panes: Mapping[str, Pane[Any]],
        questions: Mapping[str, Question] = QUESTIONS,
    ) -> None:
        self._panes = panes
        self.every_s = every_s
        self._client = client
        self._deliver = deliver
        self._questions = questions
        self._wanted: Mapping[str, float] = {}
        self._asked_s: dict[str, float] = {}
        self._paused = False
        self._ended = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="suanli-top-feed", daemon=True)

    def start(self, wanted: Mapping[str, float]) -> None:
        """`wanted` in the order in which it is asked for, each with the least seconds between two questions."""
        self._wanted = wanted
        self._thread.start()

    def want(self, wanted: Mapping[str, float]) -> None:
        """These from now on, and at once what is due."""
        self._wanted = wanted
        self._wake.set()

    def now(self) -> None:
        """All of it at once."""
        self._asked_s = {}
        self._wake.set()

    def pause(self, paused: bool) -> None:
        self._paused = paused
        self._wake.set()

    def end(self) -> None:
        """Ask nothing more; a question that is under way is not waited for."""
        self._ended = True
        self._wake.set()

    def _run(self) -> None:
        while not self._ended:
            self._wake.clear()
            began_s = time.monotonic()
            for kind, least_s in self._wanted.items():
                if self._ended or self._paused or self._wake.is_set():
                    break
                if time.monotonic() - self._asked_s.get(kind, float("-inf")) >= least_s:
                    self._ask(kind)
            took_s = time.monotonic() - began_s
            self._wake.wait(max(self.every_s, min(MOST_REST_S, REST * took_s)))

    def _ask(self, kind: str) -> None:
        self._asked_s[kind] = time.monotonic()
        try:
            value = self._questions[kind](self._client)
            rows = {name: self._panes[name].arrange(items) for name, items in rows_of(value).items()}
        except Exception as error:  # of whatever kind: the thread's end would be a view that stands still
            if not isinstance(error, SuanliError):
                self._ended = True
            self._deliver(Failed(kind, error, time.monotonic()))
        else:
            self._deliver(Told(kind, value, rows, time.monotonic()))
