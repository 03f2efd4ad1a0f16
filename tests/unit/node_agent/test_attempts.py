"""A run's machine: tables of what is said and asked, and the promises under any order of events."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.attempts import (
    AckSeen,
    Check,
    CheckFailed,
    CheckPassed,
    Drop,
    Emit,
    Ended,
    Input,
    Launch,
    Launched,
    LaunchFailed,
    Live,
    ProcessExited,
    ReadySeen,
    RunState,
    Signal,
    Tick,
    awaits_ack,
    last_signal,
    next_deadline_s,
    report,
    step,
)
from node_agent.messages import Exited, Forget, LaunchSpec, Prepare, Release, RunKey, Stop
from tests.fakes.examples import examples

KEY = RunKey("7", 1, 0, "n1")
SPEC = LaunchSpec(
    argv=("train",),
    model_path=None,
    model_class=None,
    env=(),
    working_dir=None,
    checkpoint_dir=None,
    resume_from=None,
    device_indices=(0,),
    share_milli=0,
    cpus_milli=1000,
    memory_bytes=0,
    world_size=1,
    grace_s=10.0,
    lease_bound=True,
    serves=False,
    job_name="j",
    tenant="t",
    kind="training",
)
ALONE = Prepare(1, KEY, SPEC, release=True)
OF_GANG = Prepare(1, KEY, SPEC, release=False)
RELEASE = Release(1, KEY, "10.0.0.1", 29500)
SAVE = Stop(1, KEY, checkpoint=True, grace_s=10.0, cause="preempted", kill_wait_s=2.0)
PLAIN = Stop(1, KEY, checkpoint=False, grace_s=10.0, cause="cancelled")
FORGET = Forget(1, KEY)
PASSED = CheckPassed("10.0.0.2", 4000)
LAUNCHED = Launched(42, 1.0)
EXITED = ProcessExited(42, "exit", 0, "exit code 0", 9.0)


@dataclass
class Run:
    """Feeds a machine and keeps what it asks for, in short words."""

    state: RunState | None = None
    now_s: float = 0.0
    said: list[str] = field(default_factory=list)
    exits: list[Exited] = field(default_factory=list)

    def feed(self, *events: Input, at_s: float | None = None) -> Run:
        self.now_s = self.now_s if at_s is None else at_s
        for event in events:
            self.state, outputs = step(event, self.state, self.now_s)
            for output in outputs:
                match output:
                    case Emit(event=emitted):
                        self.said.append(emitted.kind)
                        if isinstance(emitted, Exited):
                            self.exits.append(emitted)
                    case Signal(number=number, ask=ask):
                        self.said.append("ask " * ask + signal.Signals(number).name)
                    case Check() | Launch() | Drop():
                        self.said.append(type(output).__name__.lower())
        return self

    def since(self, *events: Input, at_s: float | None = None) -> list[str]:
        """What these events alone bring about."""
        before = len(self.said)
        self.feed(*events, at_s=at_s)
        return self.said[before:]


LIVE = (ALONE, PASSED, LAUNCHED)


@pytest.mark.parametrize(
    ("before", "event", "said"),
    [
        ((), ALONE, ["check"]),
        ((ALONE,), PASSED, ["launch"]),
        ((OF_GANG,), PASSED, ["prepared"]),
        ((OF_GANG, RELEASE), PASSED, ["prepared", "launch"]),
        ((ALONE,), CheckFailed("command", "x"), ["prepare_failed"]),
        ((OF_GANG, PASSED), RELEASE, ["launch"]),
        ((ALONE, PASSED), LAUNCHED, ["started"]),
        ((ALONE, PASSED), LaunchFailed("no such file"), ["exited"]),
        (LIVE, EXITED, ["exited"]),
        (LIVE, ReadySeen("a:1"), ["ready"]),
        ((*LIVE, ReadySeen("a:1")), ReadySeen("a:1"), []),
        ((*LIVE, EXITED), EXITED, []),
        # The end overtakes the launcher's answer.
        ((ALONE, PASSED), EXITED, ["started", "exited"]),
        ((ALONE, PASSED, EXITED), LAUNCHED, []),
    ],
)
def test_the_way_of_a_run(before: tuple[Input, ...], event: Input, said: list[str]) -> None:
    assert Run().feed(*before).since(event) == said


@pytest.mark.parametrize(
    ("before", "event", "said"),
    [
        ((ALONE,), ALONE, []),
        ((OF_GANG, PASSED), OF_GANG, ["prepared"]),
        ((ALONE, PASSED), ALONE, ["prepared"]),
        (LIVE, ALONE, ["prepared", "started"]),
        ((*LIVE, ReadySeen("a:1")), ALONE, ["prepared", "started", "ready"]),
        ((*LIVE, EXITED), ALONE, ["exited"]),
        ((ALONE, CheckFailed("command", "x")), ALONE, ["prepare_failed"]),
        (LIVE, RELEASE, ["started"]),
        ((*LIVE, EXITED), RELEASE, ["exited"]),
        ((*LIVE, EXITED), PLAIN, ["exited"]),
        ((*LIVE, PLAIN), PLAIN, []),
        ((), FORGET, ["drop"]),
        (LIVE, FORGET, []),
        ((ALONE, PASSED), FORGET, []),
        ((*LIVE, EXITED), FORGET, ["drop"]),
    ],
)
def test_asked_again(before: tuple[Input, ...], event: Input, said: list[str]) -> None:
    assert Run().feed(*before).since(event) == said


@pytest.mark.parametrize("before", [(), (ALONE,), (OF_GANG, PASSED), (ALONE, CheckFailed("command", "x"))])
def test_stopping_what_never_started(before: tuple[Input, ...]) -> None:
    run = Run().feed(*before, PLAIN)
    assert (run.exits[-1].how, run.exits[-1].asked) == ("never_started", "cancelled")
    assert run.since(PASSED, LAUNCHED, ALONE) == ["exited"]  # whatever comes late starts nothing


def test_releasing_what_nobody_prepared() -> None:
    assert Run().feed(RELEASE).exits[0].how == "never_started"


# ---- stopping --------------------------------------------------------------------------------------------------------


def test_with_a_checkpoint_that_is_acknowledged() -> None:
    """Its devices are wanted: what is left of the grace is not waited for."""
    run = Run().feed(*LIVE)
    assert run.since(SAVE, at_s=100.0) == ["ask SIGUSR1"]
    assert awaits_ack(run.state)
    assert run.since(AckSeen(), at_s=103.0) == ["checkpointed", "SIGTERM"]
    assert next_deadline_s(run.state) == 105.0
    assert run.since(Tick(), at_s=104.9) == []
    assert run.since(Tick(), at_s=105.0) == ["SIGKILL"]
    assert next_deadline_s(run.state) is None


def test_with_a_checkpoint_that_never_comes() -> None:
    """Everything is over at the end of the grace, and the acknowledgement may come after SIGTERM too."""
    run = Run().feed(*LIVE).feed(SAVE, at_s=100.0)
    assert next_deadline_s(run.state) == 108.0
    assert run.since(Tick(), at_s=108.0) == ["SIGTERM"]
    assert run.since(AckSeen(), at_s=108.5) == ["checkpointed"]
    assert run.since(Tick(), at_s=109.9) == []
    assert run.since(Tick(), at_s=110.0) == ["SIGKILL"]


def test_an_acknowledgement_just_before_the_end_does_not_lengthen_the_grace() -> None:
    run = Run().feed(*LIVE).feed(SAVE, at_s=100.0)
    assert run.since(AckSeen(), at_s=107.99) == ["checkpointed", "SIGTERM"]
    assert next_deadline_s(run.state) == 109.99


@pytest.mark.parametrize(
    ("grace_s", "kill_wait_s", "term_s", "kill_s"),
    [(30.0, 5.0, 125.0, 130.0), (4.0, 5.0, 102.0, 104.0), (10.0, 0.5, 109.5, 110.0), (10.0, 5.0, 105.0, 110.0)],
)
def test_sigterm_and_sigkill_have_their_times_within_the_grace(
    grace_s: float, kill_wait_s: float, term_s: float, kill_s: float
) -> None:
    """Half of a short grace at least is for saving."""
    run = Run().feed(*LIVE).feed(replace(SAVE, grace_s=grace_s, kill_wait_s=kill_wait_s), at_s=100.0)
    assert next_deadline_s(run.state) == term_s
    assert run.since(Tick(), at_s=term_s) == ["SIGTERM"]
    assert next_deadline_s(run.state) == kill_s
    assert run.since(Tick(), at_s=kill_s) == ["SIGKILL"]


@pytest.mark.parametrize("name", ["SIGUSR2", "SIGHUP", "SIGTERM"])
def test_a_job_is_asked_with_the_signal_of_its_choice(name: str) -> None:
    run = Run().feed(*LIVE)
    assert run.since(replace(SAVE, checkpoint_signal=name), at_s=100.0) == [f"ask {name}"]
    assert last_signal(run.state) == Signal(signal.Signals[name], ask=True)
    assert run.since(Tick(), at_s=108.0) == ["SIGTERM"]
    assert last_signal(run.state) == Signal(signal.SIGTERM)


@pytest.mark.parametrize("name", ["SIGNONE", "Handlers", ""])
def test_a_name_that_this_machine_does_not_know_asks_with_the_usual_one(name: str) -> None:
    assert Run().feed(*LIVE).since(replace(SAVE, checkpoint_signal=name)) == ["ask SIGUSR1"]


@pytest.mark.parametrize("late_s", [109.8, 111.5, 5000.0])
def test_a_late_tick_still_gives_a_moment_between_term_and_kill(late_s: float) -> None:
    """The machine slept, or the agent was restarted."""
    run = Run().feed(*LIVE).feed(SAVE, at_s=100.0)
    assert run.since(Tick(), at_s=late_s) == ["SIGTERM"]
    assert next_deadline_s(run.state) == late_s + 1.0


def test_without_a_checkpoint() -> None:
    run = Run().feed(*LIVE)
    assert run.since(PLAIN, at_s=100.0) == ["SIGTERM"]
    assert run.since(Tick(), at_s=109.9) == []
    assert run.since(Tick(), at_s=110.0) == ["SIGKILL"]


def test_a_plain_stop_ends_the_wait_for_a_checkpoint() -> None:
    run = Run().feed(*LIVE).feed(SAVE, at_s=100.0)
    assert run.since(replace(PLAIN, grace_s=1.0), at_s=101.0) == ["SIGTERM"]
    assert next_deadline_s(run.state) == 102.0
    assert run.feed(EXITED).exits[0].asked == "cancelled"


def test_a_stop_during_the_launch_waits_for_its_answer() -> None:
    run = Run().feed(ALONE, PASSED)
    assert run.since(SAVE) == []
    assert run.since(LAUNCHED) == ["started", "ask SIGUSR1"]
    assert run.feed(EXITED).exits[0].asked == "preempted"


def test_reports() -> None:
    def phase(*events: Input) -> str:
        state = Run().feed(*events).state
        assert state is not None
        return report(state).phase

    assert phase(OF_GANG) == "prepared"
    assert phase(*LIVE) == "running"
    assert phase(*LIVE, ReadySeen("a:1")) == "ready"
    assert phase(*LIVE, SAVE) == "stopping"
    assert phase(*LIVE, EXITED) == "exited"
    assert phase(ALONE, CheckFailed("command", "x")) == "exited"


# ---- promises, whatever comes ----------------------------------------------------------------------------------------

MESSAGES = st.sampled_from(
    (
        *("alone", "of gang", "release", "save", "plain", "forget"),
        *("check", "check fails", "launcher", "launcher fails", "exit", "ack", "ready", "time"),
    )
)


@dataclass
class Node:
    """A node around one machine: it answers checks and launches when told to, and holds at most one process."""

    state: RunState | None = None
    now_s: float = 0.0
    check_asked: bool = False
    launch_asked: bool = False
    launches: int = 0
    alive: bool = False
    ended: bool = False
    exits: list[Exited] = field(default_factory=list)

    def feed(self, event: Input) -> None:
        self.state, outputs = step(event, self.state, self.now_s)
        for output in outputs:
            match output:
                case Check():
                    self.check_asked = True
                case Launch():
                    self.launch_asked = True
                    self.launches += 1
                case Signal(number=number):
                    assert self.launches == 1, "nothing is signalled before it was launched"
                    if number == signal.SIGKILL:
                        self.end("signal")
                case Emit(event=Exited() as exited):
                    self.exits.append(exited)
                case Emit():
                    pass
                case Drop():
                    assert not self.alive, "a living process was forgotten"

    def end(self, how: str) -> None:
        if self.alive:
            self.alive, self.ended = False, True
            self.feed(ProcessExited(42, "signal" if how == "signal" else "exit", 9, how, self.now_s))

    def answer_launch(self, fails: bool) -> None:
        if not self.launch_asked:
            return
        self.launch_asked = False
        if fails:
            self.feed(LaunchFailed("cannot"))
        else:
            self.alive = True
            self.feed(Launched(42, self.now_s))

    def answer_check(self, fails: bool) -> None:
        if self.check_asked:
            self.check_asked = False
            self.feed(CheckFailed("command", "x") if fails else PASSED)

    def happen(self, what: str) -> None:
        match what:
            case "alone":
                self.feed(ALONE)
            case "of gang":
                self.feed(OF_GANG)
            case "release":
                self.feed(RELEASE)
            case "save":
                self.feed(SAVE)
            case "plain":
                self.feed(PLAIN)
            case "forget":
                self.feed(FORGET)
            case "check" | "check fails":
                self.answer_check(what.endswith("fails"))
            case "launcher" | "launcher fails":
                self.answer_launch(what.endswith("fails"))
            case "exit":
                self.end("exit")
            case "ack":
                self.feed(AckSeen())
            case "ready":
                self.feed(ReadySeen("a:1"))
            case "time":
                self.now_s = max(self.now_s + 1.0, next_deadline_s(self.state) or 0.0)
                self.feed(Tick())


@settings(max_examples=examples(200), deadline=None, database=None)
@given(st.lists(MESSAGES, max_size=40))
def test_promises(happenings: list[str]) -> None:
    node = Node()
    for happening in happenings:
        node.happen(happening)
        if node.state is None and happening == "forget":
            node = Node()  # a key that was forgotten is the launcher's to refuse; here it is a new story
        assert node.launches <= 1
        assert len(set(node.exits)) <= 1, "one end, however often it is told"
        if node.alive:
            assert isinstance(node.state, Live)
            assert not node.exits
        if node.ended:
            assert isinstance(node.state, Ended)
            assert node.exits
            assert node.exits[0].how in ("exit", "signal")


@settings(max_examples=examples(100), deadline=None, database=None)
@given(st.lists(MESSAGES, max_size=30), st.sampled_from([SAVE, PLAIN]))
def test_a_stop_always_ends_in_exited(happenings: list[str], stop: Stop) -> None:
    node = Node()
    for happening in happenings:
        node.happen(happening)
    node.feed(stop)
    node.answer_check(fails=False)
    node.answer_launch(fails=False)
    for _ in range(4):
        node.happen("time")
    assert isinstance(node.state, Ended)
    before = list(node.exits)
    node.feed(stop)
    assert node.exits[len(before) :] == before[-1:]
