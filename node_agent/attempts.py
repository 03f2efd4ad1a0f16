"""What happens to one run on its node? A pure state machine: (event, state, now_s) -> (state, outputs).

A run is one worker of one attempt. The agent and the simulator feed it the service's messages and what they observe
(the checks' answer, the launcher's facts, a checkpoint's acknowledgement, time), and perform its outputs. `None` is a
run that nobody has heard of, before and after.

Promises, whatever the order and repetition of messages: a key is launched at most once; a launched run ends in one
Exited that is the same however often it is asked for, until Forget; what is asked twice is answered twice.

Stopping. With a checkpoint: the run is asked for it at once; SIGTERM follows the acknowledgement, or comes
`kill_wait_s` before the end of the grace (in its second half, where the grace is short); SIGKILL `kill_wait_s` after
SIGTERM, so never after the end of the grace. Without: SIGTERM at once, SIGKILL at the end of the grace. Where somebody
looks too late (the machine slept) there is still a moment between SIGTERM and SIGKILL.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from node_agent.messages import (
    KILL_WAIT_S,
    Checkpointed,
    DeviceUse,
    Event,
    Exited,
    Forget,
    LaunchSpec,
    Prepare,
    Prepared,
    PrepareFailed,
    Ready,
    Release,
    RunKey,
    RunReport,
    Started,
    Stop,
)

LATE_KILL_WAIT_S = 1.0
# Why a run was asked to go, when the agent that was told has died since.
ASKED_BEFORE = "asked before this agent began"

# ---- what is observed ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CheckPassed:
    """The node can start the run; `master_port` is a free port of it and `address` the node's own."""

    address: str
    master_port: int


@dataclass(frozen=True, slots=True)
class CheckFailed:
    field: str
    detail: str


@dataclass(frozen=True, slots=True)
class Launched:
    """The launcher has started the process."""

    pid: int
    at_s: float


@dataclass(frozen=True, slots=True)
class LaunchFailed:
    """The launcher has not started it and never will."""

    detail: str


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """The run's main process is gone. Fields as in messages.Exited; `pid` is None when it was never known. `asked`: it
    had been signalled before, perhaps by an agent before this one.
    """

    pid: int | None
    how: Literal["exit", "signal", "out_of_memory", "lease", "unknown", "never_started"]
    code: int | None
    detail: str
    at_s: float
    result: str | None = None
    checkpoint_dir: str | None = None
    asked: bool = False
    use: DeviceUse | None = None


@dataclass(frozen=True, slots=True)
class AckSeen:
    """The run has touched its SUANLI_CHECKPOINT_ACK."""


@dataclass(frozen=True, slots=True)
class ReadySeen:
    address: str
    unix_path: str | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Observed = CheckPassed | CheckFailed | Launched | LaunchFailed | ProcessExited | AckSeen | ReadySeen | Tick
Input = Prepare | Release | Stop | Forget | Observed

# ---- what is to be done --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """Find out whether the run could start; answer with CheckPassed or CheckFailed."""

    spec: LaunchSpec


@dataclass(frozen=True, slots=True)
class Launch:
    """Start the process; answer with Launched, LaunchFailed or ProcessExited."""

    spec: LaunchSpec
    master_addr: str
    master_port: int


@dataclass(frozen=True, slots=True)
class Signal:
    """Send `number` to the run's process group; `ask`: to those of its processes that await it, for a checkpoint."""

    number: int
    ask: bool = False


