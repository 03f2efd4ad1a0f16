"""How is a whole cluster measured in one shared window? Benchmark jobs through the HTTP API, one a node, one start.

Nodes are listed, and one job is submitted for the free whole devices of each ready node. Its worker arms (operands in
memory, sizes settled), comes to the run's meeting place (`meeting_place.py`), has its clock compared, and waits; when
all have armed one absolute start is announced, with racks that begin to warm up one after the other before it
(`ramp.py`). Devices in use are left alone and reported as not covered. Results come back through the API
(`cluster_records.py`).

Why a meeting place: a job has no channel to its submitter while it runs but its log, and none from it at all. Where
nodes cannot reach whoever runs the benchmark, the start is named at submission instead (`meeting` None): late ones
are refused as ever, but clocks are not compared, and a window of 600 s or more then counts zero.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks.card_facts import CardFacts
from benchmarks.inventory import Node, parse_nodes
from benchmarks.record import DeviceRecord
from benchmarks.system.cluster_records import (
    LastFigure,
    NotCovered,
    Submitted,
    collected,
    equal_digests,
    left_alone,
    never_started,
    nothing_made_up,
    with_raw,
)
from benchmarks.system.meeting_place import Announced, ClockOffset
from benchmarks.system.ramp import Placed, ramp
from benchmarks.system.run_plan import TAIL_S, RunPlan, job_of
from benchmarks.workloads.simulated import CardFigures
from scheduler.errors import SuanliError, Unavailable

POLL_S = 0.5
ARMING_POLL_S = 0.1
# From the announcement to the first rack's warm-up, for the word to get there.
NOTICE_S = 0.5
ENDED = ("succeeded", "failed", "cancelled")


class ClusterClient(Protocol):
    """The HTTP API, as scheduler.cli.client.Client offers it. Both raise scheduler.errors.SuanliError."""

    def get(self, path: str, /, **query: Any) -> dict[str, Any]: ...

    def post(self, path: str, body: Mapping[str, Any], /) -> dict[str, Any]: ...


class Meeting(Protocol):
    """`meeting_place.MeetingPlace`."""

    def environment(self) -> dict[str, str]: ...

    def now_s(self) -> float: ...

    def armed(self, window: int) -> dict[str, int]: ...

    def here(self) -> set[str]: ...

    def ended(self, window: int) -> set[str]: ...

    def offset(self, node: str, window: int) -> ClockOffset | None: ...

    def take_raw(self) -> list[str]: ...

    def announce(self, window: int, announced: Announced) -> None: ...


class Timer(Protocol):
    def now_s(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class WallTimer:
    def now_s(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class ClusterAnswer:
    """`start_at_s`: of the first window; 0 where none was announced."""

    run: str
    start_at_s: float
    records: tuple[DeviceRecord, ...]
    not_covered: tuple[NotCovered, ...]
    interrupted: bool
    raw_lines: tuple[str, ...] = ()


class UnknownNode(ValueError):
    """A node was named that the service does not have. The message lists those it has."""


class UnknownReservation(ValueError):
    """No node is reserved under that name."""


def run_cluster(
    client: ClusterClient,
    plan: RunPlan,
    cards: Mapping[str, CardFigures],
    *,
    meeting: Meeting | None = None,
    facts: Mapping[str, CardFacts] | None = None,
    last: Mapping[str, LastFigure] | None = None,
    timer: Timer | None = None,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> ClusterAnswer:
    """Submit, wait, collect. Ctrl-C cancels what still runs and returns what is there, marked interrupted.

    `cards` gives the catalogue's figures by model, for simulated devices, and `facts` what the catalogue knows of
    real ones; `last` is by uuid. Raises UnknownNode, UnknownReservation, and SuanliError where the service cannot be
    asked at all; a single job that fails is a record that says so.
    """
    timer = timer or WallTimer()
    nodes = _chosen(parse_nodes(client.get("/v1/nodes")), plan)
    idle = tuple(node for node in nodes if node.simulated and plan.made_up is None)
    nodes = tuple(node for node in nodes if node not in idle)
    not_covered = [nothing_made_up(node) for node in idle]
    not_covered += [left_alone(node) for node in nodes if len(node.free) < len(node.devices)]
    named_s = timer.now_s() + plan.lead
    run = f"{int(named_s)}-{secrets.token_hex(3)}"
    going = _Going(client, plan, timer, meeting, named_s, progress)
    interrupted = False
    try:
        for node in (n for n in nodes if n.free):
            job = job_of(node, plan, cards, None if meeting else named_s, run, len(nodes))
            if meeting is not None and not node.simulated:
                job["env"] = meeting.environment()
            answer = client.post("/v1/jobs", {"job": job})
            going.jobs.append(Submitted(node, node.free, str(answer["jobs"][0]["id"])))
        going.wait()
    except KeyboardInterrupt:
        interrupted = True
        going.views = _cancelled(client, going.jobs, timer)
    except SuanliError:
        with contextlib.suppress(SuanliError):  # the first failure is the one to tell
            _cancelled(client, going.jobs, timer)
        raise
    records: list[DeviceRecord] = []
    raw_lines = meeting.take_raw() if meeting is not None else []
    for job_done in going.jobs:
        view = going.views.get(job_done.job_id)
        if view is not None and not view.get("attempt") and not view.get("results"):
            not_covered.append(never_started(job_done, view))
            continue
        found, lines = collected(
            job_done, view, plan.window_s, plan.measurements, going.offsets_of(job_done), facts or {}
        )
        records += found
        raw_lines += lines
    not_covered = [left.with_last(last or {}, timer.now_s()) for left in not_covered if left.devices]
    kept, records = with_raw(equal_digests(records), raw_lines, run)
    return ClusterAnswer(run, going.first_start_s, tuple(records), tuple(not_covered), interrupted, tuple(kept))


def _chosen(nodes: Sequence[Node], plan: RunPlan) -> tuple[Node, ...]:
    known = {node.name: node for node in nodes}
    for name in plan.nodes:
        if name not in known:
            raise UnknownNode(f"no node is called {name}; there are {', '.join(sorted(known)) or 'none'}")
    chosen = tuple(known[name] for name in dict.fromkeys(plan.nodes)) if plan.nodes else tuple(nodes)
    if plan.reservation is None:
        return chosen
    reserved = tuple(node for node in chosen if plan.reservation in node.reservations)
    if not reserved:
        there = sorted({name for node in nodes for name in node.reservations})
        raise UnknownReservation(
            f"no node of this run is reserved as {plan.reservation}; there are {', '.join(there) or 'no reservations'}"
        )
    return reserved


@dataclass(slots=True)
class _Going:
    """A run that goes on: jobs, views of those that are over, and which window is next to be announced."""

    client: ClusterClient
    plan: RunPlan
    timer: Timer
    meeting: Meeting | None
    named_s: float
    progress: Callable[[str, float], None]
    jobs: list[Submitted] = field(default_factory=list)
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    first_start_s: float = 0.0
    _window: int = 0
    _ends_s: float = 0.0
    _arm_by_s: float = 0.0
    _begun_s: float = 0.0

    def wait(self) -> None:
        """Until all jobs have ended, or have been cancelled: one that waits for its devices when the window has begun
        would measure another one."""
        self._begun_s = now_s = self.timer.now_s()
        windows = len(self.plan.measurements)
        if self.meeting is None:
            self.first_start_s = self.named_s
            self._ends_s = self.named_s + windows * self.plan.window_s + (windows - 1) * TAIL_S
            self._window = windows
        self._arm_by_s = now_s + self.plan.arming_limit_s
        while True:
            now_s = self.timer.now_s()
            self._look(now_s)
            if self.meeting is not None:
                self._steer(self.meeting)
            self._show(now_s)
            if len(self.views) == len(self.jobs):
                return
            arming = self.meeting is not None and now_s > self._ends_s
            self.timer.sleep(ARMING_POLL_S if arming else POLL_S)

    def offsets_of(self, job: Submitted) -> tuple[ClockOffset | None, ...] | None:
        """By window; None where clocks were not compared."""
        if self.meeting is None:
            return None
        return tuple(self.meeting.offset(job.node.name, w) for w in range(len(self.plan.measurements)))

    @property
    def _deadline_s(self) -> float:
        waiting_s = 0.0 if self._window >= len(self.plan.measurements) else self.plan.arming_limit_s
        return max(self._ends_s, self._begun_s) + waiting_s + TAIL_S

    def _look(self, now_s: float) -> None:
        """At the jobs whose worker is not at the meeting place: of the others it is known that they live."""
        here = self.meeting.here() if self.meeting is not None else set()
        for job in self.jobs:
            if job.job_id in self.views or (job.node.name in here and now_s <= self._deadline_s):
                continue
            try:
                view = self.client.get(f"/v1/jobs/{job.job_id}")
            except Unavailable:  # the service restarts; jobs go on without it, so do we until the deadline
                if now_s > self._deadline_s:
                    raise
                return
            if view["state"] in ENDED:
                self.views[job.job_id] = view
            elif now_s > self._deadline_s or (view["state"] == "pending" and self._is_too_late(now_s)):
                self.client.post(f"/v1/jobs/{job.job_id}/cancel", {"reason": "its benchmark window is over"})
                self.views[job.job_id] = view

    def _is_too_late(self, now_s: float) -> bool:
        """For a job that has not started yet."""
        if self.meeting is None:
            return now_s > self.named_s + self.plan.window_s
        return self._window > 0 or now_s > self._arm_by_s

    def _steer(self, meeting: Meeting) -> None:
        """Announce the next window when all that still live have armed for it, or have had their time."""
        if self._window >= len(self.plan.measurements):
            return
        armed = meeting.armed(self._window)
        waited_for = {j.node.name for j in self.jobs if j.job_id not in self.views and not j.node.simulated}
        if not armed or (not waited_for <= set(armed) and self.timer.now_s() <= self._arm_by_s):
            return
        racks = {job.node.name: job.node.rack for job in self.jobs}
        delays = ramp([Placed(node, racks.get(node), cards) for node, cards in armed.items()])
        first_s = meeting.now_s() + NOTICE_S
        at_s = first_s + max(delays.values()) + self.plan.warmup_s
        meeting.announce(self._window, Announced(at_s, {node: first_s + delay for node, delay in delays.items()}))
        self.first_start_s = self.first_start_s or at_s
        self._window += 1
        self._ends_s = at_s + self.plan.window_s
        self._arm_by_s = self._ends_s + self.plan.arming_limit_s

    def _show(self, now_s: float) -> None:
        windows = len(self.plan.measurements)
        if now_s > self._ends_s and self._window < windows:
            phase = "arming"
        else:
            phase = "warming up for the shared start" if now_s < self._ends_s - self.plan.window_s else "measuring"
        if windows > 1:
            phase += f" (window {min(self._window + (phase == 'arming'), windows)} of {windows})"
        until_s = self._ends_s if self._ends_s > now_s else now_s + self.plan.window_s
        share = (now_s - self._begun_s) / max(until_s - self._begun_s, 1e-3)
        if self.meeting is not None:
            share = (max(0, self._window - 1) + min(1.0, share)) / windows
        self.progress(f"{phase}; {len(self.views)} of {len(self.jobs)} nodes done", min(1.0, share))


def _cancelled(client: ClusterClient, jobs: Sequence[Submitted], timer: Timer) -> dict[str, dict[str, Any]]:
    """Cancel what runs and give it a few seconds to leave its partial results."""
    for job in jobs:
        if client.get(f"/v1/jobs/{job.job_id}")["state"] not in ENDED:
            client.post(f"/v1/jobs/{job.job_id}/cancel", {"reason": "the benchmark was interrupted"})
    until_s = timer.now_s() + 10.0
    views: dict[str, dict[str, Any]] = {}
    while len(views) < len(jobs) and timer.now_s() < until_s:
        for job in jobs:
            view = client.get(f"/v1/jobs/{job.job_id}")
            if view["state"] in ENDED:
                views[job.job_id] = view
        timer.sleep(POLL_S / 5)
    return views
