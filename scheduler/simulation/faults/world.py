"""A whole simulated site in one thread: what a story says is done to it, and all the while what must hold is looked at.

Time, network, disks, processes and clocks are virtual. The service, its links to the agents, the agents and the
launchers are the live ones. When the story is over all is mended, and within bounded time every job must have ended and
nothing must be left anywhere.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never
from zlib import crc32

from node_agent.messages import KEYLESS, Command, Exited
from scheduler.core.decisions import Policy, TenantPolicy
from scheduler.core.jobs import LIVE_STATES, Pending
from scheduler.core.reasons import Unsatisfiable
from scheduler.errors import SuanliError
from scheduler.ports import Change, EngineEvent, NodeDown, NodeUp, RunEvent
from scheduler.service import views
from scheduler.service.dispatch import is_service
from scheduler.simulation.faults.gateway import REPORT_S, VirtualGateway
from scheduler.simulation.faults.machine import Machine
from scheduler.simulation.faults.network import Network
from scheduler.simulation.faults.programs import SharedFiles
from scheduler.simulation.faults.service import Disk, ServiceProcess
from scheduler.simulation.faults.story import (
    BreakDevice,
    Cancel,
    CrashAgent,
    CrashLauncher,
    CutOff,
    Deploy,
    DrainNode,
    FailWrites,
    FreezeService,
    GoBack,
    JumpClock,
    KillNode,
    KillService,
    Quiet,
    RefuseWrites,
    RepeatExit,
    Scale,
    Serve,
    SilenceGateway,
    Step,
    Story,
    Submit,
    SubmitNonsense,
    Tamper,
    Undeploy,
    Weather,
    told,
)
from scheduler.simulation.faults.tenants import PRIORITY_CLASSES, Tenants
from scheduler.simulation.faults.timeline import Timeline
from scheduler.simulation.faults.truth import WHOLE_MILLI, Truth, Violation
from scheduler.simulation.faults.verdict import check_bill, check_jobs, check_nothing_left

START_S = 1_000_000.0
STORY_S = START_S + 1.0  # the site has come up by then
LOOK_EVERY_S = 5.0
CALM_S = 20.0  # after the last fault, before services are ended
FINISHES_WITHIN_S = 3600.0
HALF_LIFE_S = 3600.0
RESTART_S = 2.0

log = logging.getLogger("scheduler")


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a story. `at_s` counts from its beginning; `steps` are things that happened in virtual time."""

    story: Story
    steps: int
    at_s: float
    violation: Violation | None
    jobs: int
    digest: int
    """Of everything that happened, in order: equal for equal runs."""


