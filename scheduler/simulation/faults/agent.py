"""The agent's process on a simulated node: performs in virtual time what node_agent.agent_runs asks for, as host.py
does live, and answers the service's calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, assert_never

from node_agent import attempts
from node_agent.agent_runs import (
    ABOUT_NO_RUN,
    END_TOLD_S,
    AgentRuns,
    CheckRun,
    ForgetFindings,
    ForgetRun,
    KeepNoted,
    KnownRun,
    LaunchRun,
    LookAtEnd,
    RenewLaunchersLease,
    Request,
    SignalRun,
    StaleEpoch,
)
from node_agent.event_numbers import NumberedEvents
from node_agent.execution.resume_choice import newest_saved
from node_agent.launcher.records import LaunchOrder, RunRecord
from node_agent.launcher.supervisor import Rejected
from node_agent.messages import NODES_FAULT, AgentHello, Command, Event, EventBatch, HealthChanged, RunKey
from scheduler.simulation.faults.timeline import Appointment

if TYPE_CHECKING:
    from scheduler.simulation.faults.machine import Machine, VirtualLauncher

HOP_S = 0.0005  # between process, launcher and agent
LAUNCHER_STARTS_S = 0.2
LAUNCHER_PAUSE_S = 1.0  # after one is lost, before it looks for another
LOOKS_FOR_ACK_S = 0.05
CHECK_S = 0.002
LOOK_S = 0.004
FIRST_PORT = 20_000
SERVING_PORT = 30_000


def key_text(key: RunKey) -> str:
    return json.dumps([key.job_id, key.attempt, key.worker, key.node], separators=(",", ":"))


def key_of_text(text: str) -> RunKey:
    job_id, attempt, worker, node = json.loads(text)
    return RunKey(job_id, attempt, worker, node)


class VirtualAgent:
    """One incarnation. Calls to it are lost once it is dead, as Ray's are with the actor that they were made to."""

    def __init__(self, machine: Machine, incarnation: str) -> None:
        self._machine = machine
        self._timeline = machine.timeline
        self.dead = False
        self.launcher: VirtualLauncher | None = None
        self._events = NumberedEvents(incarnation, int(machine.wall_s()) << 20)
        self._runs = AgentRuns(self._tell)
        self._timers: dict[RunKey, Appointment] = {}
        self._greetings: list[Callable[[], None]] = []
        self._polls: list[tuple[int, Callable[[], None]]] = []
        self._next_port = FIRST_PORT
        anchored_s = machine.wall_s() - machine.boot_s()
        self._now_s: Callable[[], float] = lambda: anchored_s + machine.boot_s()

    def knows_runs(self) -> bool:
        return bool(self._runs.states)

    def die(self) -> None:
        self.dead = True
        for timer in self._timers.values():
            timer.call_off()

    # ---- the service's calls ---------------------------------------------------------------------------------------

    def hello(self, epoch: int, session: int, answer: Callable[[AgentHello | StaleEpoch], None]) -> None:
        if self.dead:
            return
        try:
            self._runs.open_session(epoch, session)
        except StaleEpoch as error:
            answer(error)
            return
        if self.launcher is None:  # the answer waits until there is one
            self._greetings.append(lambda: self.hello(epoch, session, answer))
            return
        over, told_by_s = self._runs.ending(), self._now_s() + END_TOLD_S

        def when_told() -> None:
            if self.dead:
                return
            if over & self._runs.ending() and self._now_s() < told_by_s:
                self._timeline.after(HOP_S, when_told)
            else:
                self._answer_hello(epoch, session, answer)

        when_told()

    def _answer_hello(self, epoch: int, session: int, answer: Callable[[AgentHello | StaleEpoch], None]) -> None:
        try:
            self._runs.open_session(epoch, session)  # another one may have overtaken it meanwhile
        except StaleEpoch as error:
            answer(error)
            return
        answer(
            AgentHello(
                incarnation=self._events.incarnation,
                pid=1,
                launcher_pid=2,
                nodes=(self._machine.report(),),
                runs=self._runs.reports(self._machine.boot_s()),
                last_seq=self._events.last_seq,
                session=session,
                clock_s=self._machine.boot_s(),
            )
        )

    def perform(self, session: int, number: int, commands: Sequence[Command]) -> None:
        if not self.dead:
            self._do(self._runs.take(session, number, commands, self._now_s()))

    def poll(self, after_seq: int, wait_s: float, answer: Callable[[EventBatch], None]) -> None:
        if self.dead:
            return
        self._events.drop(after_seq)
        waiting = [True]

        def reply() -> None:
            if waiting and not self.dead:
                waiting.clear()
                runs = self._runs
                answer(
                    EventBatch(
                        self._events.incarnation,
                        self._events.after(after_seq),
                        session=runs.session,
                        heard=runs.heard,
                        clock_s=self._machine.boot_s(),
                    )
                )

        if self._events.has_after(after_seq):
            reply()
            return
        self._polls.append((after_seq, reply))
        self._timeline.after(wait_s, reply)

    def tell_health(self) -> None:
        if not self.dead:
            self._tell(HealthChanged(self._machine.name, self._machine.findings(), self._machine.wall_s()))

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        for after_seq, reply in self._polls:
            if self._events.has_after(after_seq):
                self._timeline.after(0.0, reply)
        self._polls = [poll for poll in self._polls if not self._events.has_after(poll[0])]

    # ---- the launcher ----------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """To a living launcher, or to one that is started now."""
        if self.dead or self.launcher is not None:
            return
        launcher = self._machine.find_launcher()
        if launcher is None:
            self._timeline.after(0.0, self._machine.start_launcher)
            self._timeline.after(LAUNCHER_STARTS_S, self.connect)
            return
        self.launcher = launcher
        table = []
        for record in launcher.supervisor.records():
            address, port = json.loads(record.tag)
            table.append(KnownRun(key_of_text(record.key), record, address, port))
        self._do(self._runs.agree(launcher.supervisor.epoch, table, self._now_s()))
        for known in table:
            self._after_step(known.key)
            self.look_if_ready(known.key)
        greetings, self._greetings = self._greetings, []
        for greet in greetings:
            greet()

    def on_launcher_lost(self) -> None:
        self.launcher = None
        self._timeline.after(LAUNCHER_PAUSE_S, self.connect)

    def on_exit(self, launcher: VirtualLauncher, record: RunRecord) -> None:
        if not self.dead and self.launcher is launcher:
            self._do(self._runs.exited(key_of_text(record.key), record))

    def _ask_launcher(self, ask: Callable[[VirtualLauncher], Callable[[], None]]) -> None:
        """A request, and its answer; neither arrives where one of the two has died."""
        asked = self.launcher

        def arrive() -> None:
            if asked is None or asked.dead:
                return
            answer = ask(asked)
            asked.turn()
            self._timeline.after(HOP_S, lambda: None if self.dead or self.launcher is not asked else answer())

        self._timeline.after(HOP_S, arrive)

    # ---- what the runs ask for -------------------------------------------------------------------------------------

    def _feed(self, key: RunKey, event: attempts.Input) -> None:
        if not self.dead:
            self._do(self._runs.feed(key, event, self._now_s()))
            self._after_step(key)

    def _do(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self._do_one(request)
        for request in requests:
            if not isinstance(request, ABOUT_NO_RUN):
                self._after_step(request.key)

    def _after_step(self, key: RunKey) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.call_off()
        deadline_s = self._runs.next_deadline_s(key)
        if deadline_s is not None:
            wait_s = max(0.0, deadline_s - self._now_s())
            self._timers[key] = self._timeline.after(wait_s, lambda: self._feed(key, attempts.Tick()))
        if attempts.awaits_ack(self._runs.states.get(key)):
            self._timeline.after(LOOKS_FOR_ACK_S, lambda: self.look_for_ack(key))

    def _do_one(self, request: Request) -> None:
        match request:
            case CheckRun():
                self._timeline.after(CHECK_S, lambda: self._check(request))
            case LaunchRun():
                self._launch(request)
            case SignalRun():
                self._signal(request)
            case ForgetRun(key=key, epoch=epoch):
                self._ask_launcher(lambda it: self._refusable(key, lambda: _forget(it, epoch, key)))
            case RenewLaunchersLease(epoch=epoch, lease_s=lease_s, stamp_s=stamp_s):
                self._ask_launcher(lambda it: self._refusable(None, lambda: _renew(it, epoch, lease_s, stamp_s)))
            case ForgetFindings() | KeepNoted():
                pass  # its devices are never unhealthy
            case LookAtEnd():
                self._timeline.after(LOOK_S, lambda: self._look_at_end(request))
            case _:
                assert_never(request)

    def _refusable(self, key: RunKey | None, ask: Callable[[], None]) -> Callable[[], None]:
        try:
            ask()
        except Rejected as error:
            said = error
            return lambda: self._note_epoch(key, said)
        except OSError:
            pass  # its disk is full
        return lambda: None

    def _note_epoch(self, key: RunKey | None, error: Rejected) -> None:
        if error.kind == "stale_epoch" and self.launcher is not None:
            self._runs.refused(key, self.launcher.supervisor.epoch)

    def _check(self, request: CheckRun) -> None:
        machine, key, spec = self._machine, request.key, request.spec
        missing = [i for i in spec.device_indices if i in machine.broken or i >= machine.devices]
        if missing:
            self._feed(key, attempts.CheckFailed(NODES_FAULT, f"node {key.node} has no device {missing[0]} any more"))
            return
        machine.specs[key] = spec
        self._next_port += 1
        self._feed(key, attempts.CheckPassed(machine.report().address, self._next_port))

    def _launch(self, request: LaunchRun) -> None:
        key, spec, launch = request.key, request.launch.spec, request.launch
        env = {"SUANLI_RESULT_FILE": f"/run/{key_text(key)}", "MASTER_PORT": str(launch.master_port)}
        files = self._machine.files
        if spec.checkpoint_dir is not None:
            job_directory = f"{spec.checkpoint_dir}/{key.job_id}"
            env["SUANLI_CHECKPOINT_DIR"] = f"{job_directory}/attempt-{key.attempt}"
            resume_from = newest_saved(
                spec.resume_from,
                key,
                job_directory,
                files.attempts_of(job_directory),
                lambda directory: directory in files.whole,
            )
            if resume_from is not None:
                env["SUANLI_RESUME_FROM"] = resume_from
        order = LaunchOrder(
            key=key_text(key),
            argv=spec.argv or ("model",),
            env=tuple(env.items()),
            cwd="/",
            stdout="out",
            stderr="err",
            memory_bytes=0,
            grace_s=spec.grace_s,
            lease_bound=spec.lease_bound,
            tag=json.dumps([self._machine.report().address, launch.master_port]),
            cpus_milli=spec.cpus_milli,
        )

        def ask(launcher: VirtualLauncher) -> Callable[[], None]:
            try:
                launcher.supervisor.check_epoch(request.epoch)
                (answer,) = launcher.supervisor.launch([order])
            except Rejected as error:
                answer = error
            if isinstance(answer, Rejected):
                refused = answer
                return lambda: self._launch_refused(key, refused)
            record = answer
            return lambda: self._launched(key, record)

        self._ask_launcher(ask)

    def _launch_refused(self, key: RunKey, error: Rejected) -> None:
        self._note_epoch(key, error)
        self._feed(key, attempts.LaunchFailed(str(error)))

    def _launched(self, key: RunKey, record: RunRecord) -> None:
        self._do(self._runs.launched(key, record, self._now_s()))
        self._after_step(key)
        self.look_if_ready(key)

    def _signal(self, request: SignalRun) -> None:
        key, number = request.key, request.number
        program = self._machine.program_of_key(key)
        if request.ask and program is not None:
            program.acknowledged = False  # an acknowledgement from before it was asked for is none

        def send(launcher: VirtualLauncher) -> None:
            launcher.supervisor.check_epoch(request.epoch)
            launcher.supervisor.send_signal(key_text(key), number, ask=request.ask)

        self._ask_launcher(lambda it: self._refusable(key, lambda: send(it)))

    def _look_at_end(self, request: LookAtEnd) -> None:
        key, record = request.key, request.record
        state, end = self._runs.states.get(key), request.record.exit
        assert end is not None, request
        if self.dead or state is None or isinstance(state, attempts.Ended):
            return
        saved = None
        spec = self._machine.specs.get(key)
        if spec is not None and spec.checkpoint_dir is not None:
            directory = f"{spec.checkpoint_dir}/{key.job_id}/attempt-{key.attempt}"
            saved = directory if directory in self._machine.files.whole else None
        facts = attempts.ProcessExited(record.pid, end.how, end.code, end.detail, end.at_s, None, saved, end.asked)
        self._feed(key, facts)

    # ---- what it watches for ---------------------------------------------------------------------------------------

    def look_for_ack(self, key: RunKey) -> None:
        program = self._machine.program_of_key(key)
        touched = program is not None and program.acknowledged
        if not self.dead and touched and attempts.awaits_ack(self._runs.states.get(key)):
            self._feed(key, attempts.AckSeen())

    def look_if_ready(self, key: RunKey) -> None:
        program = self._machine.program_of_key(key)
        state = self._runs.states.get(key)
        answers = program is not None and program.is_ready
        if not self.dead and answers and isinstance(state, attempts.Live) and state.ready is None:
            self._feed(key, attempts.ReadySeen(f"{self._machine.report().address}:{SERVING_PORT + key.attempt}"))


def _forget(launcher: VirtualLauncher, epoch: int, key: RunKey) -> None:
    launcher.supervisor.check_epoch(epoch)
    launcher.supervisor.forget(key_text(key))


def _renew(launcher: VirtualLauncher, epoch: int, lease_s: float, stamp_s: float) -> None:
    launcher.supervisor.check_epoch(epoch)
    launcher.supervisor.renew(lease_s, stamp_s)