@dataclass(frozen=True, slots=True)
class Emit:
    event: Event


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget the run everywhere."""


Output = Check | Launch | Signal | Emit | Drop

# ---- states --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Checking:
    key: RunKey
    spec: LaunchSpec
    release: Release | None
    start_at_once: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """Checked; waits for Release."""

    key: RunKey
    spec: LaunchSpec
    prepared: Prepared


@dataclass(frozen=True, slots=True)
class Rejected:
    key: RunKey
    answer: PrepareFailed


@dataclass(frozen=True, slots=True)
class Launching:
    """The launcher was told. A Stop that comes meanwhile waits for its answer: a process cannot be unlaunched."""

    key: RunKey
    launch: Launch
    prepared: Prepared
    stop: Stop | None = None


@dataclass(frozen=True, slots=True)
class StopPlan:
    """A stop under way. `term_s` is when SIGTERM is due (None: sent), `kill_s` when SIGKILL is (None: sent).

    `asked_with` is the signal by which a checkpoint was asked for, `kill_wait_s` what lies between SIGTERM and SIGKILL.
    """

    cause: str
    checkpoint: bool
    acknowledged: bool
    grace_end_s: float
    term_s: float | None
    kill_s: float | None
    asked_with: int = signal.SIGUSR1
    kill_wait_s: float = KILL_WAIT_S


@dataclass(frozen=True, slots=True)
class Live:
    key: RunKey
    prepared: Prepared
    started: Started
    ready: Ready | None = None
    stop: StopPlan | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    key: RunKey
    exited: Exited
    pid: int | None = None


RunState = Checking | Waiting | Rejected | Launching | Live | Ended
Step = tuple[RunState | None, tuple[Output, ...]]


# ---- the machine ---------------------------------------------------------------------------------------------------


def step(event: Input, state: RunState | None, now_s: float) -> Step:
    """What follows from `event` at `now_s`: the new state (None: nothing is left to know) and what to do, in order."""
    match event:
        case Prepare():
            return _prepare(event, state)
        case Release():
            return _release(event, state, now_s)
        case Stop():
            return _stop(event, state, now_s)
        case Forget():
            return _forget(state)
        case CheckPassed():
            return _check_passed(event, state)
        case CheckFailed():
            if isinstance(state, Checking):
                answer = PrepareFailed(state.key, event.field, event.detail)
                return Rejected(state.key, answer), (Emit(answer),)
            return state, ()
        case Launched():
            return _launched(event, state, now_s)
        case LaunchFailed():
            if isinstance(state, Launching):
                cause = state.stop.cause if state.stop else None
                return _never_started(state.key, cause, event.detail, now_s)
            return state, ()
        case ProcessExited():
            return _process_exited(event, state)
        case AckSeen():
            return _ack_seen(state, now_s)
        case ReadySeen():
            if isinstance(state, Live) and state.ready is None:
                ready = Ready(state.key, event.address, now_s, event.unix_path)
                return replace(state, ready=ready), (Emit(ready),)
            return state, ()
        case Tick():
            return _tick(state, now_s)
        case _:
            assert_never(event)


def _answers(state: RunState) -> tuple[Output, ...]:
    """What was answered so far, again."""
    match state:
        case Checking():
            return ()  # the answer is on its way
        case Waiting() | Launching():
            return (Emit(state.prepared),)
        case Rejected():
            return (Emit(state.answer),)
        case Live():
            said: list[Event] = [state.prepared, state.started]
            if state.ready is not None:
                said.append(state.ready)
            return tuple(Emit(event) for event in said)
        case Ended():
            return (Emit(state.exited),)
        case _:
            assert_never(state)


def _never_started(key: RunKey, cause: str | None, detail: str, now_s: float) -> Step:
    exited = Exited(key, "never_started", None, cause, detail, now_s)
    return Ended(key, exited), (Emit(exited),)


def _prepare(event: Prepare, state: RunState | None) -> Step:
    if state is not None:
        return state, _answers(state)
    return Checking(event.key, event.spec, None, event.release), (Check(event.spec),)


def _release(event: Release, state: RunState | None, now_s: float) -> Step:
    match state:
        case None:
            detail = "it was never prepared on this node, or the node's agent was restarted since"
            return _never_started(event.key, None, detail, now_s)
        case Checking():
            return replace(state, release=event), ()
        case Waiting():
            launch = Launch(state.spec, event.master_addr, event.master_port)
            return Launching(state.key, launch, state.prepared), (launch,)
        case Launching():
            return state, ()
        case Live():
            return state, (Emit(state.started),)
        case Rejected() | Ended():
            return state, _answers(state)
        case _:
            assert_never(state)


def _check_passed(event: CheckPassed, state: RunState | None) -> Step:
    if not isinstance(state, Checking):
        return state, ()
    prepared = Prepared(state.key, event.address, event.master_port)
    if state.release is not None:
        launch = Launch(state.spec, state.release.master_addr, state.release.master_port)
    elif state.start_at_once:  # nobody waits to hear that it could
        launch = Launch(state.spec, event.address, event.master_port)
        return Launching(state.key, launch, prepared), (launch,)
    else:
        return Waiting(state.key, state.spec, prepared), (Emit(prepared),)
    return Launching(state.key, launch, prepared), (Emit(prepared), launch)


def _launched(event: Launched, state: RunState | None, now_s: float) -> Step:
    if not isinstance(state, Launching):
        return state, ()
    started = Started(state.key, event.pid, event.at_s)
    live = Live(state.key, state.prepared, started)
    if state.stop is None:
        return live, (Emit(started),)
    stopping, outputs = _begin_stop(state.stop, live, now_s)
    return stopping, (Emit(started), *outputs)


def _process_exited(event: ProcessExited, state: RunState | None) -> Step:
    match state:
        case Live():
            said: tuple[Output, ...] = ()
            pid: int | None = state.started.pid
            started_s: float | None = state.started.at_s
            cause = state.stop.cause if state.stop else None
        case Launching():  # the end was faster than the launcher's answer
            pid = event.pid
            said = (Emit(Started(state.key, pid, event.at_s)),) if pid is not None else ()
            started_s = event.at_s if pid is not None else None
            cause = state.stop.cause if state.stop else None
        case _:
            return state, ()
    if cause is None and event.asked:
        cause = ASKED_BEFORE
    exited = Exited(
        key=state.key,
        how=event.how,
        code=event.code,
        asked=cause,
        detail=event.detail,
        at_s=event.at_s,
        result=event.result,
        checkpoint_dir=event.checkpoint_dir,
        started_s=started_s,
        use=event.use,
    )
    return Ended(state.key, exited, pid), (*said, Emit(exited))


# ---- stopping ------------------------------------------------------------------------------------------------------


def _stop(event: Stop, state: RunState | None, now_s: float) -> Step:
    match state:
        case None:
            return _never_started(event.key, event.cause, "this node has no such run", now_s)
        case Checking() | Waiting() | Rejected():
            return _never_started(event.key, event.cause, "stopped before it was started", now_s)
        case Launching():
            return replace(state, stop=_sterner(state.stop, event)), ()
        case Live():
            if state.stop is None:
                return _begin_stop(event, state, now_s)
            return _stop_again(event, state, state.stop, now_s)
        case Ended():
            return state, _answers(state)
        case _:
            assert_never(state)


def _sterner(first: Stop | None, second: Stop) -> Stop:
    """Of two stops that wait for a launch: the one that does not wait for a checkpoint, else the first."""
    return second if first is None or (first.checkpoint and not second.checkpoint) else first


def _begin_stop(event: Stop, state: Live, now_s: float) -> Step:
    grace_end_s = now_s + event.grace_s
    if event.checkpoint:
        wait_s = min(event.kill_wait_s, event.grace_s / 2)
        number = _number(event.checkpoint_signal)
        plan = StopPlan(event.cause, True, False, grace_end_s, grace_end_s - wait_s, grace_end_s, number, wait_s)
        return replace(state, stop=plan), (Signal(number, ask=True),)
    plan = StopPlan(event.cause, False, False, grace_end_s, None, grace_end_s)
    return replace(state, stop=plan), (Signal(signal.SIGTERM),)


def _number(name: str) -> int:
    """Of a signal's name; the usual one's for a name that this machine does not know."""
    return getattr(signal, name, signal.SIGUSR1) if name.startswith("SIG") else signal.SIGUSR1


def _stop_again(event: Stop, state: Live, plan: StopPlan, now_s: float) -> Step:
    """A repeated Stop changes nothing, except that a plain one ends the wait for a checkpoint."""
    if event.checkpoint or not plan.checkpoint:
        return state, ()
    grace_end_s = now_s + event.grace_s
    kill_s = None if plan.kill_s is None else min(plan.kill_s, grace_end_s)
    sterner = StopPlan(event.cause, False, plan.acknowledged, grace_end_s, None, kill_s)
    outputs = (Signal(signal.SIGTERM),) if plan.term_s is not None else ()
    return replace(state, stop=sterner), outputs


def _terminate(state: Live, plan: StopPlan, now_s: float) -> Step:
    wait_s = plan.kill_wait_s
    kill_s = max(min(now_s + wait_s, plan.grace_end_s), now_s + min(wait_s, LATE_KILL_WAIT_S))
    return replace(state, stop=replace(plan, term_s=None, kill_s=kill_s)), (Signal(signal.SIGTERM),)


def _ack_seen(state: RunState | None, now_s: float) -> Step:
    if not isinstance(state, Live) or state.stop is None or not state.stop.checkpoint or state.stop.acknowledged:
        return state, ()
    plan = replace(state.stop, acknowledged=True)
    told = Emit(Checkpointed(state.key, now_s))
    if plan.term_s is None:
        return replace(state, stop=plan), (told,)
    after, outputs = _terminate(state, plan, now_s)
    return after, (told, *outputs)


def _tick(state: RunState | None, now_s: float) -> Step:
    if not isinstance(state, Live) or state.stop is None:
        return state, ()
    plan = state.stop
    if plan.term_s is not None and now_s >= plan.term_s:
        return _terminate(state, plan, now_s)
    if plan.kill_s is not None and now_s >= plan.kill_s:
        return replace(state, stop=replace(plan, term_s=None, kill_s=None)), (Signal(signal.SIGKILL),)
    return state, ()


def _forget(state: RunState | None) -> Step:
    """A process that lives, or may live, is never forgotten."""
    if isinstance(state, Launching | Live):
        return state, ()
    return None, (Drop(),)


# ---- questions about a state ---------------------------------------------------------------------------------------


def next_deadline_s(state: RunState | None) -> float | None:
    """When the next Tick is due; None: never."""
    if not isinstance(state, Live) or state.stop is None:
        return None
    due = [at_s for at_s in (state.stop.term_s, state.stop.kill_s) if at_s is not None]
    return min(due, default=None)


def awaits_ack(state: RunState | None) -> bool:
    return isinstance(state, Live) and state.stop is not None and state.stop.checkpoint and not state.stop.acknowledged


def report(state: RunState) -> RunReport:
    """The run for a service that reconnects. One that is being checked counts as prepared, a rejected one as ended."""
    match state:
        case Checking():
            return RunReport(state.key, "prepared", None, None, None)
        case Waiting() | Launching():
            return RunReport(state.key, "prepared", None, state.prepared.address, None)
        case Rejected():
            detail = f"{state.answer.field}: {state.answer.detail}"
            exited = Exited(state.key, "never_started", None, None, detail, 0.0)
            return RunReport(state.key, "exited", None, None, exited)
        case Live():
            phase: Literal["running", "ready", "stopping"] = "running"
            if state.stop is not None:
                phase = "stopping"
            elif state.ready is not None:
                phase = "ready"
            address, unix_path = (state.ready.address, state.ready.unix_path) if state.ready else (None, None)
            began_s = state.started.at_s
            return RunReport(state.key, phase, state.started.pid, address, None, began_s, unix_path=unix_path)
        case Ended():
            return RunReport(state.key, "exited", state.pid, None, state.exited, state.exited.started_s)
        case _:
            assert_never(state)


def last_signal(state: RunState | None) -> Signal | None:
    """What a stop under way has last sent: to be repeated when the launcher may not have heard it."""
    if not isinstance(state, Live) or state.stop is None:
        return None
    if state.stop.term_s is not None:
        return Signal(state.stop.asked_with, ask=True)
    return Signal(signal.SIGKILL if state.stop.kill_s is None else signal.SIGTERM)
