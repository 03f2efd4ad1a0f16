"""A simulated node: its clock, disk, devices and process table, with the real launcher (its logic on virtual ports) and
the real agent (without its I/O) on it, each of which may die alone.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Protocol

from node_agent.health.rules import DEFAULT_RULES
from node_agent.health.verdicts import Finding
from node_agent.launcher.journal import Journal
from node_agent.launcher.ports import Limits
from node_agent.launcher.records import LaunchOrder, RunRecord
from node_agent.launcher.supervisor import Supervisor
from node_agent.messages import DeviceReport, LaunchSpec, NodeReport, RunKey
from scheduler.simulation.faults.agent import HOP_S, VirtualAgent, key_of_text
from scheduler.simulation.faults.programs import Place, Program, SharedFiles
from scheduler.simulation.faults.story import Serve, Submit
from scheduler.simulation.faults.timeline import Appointment, Timeline
from scheduler.simulation.faults.virtual_journal import VirtualJournal
from scheduler.simulation.faults.virtual_processes import Behaviour, VirtualProcesses

BOOT_S = 10.0  # how old a node is when the story begins
AGENT_STARTS_S = 0.4
NOTICES_S = 0.03  # how long the agent takes to see a file that a run has touched
MODEL, VENDOR, MEMORY_BYTES = "H100 SXM", "nvidia", 80 * 10**9


class Witness(Protocol):
    """Sees what really happens on the nodes."""

    def process_started(
        self, machine: Machine, pid: int, key: RunKey, spec: LaunchSpec, order: LaunchOrder
    ) -> None: ...

    def process_ended(self, machine: Machine, pid: int, exit_code: int | None) -> None:
        """`exit_code` where it went by itself, at the end of its work."""
        ...


class VirtualLauncher:
    """One launcher process. Whatever is asked of it is followed by what a turn of the live server's loop does."""

    def __init__(self, machine: Machine, lease_s: float) -> None:
        self._machine = machine
        self.dead = False
        self._timer: Appointment | None = None
        anchored_s = machine.wall_s() - machine.boot_s()  # as node_agent.clock.SteadyClock
        self.supervisor = Supervisor(
            Journal(machine.journal, boot_id=machine.processes.boot_id, say=_nothing_said),
            machine.processes,
            lease_s=lease_s,
            boot_s=machine.boot_s,
            now_s=lambda: anchored_s + machine.boot_s(),
            on_exit=self._push,
            say=_nothing_said,
        )
        self.turn()

    def turn(self) -> None:
        """Hear of ends, act on deadlines, and look when the next one is due."""
        if self.dead:
            return
        self._hear_of_ends()
        self.supervisor.on_time()
        self._hear_of_ends()
        if self._timer is not None:
            self._timer.call_off()
            self._timer = None
        deadline_s = self.supervisor.next_deadline()
        if deadline_s is not None:
            wait_s = max(0.001, deadline_s - self._machine.boot_s())
            self._timer = self._machine.timeline.after(wait_s, self.turn)

    def _hear_of_ends(self) -> None:
        self._machine.note_ends()
        while self._machine.processes.has_news:
            self._machine.processes.deliver()
            self.supervisor.reap()

    def _push(self, record: RunRecord) -> None:
        agent = self._machine.agent
        if agent is not None and agent.launcher is self:
            self._machine.timeline.after(HOP_S, lambda: agent.on_exit(self, record))

    def die(self) -> None:
        self.dead = True
        if self._timer is not None:
            self._timer.call_off()


