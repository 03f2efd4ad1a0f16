"""Nodes in this process: the agent's real state machine (node_agent.attempts), and processes that tests end by hand.

Each node is its own agent. Like real nodes they outlive the service: `start` with a higher epoch is a service that came
back, and hears again what it had not acknowledged. A test is told at once (AssertionError) when the service breaks a
promise: two placements for one (job, attempt, worker), a device given to two processes, a key launched twice on a node
that knows of the first time, two attempts of a job alive at once.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from node_agent import attempts
from node_agent.health.verdicts import Finding
from node_agent.messages import (
    Command,
    DeviceUse,
    Event,
    Forget,
    HealthChanged,
    LaunchSpec,
    LogChunk,
    Mended,
    Noted,
    Prepare,
    Refused,
    Release,
    RenewLease,
    RunKey,
    RunReport,
    Stop,
)
from scheduler.core.demand import DeviceFacts, NodeFacts
from scheduler.errors import Unavailable
from scheduler.ports import EngineEvent, Json, NodeDown, NodeUp, Readings, RunEvent
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_readings import FakeReadings


def node_facts(name: str, devices: int = 4, *, model: str = "H100 SXM", simulated: bool = False) -> NodeFacts:
    return NodeFacts(
        name=name,
        site="site",
        address=f"addr-{name}",
        devices=tuple(DeviceFacts(i, f"{name}-dev{i}", model, "NVIDIA", 80 * 2**30, simulated) for i in range(devices)),
        cpus_milli=64_000,
        memory_bytes=512 * 2**30,
        simulated=simulated,
    )


@dataclass
class FakeNode:
    facts: NodeFacts
    reachable: bool = True
    answered_s: float | None = None
    """When it last answered, of one that cannot be reached."""
    runs: dict[RunKey, attempts.RunState] = field(default_factory=dict)
    specs: dict[RunKey, LaunchSpec] = field(default_factory=dict)
    events: list[tuple[int, Event]] = field(default_factory=list)
    last_seq: int = 0
    next_port: int = 20_000
    epoch: int = 0
    lease_until_s: float = 0.0
    launched: set[RunKey] = field(default_factory=set)

    def lose_everything(self) -> None:
        """Processes and records: a machine that was reinstalled."""
        self.runs.clear()
        self.events.clear()
        self.launched.clear()


@dataclass
class Lived:
    """When a process really lived, by its node's clock; `told`: its node knows how it ended (None: it did once)."""

    from_s: float
    to_s: float | None = None
    told: bool | None = False