class World:
    """`trace` is told what happens, a line each, with its time."""

    def __init__(self, story: Story, trace: Callable[[str], None] | None = None) -> None:
        setup = story.setup
        self._trace = trace
        self.story = story
        self.timeline = Timeline(START_S)
        self.network = Network(self.timeline, setup.seed)
        self.files = SharedFiles()
        self.tenants = Tenants(setup.devices)
        most = None if setup.quota_studio is None else setup.quota_studio * WHOLE_MILLI
        self.disk = Disk(self._committed)
        quotas = {"studio": (most, setup.limit_studio_jobs)}
        self.truth = Truth(self.disk.kept, self.files, lambda: self.timeline.now_s, quotas)
        self.truth.say = self._say
        studio = TenantPolicy(maximum_milli=most, max_running_jobs=setup.limit_studio_jobs)
        self._policy = Policy(
            tenants={"studio": studio},
            non_preempting=frozenset({PRIORITY_CLASSES["best-effort"]}),
            min_run_before_preemption_s=10.0,
            min_run_before_growth_s=30.0,
        )
        self.machines = {
            name: Machine(self.timeline, name, devices, setup.lease_s, self.files, self.tenants.program_of, self.truth)
            for name, devices in zip(setup.nodes, setup.devices, strict=True)
        }
        self.gateway = VirtualGateway()
        self.gateway.errors_milli = self.tenants.errors_milli
        for machine in self.machines.values():
            machine.tells_health = setup.tells_health
        self.service: ServiceProcess | None = None
        self._frozen: list[ServiceProcess] = []
        self._head_offset_s = 0.0
        self._down_s = RESTART_S
        """How long after the next death of the service another one is started."""
        self._exits: deque[RunEvent] = deque(maxlen=20)
        self._over = False
        self._digest = 0

    # ---- running ---------------------------------------------------------------------------------------------------

    def run(self) -> Run:
        """To the end, or to the first broken promise."""
        heard = _Complaints()
        log.addHandler(heard)
        was, log.propagate = log.propagate, False
        violation: Violation | None = None
        try:
            self._play()
        except Violation as broken:
            violation = broken
        finally:
            log.removeHandler(heard)
            log.propagate = was
        if violation is not None and violation.promise == "no_bugs":
            violation = Violation("no_bugs", f"{violation.text}: {heard.last}")
        at_s = self.timeline.now_s - STORY_S
        return Run(self.story, self.timeline.steps, at_s, violation, len(self.disk.kept.jobs), self._digest)

    def _play(self) -> None:
        self.timeline.after(0.0, self._start_service)
        for step in self.story.steps:
            self.timeline.at(STORY_S + step.at_s, lambda step=step: self._do(step))  # type: ignore[misc]
        self.timeline.after(LOOK_EVERY_S, self._look_around)
        if any(isinstance(step.what, Deploy) for step in self.story.steps):
            self.timeline.after(REPORT_S, self._requests)
        over_s = STORY_S + self.story.setup.faults_until_s
        self.timeline.run(over_s, self._after_each)
        self._mend()
        self.timeline.run(over_s + CALM_S, self._after_each)
        end_s = over_s + CALM_S + FINISHES_WITHIN_S
        while not self._is_finished() and self.timeline.now_s < end_s:
            self._end_services()
            self.timeline.run(self.timeline.now_s + LOOK_EVERY_S, self._after_each)
        self._judge()

    def _after_each(self) -> None:
        self._note(f"{self.timeline.now_s} {len(self.truth.runs)}")
        if self.service is not None and self.service.has_met_a_bug():
            raise Violation("no_bugs", "the service met what cannot happen")

    def _look_around(self) -> None:
        self.timeline.after(LOOK_EVERY_S, self._look_around)
        lease_s = self.story.setup.lease_s
        # Long enough for a launcher that is away with its agent, on a node that is cut off for as long as any is.
        self.truth.check_gangs(2 * lease_s + 40.0 + lease_s + 120.0)
        self.truth.check_acknowledged()
        service = self.service
        if service is not None and not service.frozen and not service.in_doubt():
            for job in service.state.jobs.values():
                if isinstance(job.state, Pending) and service.state.planned_s > job.submitted_s:
                    reason = views.shown_reason(service.state, job)
                    if reason is None or not views.reason_text(reason, service.clock.now_s()):
                        raise Violation("a_reason", f"job {job.id} waits for no reason: {job.state}")

    def _note(self, text: str) -> None:
        self._digest = crc32(text.encode(), self._digest)

    def _say(self, text: str) -> None:
        if self._trace is not None:
            self._trace(f"{self.timeline.now_s - STORY_S:9.3f}  {text}")

    def _committed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._say(f"store: job {change.job.id} {change.event} -> {change.job.state.kind} {dict(change.detail)}")
        self.truth.committed(changes)
        self._note(" ".join(f"{change.job.id} {change.event}" for change in changes))

    # ---- the service -----------------------------------------------------------------------------------------------

    def _start_service(self) -> None:
        """As `suanli up` would, again and again where the store cannot be opened."""
        if self.service is not None:
            return
        process = ServiceProcess(
            self.timeline,
            self.network,
            self.machines,
            self.disk,
            self.gateway,
            wall_s=self.timeline.now_s + self._head_offset_s,
            policy=self._policy,
            priority_classes=PRIORITY_CLASSES,
            lease_s=self.story.setup.lease_s,
            half_life_s=HALF_LIFE_S,
            sent=self._sent,
            heard=self._heard,
            died=self._died,
        )
        try:
            process.start()
        except SuanliError:
            self.timeline.after(RESTART_S, self._start_service)
            return
        self.service = process
        self._say(f"a service has started, epoch {process.state.epoch}")

    def _died(self, process: ServiceProcess) -> None:
        self._say("the service is killed")
        if self.service is process:
            self.service = None
            self.timeline.after(self._down_s, self._start_service)

    def _with_service(self, act: Callable[[ServiceProcess], None]) -> None:
        """Somebody asks something of the service: in vain while there is none, so they ask again."""
        service = self.service
        if service is None or service.frozen:
            self.timeline.after(3.0, lambda: self._with_service(act))
            return
        service.act(lambda: act(service))

    def _sent(self, node: str, command: Command) -> None:
        if not isinstance(command, KEYLESS):
            key = command.key
            which = f"job {key.job_id} attempt {key.attempt} worker {key.worker}"
            self._say(f"service to {node}: {type(command).__name__} {which}")
        self._note(f"{node} {type(command).__name__}")

    def _heard(self, event: EngineEvent) -> None:
        match event:
            case NodeUp(facts=facts, runs=runs):
                there = ", ".join(f"{r.key.job_id}/{r.key.attempt}/{r.key.worker} {r.phase}" for r in runs)
                self._say(f"service hears: node {facts.name} is up with {len(facts.devices)} devices, runs: {there}")
            case NodeDown(node=node, detail=detail):
                self._say(f"service hears: node {node} is down: {detail}")
            case RunEvent(event=said, agent=agent):
                key = said.key
                which = "" if key is None else f"job {key.job_id} attempt {key.attempt} worker {key.worker}"
                how = f" {said.how} {said.code}" if isinstance(said, Exited) else ""
                self._say(f"service hears from {agent}: {said.kind} {which}{how}")
        if isinstance(event, RunEvent) and isinstance(event.event, Exited):
            self._exits.append(event)

    # ---- the story -------------------------------------------------------------------------------------------------

    def _do(self, step: Step) -> None:
        what = step.what
        self._say(f"STEP {step.number}: {told(what)}")
        match what:
            case Submit() | Serve() | SubmitNonsense() | Cancel() | Scale() | Deploy() | GoBack() | Undeploy():
                self._with_service(lambda service: self.tenants.ask(service.service, step, self.truth))
            case Quiet(number=number, for_s=for_s):
                self.gateway.asleep.add(f"svc-{number}")
                self.timeline.after(for_s, lambda: self.gateway.asleep.discard(f"svc-{number}"))
            case SilenceGateway(for_s=for_s):
                self.gateway.silent = True
                self.timeline.after(for_s, self._gateway_speaks)
            case DrainNode(node=node, for_s=for_s):
                self._with_service(lambda service: self.tenants.drain(service.service, node))
                self.timeline.after(
                    for_s, lambda: self._with_service(lambda service: self.tenants.resume(service.service, node))
                )
            case KillService(point=point, down_s=down_s):
                self._down_s = down_s
                if self.service is not None:
                    self.service.arm(point)
            case FreezeService():
                self._freeze(what)
            case RefuseWrites(for_s=for_s):
                self.disk.kept.full = True
                self.timeline.after(for_s, self._take_writes)
            case FailWrites(count=count):
                self.disk.failing += count
            case CrashAgent(node=node):
                self.machines[node].crash_agent()
            case CrashLauncher(node=node):
                self.machines[node].crash_launcher()
            case KillNode(node=node, down_s=down_s, torn_bytes=torn_bytes):
                self.machines[node].power_off(torn_bytes)
                self.timeline.after(down_s, self.machines[node].power_on)
            case CutOff():
                self.network.cut(what)
                self.timeline.after(what.for_s, lambda: self._join(what))
            case Tamper():
                self.network.tamper(what)
            case Weather():
                self.network.weather(what)
            case JumpClock(host=host, by_s=by_s):
                if host == "head":
                    self._head_offset_s += by_s
                else:
                    self.machines[host].wall_offset_s += by_s
            case BreakDevice():
                self._break_device(what)
            case RepeatExit(count=count, later_s=later_s):
                again = list(self._exits)[-count:]
                self.timeline.after(later_s, lambda: self._repeat(again))
            case _:
                assert_never(what)

    def _gateway_speaks(self) -> None:
        self.gateway.silent = False

    def _requests(self) -> None:
        """What came of a second of requests to deployed services, by the table that the gateway has."""
        self.timeline.after(REPORT_S, self._requests)
        service = self.service
        if service is None or service.frozen or service.in_doubt():
            return
        if self.gateway.epoch == service.state.epoch:
            self.gateway.check(service.state)
        if not self.gateway.silent:
            service.hear_loads("gateway", self.gateway.loads(self.timeline.now_s))

    def _freeze(self, what: FreezeService) -> None:
        service = self.service
        if service is None:
            return
        service.freeze()
        self._frozen.append(service)
        self.timeline.after(what.other_after_s, lambda: self._replace(service))
        self.timeline.after(what.for_s, service.thaw)

    def _replace(self, frozen: ServiceProcess) -> None:
        if self.service is frozen:
            self.service = None
            self._start_service()

    def _take_writes(self) -> None:
        self.disk.kept.full = False

    def _join(self, what: CutOff) -> None:
        if not self._over:
            self.network.join(what)
        if what.agent_dies:
            self.machines[what.node].crash_agent()

    def _break_device(self, what: BreakDevice) -> None:
        machine = self.machines[what.node]
        if what.device in machine.broken:
            return
        for run in self.truth.alive():
            if run.key.node == what.node and what.device in run.spec.device_indices:
                self.tenants.expected.killed_by_device[run.key.job_id] = (
                    self.tenants.expected.killed_by_device.get(run.key.job_id, 0) + 1
                )
        machine.break_device(what.device)
        self.timeline.after(what.for_s, lambda: machine.mend_device(what.device))

    def _repeat(self, events: list[RunEvent]) -> None:
        service = self.service
        if service is not None and not service.frozen:
            for event in events:
                service.hear_again(event)

    # ---- the end ---------------------------------------------------------------------------------------------------

    def _mend(self) -> None:
        """From now on nothing more breaks, and what is broken is brought back."""
        self._say("all faults are over")
        self._over = True
        self.network.heal()
        self.disk.kept.full = False
        self.disk.failing = 0
        for service in self._frozen:
            service.thaw()
        if self.service is not None:
            self.service.disarm()
        self._down_s = RESTART_S
        for machine in self.machines.values():
            machine.power_on()
            for device in sorted(machine.broken):
                machine.mend_device(device)
        if self.service is None:
            self._start_service()

    def _end_services(self) -> None:
        """What would go on for ever is ended: services, drains, and jobs that were taken while nobody knew that no node
        could ever run them."""
        service = self.service
        if service is None:
            return
        for node in list(self.disk.kept.drains):
            self._with_service(lambda it, node=node: self.tenants.resume(it.service, node))  # type: ignore[misc]
        for job in list(service.state.jobs.values()):
            if is_service(job) or isinstance(views.shown_reason(service.state, job), Unsatisfiable):
                job_id = job.id
                self._with_service(lambda it, job_id=job_id: self.tenants.cancel(it.service, job_id))  # type: ignore[misc]

    def _is_finished(self) -> bool:
        if any(isinstance(job.state, LIVE_STATES) for job in self.disk.kept.jobs.values()):
            return False
        if self.truth.alive() or self.service is None or self.service.in_doubt():
            return False
        for machine in self.machines.values():
            launcher, agent = machine.launcher, machine.agent
            if launcher is not None and launcher.supervisor.records():
                return False
            if agent is not None and agent.knows_runs():
                return False
        return not any(self.service.state.strays.values())

    def _judge(self) -> None:
        kept, truth = self.disk.kept, self.truth
        truth.check_acknowledged()
        check_jobs(kept, truth, self.tenants.expected, self.files.failures)
        left = [run.key for run in truth.alive()]
        if left:
            raise Violation("nothing_left", f"processes of jobs that have ended still run: {left}")
        if not self._is_finished():
            left_runs = [
                (name, machine.launcher.supervisor.records() if machine.launcher else None)
                for name, machine in self.machines.items()
            ]
            raise Violation("nothing_left", f"nodes still keep runs that are over: {left_runs}")
        check_bill(kept, truth)
        assert self.service is not None
        check_nothing_left(self.service.state)


class _Complaints(logging.Handler):
    """Keeps the last error that the service wrote down."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        if record.exc_info is not None and record.exc_info[1] is not None:
            error = record.exc_info[1]
            said = f"{type(error).__name__}: {error}; {said}"
            self.last = said[:1500]
        elif not self.last:
            self.last = said[:1500]