class Machine:
    """`program_of` finds what a job of that name is to do."""

    def __init__(
        self,
        timeline: Timeline,
        name: str,
        devices: int,
        lease_s: float,
        files: SharedFiles,
        program_of: Callable[[str], Submit | Serve],
        witness: Witness,
    ) -> None:
        self.timeline = timeline
        self.name = name
        self.lease_s = lease_s
        self.files = files
        self.devices = devices
        self.broken: set[int] = set()
        self.tells_health = False
        self.wall_offset_s = 0.0
        self.journal = VirtualJournal(f"{name} journal")
        self.alive = True
        self.agent: VirtualAgent | None = None
        self.launcher: VirtualLauncher | None = None
        self.specs: dict[RunKey, LaunchSpec] = {}
        self._program_of = program_of
        self._witness = witness
        self._broke_s: dict[int, float] = {}
        self._incarnations = 0
        self._programs: dict[int, Program] = {}
        self._ends: Appointment | None = None
        self._booted_s = timeline.now_s - BOOT_S
        self.processes = VirtualProcesses(
            self.boot_s, behave=self._behave, on_signal=self._on_signal, limits=Limits(memory=True, cpus=True)
        )

    def boot_s(self) -> float:
        return self.timeline.now_s - self._booted_s

    def wall_s(self) -> float:
        return self.timeline.now_s + self.wall_offset_s

    # ---- agent and launcher ----------------------------------------------------------------------------------------

    def find_agent(self) -> VirtualAgent | None:
        """The agent that lives here, or one that is started now; None while the node is down."""
        if not self.alive:
            return None
        if self.agent is None:
            self._incarnations += 1
            self.agent = VirtualAgent(self, f"{self.name}/{self._incarnations}")
            self.timeline.after(AGENT_STARTS_S, self.agent.connect)
        return self.agent

    def find_launcher(self) -> VirtualLauncher | None:
        """Who lives here already; None: nobody does."""
        return self.launcher

    def start_launcher(self) -> None:
        if self.alive and self.launcher is None:
            self.launcher = VirtualLauncher(self, self.lease_s)

    def crash_agent(self) -> None:
        agent, self.agent = self.agent, None
        if agent is not None:
            agent.die()

    def crash_launcher(self) -> None:
        launcher, self.launcher = self.launcher, None
        if launcher is None:
            return
        launcher.die()
        self.processes.launcher_died()
        if self.agent is not None:
            self.agent.on_launcher_lost()

    def power_off(self, keep_bytes: int) -> None:
        if not self.alive:
            return
        self.alive = False
        self.crash_agent()
        launcher, self.launcher = self.launcher, None
        if launcher is not None:
            launcher.die()
        for pid in list(self._programs):
            self._ended(pid)
        self.processes.power_off()
        self.journal.crash(min(keep_bytes, self.journal.unsynced_bytes))
        self._arrange_ends()

    def power_on(self) -> None:
        if not self.alive:
            self.alive = True
            self._booted_s = self.timeline.now_s - 1.0

    # ---- devices ---------------------------------------------------------------------------------------------------

    def report(self) -> NodeReport:
        devices = tuple(
            DeviceReport(i, f"{self.name}-gpu{i}", MODEL, VENDOR, MEMORY_BYTES, simulated=False)
            for i in range(self.devices)
            if i not in self.broken or self.tells_health
        )
        return NodeReport(
            self.name,
            "site",
            f"10.0.0.{self.name[1:]}",
            devices,
            64_000,
            512 * 2**30,
            simulated=False,
            findings=self.findings(),
        )

    def findings(self) -> tuple[Finding, ...]:
        rule = DEFAULT_RULES["device-lost"]
        return tuple(
            Finding(
                f"{self.name}-gpu{i}", rule.name, rule.use, rule.jobs, rule.lifts, "it broke", rule.advice.value, at_s
            )
            for i, at_s in sorted(self._broke_s.items())
            if self.tells_health
        )

    def mend_device(self, device: int) -> None:
        self.broken.discard(device)
        if self._broke_s.pop(device, None) is not None and self.agent is not None and self.tells_health:
            self.agent.tell_health()

    def break_device(self, device: int) -> None:
        """What uses it is killed by the driver; from the next greeting on the node does not list it."""
        self.broken.add(device)
        self._broke_s[device] = self.wall_s()
        if self.agent is not None and self.tells_health:
            self.agent.tell_health()
        for process in self.processes.alive():
            spec = self.specs.get(key_of_text(process.order.key))
            if spec is not None and device in spec.device_indices:
                self.processes.end(process.pid, signal.SIGKILL, by_signal=True)
        self.note_ends()
        self.news()

    # ---- processes -------------------------------------------------------------------------------------------------

    def _behave(self, order: LaunchOrder) -> Behaviour:
        key = key_of_text(order.key)
        spec, env = self.specs[key], dict(order.env)
        place = Place(key, env.get("SUANLI_CHECKPOINT_DIR"), env.get("SUANLI_RESUME_FROM"))
        program = Program(
            self.timeline,
            self.files,
            self._program_of(spec.job_name),
            place,
            on_ack=lambda: self._noticed_by_agent(lambda agent: agent.look_for_ack(key)),
            on_ready=lambda: self._noticed_by_agent(lambda agent: agent.look_if_ready(key)),
        )
        # The process is in the table when the launcher's step is over; it begins then.
        self.timeline.after(0.0, lambda: self._begin(order.key, program))
        return program.behaviour()

    def _begin(self, order_key: str, program: Program) -> None:
        for process in self.processes.alive():
            if process.order.key == order_key and process.pid not in self._programs:
                self._programs[process.pid] = program
                key = key_of_text(order_key)
                self._witness.process_started(self, process.pid, key, self.specs[key], process.order)
                program.run(self.processes, process.pid, self._ended_by_itself)
                return

    def _noticed_by_agent(self, look: Callable[[VirtualAgent], None]) -> None:
        def notice() -> None:
            if self.agent is not None:
                look(self.agent)

        self.timeline.after(NOTICES_S, notice)

    def _ended_by_itself(self) -> None:
        self.note_ends()
        self.news()

    def _on_signal(self, pid: int, number: int) -> None:
        program = self._programs.get(pid)
        if program is not None:
            program.signalled(number)
        self._arrange_ends()

    def _arrange_ends(self) -> None:
        """See to it that processes end when they are due to."""
        if self._ends is not None:
            self._ends.call_off()
            self._ends = None
        due_s = self.processes.next_end_s()
        if due_s is not None:
            self._ends = self.timeline.after(max(0.0, due_s - self.boot_s()), self._end_due)

    def _end_due(self) -> None:
        self._ends = None
        self.processes.end_due()
        self.note_ends()
        self.news()
        self._arrange_ends()

    def note_ends(self) -> None:
        """Programs whose process has ended do nothing more."""
        for pid in list(self._programs):
            process = self.processes.get(pid)
            if process is None or process.end is not None:
                self._ended(pid)

    def _ended(self, pid: int) -> None:
        program = self._programs.pop(pid)
        program.gone()
        self._witness.process_ended(self, pid, program.exit_code)

    def news(self) -> None:
        """Something has ended: the launcher hears of it at its next turn."""
        launcher = self.launcher
        if launcher is not None:
            self.timeline.after(HOP_S, launcher.turn)

    def program_of_key(self, key: RunKey) -> Program | None:
        for pid, program in self._programs.items():
            process = self.processes.get(pid)
            if process is not None and key_of_text(process.order.key) == key:
                return program
        return None


def _nothing_said(text: str) -> None:
    """Nobody reads a simulated launcher's log."""
