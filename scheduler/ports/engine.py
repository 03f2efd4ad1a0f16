"""How do commands reach nodes, and what comes back from them?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from node_agent.health.verdicts import Finding
from node_agent.messages import Command, Event, LogChunk, NodeReport, RunReport
from scheduler.core.demand import DeviceFacts, NodeFacts
from scheduler.ports.edge import Json
from scheduler.ports.readings import Readings


@dataclass(frozen=True, slots=True)
class NodeUp:
    """A node's agent answers. `runs` is what the node knows of runs, for reconciliation; `notes` are for operators.
    `heard_s`: as in NodeDown, before this answer. `shares`, `findings`: as in messages.NodeReport."""

    facts: NodeFacts
    runs: tuple[RunReport, ...]
    notes: tuple[str, ...]
    agent_pid: int
    heard_s: float | None = None
    shares: Literal["mps", "advisory"] = "advisory"
    findings: tuple[Finding, ...] = ()
    kind: Literal["node_up"] = "node_up"


@dataclass(frozen=True, slots=True)
class NodeDown:
    """A node's agent does not answer, or its Ray node is dead. `proof_of_death`: its processes are known to be gone.

    `heard_s`: when it last answered anything and had told all its news, by the service's clock; None: not known."""

    node: str
    detail: str
    proof_of_death: bool
    heard_s: float | None = None
    kind: Literal["node_down"] = "node_down"


@dataclass(frozen=True, slots=True)
class RunEvent:
    """An event of an agent. Acknowledged by `ack()` once what followed from it is committed."""

    event: Event
    agent: str
    seq: int
    kind: Literal["run_event"] = "run_event"


EngineEvent = NodeUp | NodeDown | RunEvent


class Engine(Protocol):
    """Carries commands to nodes and events back. No call blocks on a node."""

    def start(self, epoch: int, on_event: Callable[[EngineEvent], None]) -> None:
        """Connect, find or start agents, and from now on report through `on_event` (called from any thread)."""
        ...

    def send(self, node: str, commands: Sequence[Command]) -> None:
        """Hand over; failures come back as NodeDown. Commands to one node arrive in order."""
        ...

    def ack(self, agent: str, seq: int) -> None:
        """Everything up to `seq` of that agent is committed."""
        ...

    def read_log(
        self, node: str, job_id: str, attempt: int, worker: int, stream: str, offset: int, limit: int
    ) -> LogChunk:
        """Blocks up to some seconds. NotFound where there is no such log, Unavailable where the node is silent."""
        ...

    def readings(self) -> Readings:
        """The last readings of devices, as they are whenever it is asked."""
        ...

    def agents(self) -> Sequence[Json]:
        """[{"node", "pid", "launcher_pid", "nodes"}] for `suanli status`."""
        ...

    def close(self) -> None:
        """Disconnect; agents, launchers and jobs live on."""
        ...


def node_facts(report: NodeReport) -> NodeFacts:
    """An agent's report in the core's words."""
    return NodeFacts(
        name=report.name,
        site=report.site,
        address=report.address,
        devices=tuple(
            DeviceFacts(
                d.index, d.uuid, d.model, d.vendor, d.memory_bytes, d.simulated, d.island, d.mig_profile, d.labels
            )
            for d in report.devices
        ),
        cpus_milli=report.cpus_milli,
        memory_bytes=report.memory_bytes,
        simulated=report.simulated,
        labels=tuple(sorted(report.labels)),
        rack=report.rack,
    )