class FakeEngine:
    def __init__(self, clock: FakeClock, *nodes: NodeFacts) -> None:
        self.clock = clock
        """The nodes'."""
        self.service_clock = clock
        self.lived: dict[RunKey, Lived] = {}
        self.nodes = {facts.name: FakeNode(facts) for facts in nodes}
        self.shown_readings: dict[str, Json] = {}
        """By node, then device uuid and quantity."""
        self.sent: list[tuple[str, Command]] = []
        self.launched: list[RunKey] = []
        self.masters: dict[RunKey, tuple[str, int]] = {}
        self.bad_checks: dict[str, tuple[str, str]] = {}
        """By node: the field and sentence with which every check there fails."""
        self.refuses: dict[str, str] = {}
        """By node: why its launcher does not start anything."""
        self.deaf: set[str] = set()
        """Nodes that hear of renewals of their lease alone."""
        self.stubborn: set[str] = set()
        """Jobs whose processes end for SIGKILL alone."""
        self.saves: set[str] = set()
        """Jobs that save their work when they are asked to."""
        self.ignores_lease: set[str] = set()
        """Jobs whose processes go on when their node's lease has lapsed, as they never should."""
        self.places: dict[tuple[str, int, int], tuple[str, tuple[int, ...], int]] = {}
        self.found: dict[str, tuple[Finding, ...]] = {}
        self.uses: dict[str, DeviceUse] = {}
        """By job: what its runs made their devices do, told with their ends."""
        """What health has found, by node."""
        self.noted: dict[str, dict[str, tuple[Finding, ...]]] = {}
        """What others have found, by node and source: kept for them."""
        self.silent_starts = False
        """While True processes do not get started: Launch is taken and not answered."""
        self._on_event: Callable[[EngineEvent], None] | None = None

    # -- Engine ----------------------------------------------------------------------------------------------------

    def start(self, epoch: int, on_event: Callable[[EngineEvent], None]) -> None:
        self._on_event = on_event
        for name, node in self.nodes.items():
            if node.reachable:
                node.epoch = max(node.epoch, epoch)
                self._greet(name)

    def send(self, node: str, commands: Sequence[Command]) -> None:
        for command in commands:
            self.sent.append((node, command))
            there = self.nodes.get(node)
            if there is None or not there.reachable:
                continue
            if command.epoch < there.epoch:
                self._emit(node, Refused(getattr(command, "key", None), there.epoch))
                continue
            there.epoch = command.epoch
            if isinstance(command, RenewLease):
                there.lease_until_s = self.clock.now_s() + command.lease_s
                continue
            if node in self.deaf:
                continue
            if isinstance(command, Mended):
                self.noted.pop(node, None)
                self.find(node)
                continue
            if isinstance(command, Noted):
                self.noted.setdefault(node, {})[command.source] = command.findings
                self.find(node, *self.found.get(node, ()))
                continue
            if isinstance(command, Prepare):
                self._check_placement(command)
                there.specs[command.key] = command.spec
            self._step(command.key, command)

    def ack(self, agent: str, seq: int) -> None:
        node = self.nodes[agent]
        node.events = [(number, event) for number, event in node.events if number > seq]

    def read_log(
        self, node: str, job_id: str, attempt: int, worker: int, stream: str, offset: int, limit: int
    ) -> LogChunk:
        if not self.nodes[node].reachable:
            raise Unavailable(f"node {node} does not answer")
        data = f"{stream} of {job_id} attempt {attempt} worker {worker} on {node}\n".encode()
        return LogChunk(data[offset : offset + limit], min(len(data), offset + limit), offset + limit >= len(data))

    def readings(self) -> Readings:
        return FakeReadings(self.shown_readings)

    def agents(self) -> Sequence[Json]:
        return [{"node": name, "pid": 1, "launcher_pid": 2, "nodes": [name]} for name in self.nodes]

    def close(self) -> None:
        self._on_event = None

    # -- what a test does to the nodes -----------------------------------------------------------------------------

    def disconnect(self) -> None:
        """The service is gone: events wait until the next one starts."""
        self._on_event = None

    def add(self, facts: NodeFacts) -> None:
        self.nodes[facts.name] = FakeNode(facts)
        self._greet(facts.name)

    def vanish(self, name: str, *, proof: bool = False) -> None:
        """The node is not reachable any more; with `proof` its processes are gone too, records and all."""
        node = self.nodes[name]
        self._cut_off(node)
        if proof:
            self._lose_everything(node)
        self._tell(NodeDown(name, "its agent does not answer", proof_of_death=proof, heard_s=node.answered_s))

    def _cut_off(self, node: FakeNode) -> None:
        if node.reachable:
            node.reachable, node.answered_s = False, self.service_clock.now_s()

    def _lose_everything(self, node: FakeNode) -> None:
        for key, lived in self.lived.items():
            if key in node.runs:
                if lived.to_s is None:
                    lived.to_s = self.clock.now_s()
                elif lived.told:
                    lived.told = None  # perhaps the service had heard of it by then
        node.lose_everything()

    def die_unnoticed(self, name: str) -> None:
        """The node loses processes and records, and nobody is told: what a power cut looks like from afar."""
        self._cut_off(self.nodes[name])
        self._lose_everything(self.nodes[name])

    def come_back(self, name: str) -> None:
        self.nodes[name].reachable = True
        self._greet(name)

    def live(self, job_id: str | None = None) -> list[RunKey]:
        """Runs whose process lives."""
        return [
            key
            for node in self.nodes.values()
            for key, run in node.runs.items()
            if isinstance(run, attempts.Live) and job_id in (None, key.job_id)
        ]

    def exit(
        self,
        job_id: str,
        code: int = 0,
        *,
        worker: int = 0,
        how: str = "exit",
        result: str | None = None,
        detail: str = "",
        known_s: float | None = None,
    ) -> None:
        (key,) = [key for key in self.live(job_id) if key.worker == worker]
        self.end(key, how, code, result=result, detail=detail, known_s=known_s)

    def end(
        self,
        key: RunKey,
        how: str,
        code: int | None,
        *,
        result: str | None = None,
        detail: str = "",
        known_s: float | None = None,
    ) -> None:
        """`known_s`: until when its node knows it to have lived, of an end that nobody saw; None: until now."""
        run = self.nodes[key.node].runs[key]
        saved = isinstance(run, attempts.Live) and run.stop is not None and run.stop.acknowledged
        spec = self.nodes[key.node].specs[key]
        directory = f"{spec.checkpoint_dir}/{key.job_id}/attempt-{key.attempt}" if saved else None
        if isinstance(run, attempts.Live):
            self.lived[key].to_s, self.lived[key].told = self.clock.now_s(), how != "unknown"
        at_s = self.clock.now_s() if known_s is None else known_s
        exited = attempts.ProcessExited(99, how, code, detail, at_s, result, directory)  # type: ignore[arg-type]
        self._step(key, replace(exited, use=self.uses.get(key.job_id)))

    def ready(self, job_id: str, worker: int = 0) -> str:
        """The replica answers from now on; gives its address."""
        key = max((key for key in self.live(job_id) if key.worker == worker), key=lambda key: key.attempt)
        address = f"addr-{key.node}:{30_000 + 100 * key.attempt + worker}"
        self._step(key, attempts.ReadySeen(address))
        return address

    def find(self, node: str, *findings: Finding) -> None:
        """Health finds this on the node from now on, and nothing else."""
        self.found[node] = findings
        self._emit(node, HealthChanged(node, self._all_found(node), self.clock.now_s()))

    def _all_found(self, node: str) -> tuple[Finding, ...]:
        noted = self.noted.get(node, {})
        return (*self.found.get(node, ()), *(each for source in sorted(noted) for each in noted[source]))

    def tick(self) -> None:
        """Let deadlines of stops and leases pass, on nodes that nobody can reach as on others."""
        now_s = self.clock.now_s()
        for key in self.live():
            node, spec = self.nodes[key.node], self.nodes[key.node].specs[key]
            lapsed_s = now_s - node.lease_until_s - (spec.grace_s if key.job_id in self.stubborn else 0.0)
            if lapsed_s > 0 and spec.lease_bound and key.job_id not in self.ignores_lease:
                self.end(key, "lease", None)
        for key in [key for node in self.nodes.values() for key in node.runs]:
            self._step(key, attempts.Tick())

    # -- inside ----------------------------------------------------------------------------------------------------

    def _greet(self, name: str) -> None:
        node = self.nodes[name]
        runs = tuple(self._report(key, run) for key, run in node.runs.items())
        self._tell(NodeUp(node.facts, runs, (), 1, findings=self._all_found(name)))
        for number, event in list(node.events):
            self._tell(RunEvent(event, name, number))

    def _report(self, key: RunKey, run: attempts.RunState) -> RunReport:
        report, lived = attempts.report(run), self.lived.get(key)
        if lived is None or report.exited is not None:
            return report
        return replace(report, ran_s=self.clock.now_s() - lived.from_s)

    def _tell(self, event: EngineEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)

    def _emit(self, name: str, event: Event) -> None:
        node = self.nodes[name]
        node.last_seq += 1
        node.events.append((node.last_seq, event))
        if node.reachable:
            self._tell(RunEvent(event, name, node.last_seq))

    def _step(self, key: RunKey, event: Prepare | Release | Stop | Forget | attempts.Observed) -> None:
        node = self.nodes[key.node]
        state, outputs = attempts.step(event, node.runs.get(key), self.clock.now_s())
        if state is None:
            node.runs.pop(key, None)
        else:
            node.runs[key] = state
        for output in outputs:
            self._perform(key, node, output)

    def _perform(self, key: RunKey, node: FakeNode, output: attempts.Output) -> None:
        match output:
            case attempts.Check():
                bad = self.bad_checks.get(key.node)
                node.next_port += 1
                passed = attempts.CheckPassed(node.facts.address, node.next_port)
                self._step(key, attempts.CheckFailed(*bad) if bad else passed)
            case attempts.Launch():
                if key.node in self.refuses:
                    self._step(key, attempts.LaunchFailed(self.refuses[key.node]))
                    return
                self._check_launch(key, node, output)
                if not self.silent_starts:
                    self.lived[key] = Lived(self.clock.now_s())
                    self._step(key, attempts.Launched(99, self.clock.now_s()))
            case attempts.Signal(ask=True):
                if key.job_id in self.saves:
                    self._step(key, attempts.AckSeen())
            case attempts.Signal(number=number):
                if number == signal.SIGKILL or key.job_id not in self.stubborn:
                    self.end(key, "signal", int(number))
            case attempts.Emit(event=event):
                self._emit(key.node, event)
            case attempts.Drop():
                pass

    # -- promises --------------------------------------------------------------------------------------------------

    def _check_placement(self, command: Prepare) -> None:
        key, spec = command.key, command.spec
        place = (key.node, spec.device_indices, spec.share_milli)
        name = (key.job_id, key.attempt, key.worker)
        assert self.places.setdefault(name, place) == place, f"{name} was at {self.places[name]}, now at {place}"

    def _check_launch(self, key: RunKey, node: FakeNode, launch: attempts.Launch) -> None:
        assert key not in node.launched, f"{key} launched twice"
        node.launched.add(key)
        self.launched.append(key)
        self.masters[key] = (launch.master_addr, launch.master_port)
        spec = node.specs[key]
        others = [other for other in self.live(key.job_id) if other.attempt != key.attempt]
        if spec.lease_bound and key.job_id not in self.ignores_lease:
            assert not others, f"{key} starts while {others} still live: two writers"
        used: dict[int, int] = {}
        for other, run in node.runs.items():
            if isinstance(run, attempts.Live | attempts.Launching):
                spec = node.specs[other]
                for device in spec.device_indices:
                    used[device] = used.get(device, 0) + (spec.share_milli or 1000)
        over = {device: milli for device, milli in used.items() if milli > 1000}
        assert not over, f"devices of {key.node} are given out twice: {over} as {key} starts"
