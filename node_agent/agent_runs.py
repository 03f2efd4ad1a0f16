"""What does an agent know of its runs, and what follows from what it hears? The agent without any I/O.

The service's commands, the launcher's answers and what was observed go in; requests come out, for whoever performs them
(`host.py` live, the simulator in virtual time), and events for the service. It holds no fact of its own that matters:
after a crash `agree` rebuilds it from the launcher's table.

Commands come in numbered batches of a *session*, which a `hello` opens as it takes stock of the runs. A batch is taken
once, and only after those before it; one of another session never. So nothing that was decided before the stock was
taken can change what it says, and a command that was lost is not passed over: `heard` tells of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from node_agent import attempts
from node_agent.health.verdicts import Finding
from node_agent.launcher.records import RunRecord
from node_agent.messages import (
    KEYLESS,
    Command,
    Event,
    Exited,
    Forget,
    LaunchSpec,
    Mended,
    Noted,
    Prepare,
    Prepared,
    Refused,
    Release,
    RenewLease,
    RunKey,
    RunReport,
    Started,
    Stop,
)

# So many batches that came before their forerunner are kept for when it comes.
MOST_EARLY = 100
# So long, at most, a hello waits for ends to be told: longer than a file system that hangs is waited for.
END_TOLD_S = 6.0

# ---- what is to be done --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CheckRun:
    """Find out whether it could start; answer by `feed` with CheckPassed or CheckFailed."""

    key: RunKey
    spec: LaunchSpec


@dataclass(frozen=True, slots=True)
class LaunchRun:
    """Ask the launcher; answer by `launched` or `feed` with LaunchFailed. Unanswered, `agree` asks again."""

    key: RunKey
    launch: attempts.Launch
    epoch: int


@dataclass(frozen=True, slots=True)
class SignalRun:
    """By the launcher, to the run's process group; `ask`: as in attempts.Signal."""

    key: RunKey
    number: int
    epoch: int
    ask: bool = False


@dataclass(frozen=True, slots=True)
class ForgetRun:
    """By the launcher; and whatever else is kept of it here may go."""

    key: RunKey
    epoch: int


@dataclass(frozen=True, slots=True)
class RenewLaunchersLease:
    """`stamp_s`: as in messages.RenewLease."""

    epoch: int
    lease_s: float
    stamp_s: float


@dataclass(frozen=True, slots=True)
class LookAtEnd:
    """It is over by the launcher's word: read what it left, and answer by `feed` with ProcessExited."""

    key: RunKey
    record: RunRecord


@dataclass(frozen=True, slots=True)
class ForgetFindings:
    """Of a node: an operator says that they are mended."""

    node: str


@dataclass(frozen=True, slots=True)
class KeepNoted:
    """What others hold against this node, as in messages.Noted."""

    node: str
    source: str
    findings: tuple[Finding, ...]


Request = CheckRun | LaunchRun | SignalRun | ForgetRun | RenewLaunchersLease | LookAtEnd | ForgetFindings | KeepNoted
ABOUT_NO_RUN = (RenewLaunchersLease, ForgetFindings, KeepNoted)


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A row of the launcher's table; `address` and `master_port` are what the run was prepared with, if known."""

    key: RunKey
    record: RunRecord
    address: str = ""
    master_port: int = 0


class StaleEpoch(Exception):
    """The caller's epoch is over: a newer service commands this agent. The caller must stop commanding."""

    def __init__(self, message: str, epoch: int = 0) -> None:
        super().__init__(message)
        self.epoch = epoch


class AgentRuns:
    """`tell` takes the events for the service. Whoever owns it performs what each call returns, in order."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self.states: dict[RunKey, attempts.RunState] = {}
        self.epoch = 0
        self.session = 0
        self.heard = 0
        self._session_epoch = 0  # of the service that opened it; `epoch` may have been raised by the launcher since
        self._early: dict[int, tuple[Command, ...]] = {}
        self._began_boot_s: dict[RunKey, float] = {}
        self._ending: set[RunKey] = set()
        """Over by the launcher's word, and looked at: to stop them now would blame the stop for it."""
        self._tell = tell

    def reports(self, boot_s: float) -> tuple[RunReport, ...]:
        """`boot_s`: what the node's CLOCK_BOOTTIME shows."""
        return tuple(self._report(key, state, boot_s) for key, state in self.states.items())

    def _report(self, key: RunKey, state: attempts.RunState, boot_s: float) -> RunReport:
        report, began_s = attempts.report(state), self._began_boot_s.get(key)
        return report if began_s is None or report.exited else replace(report, ran_s=boot_s - began_s)

    def ending(self) -> frozenset[RunKey]:
        """Runs that are over by the launcher's word, and whose end is not told yet: what they left is being looked at.

        A hello waits until those are told that are over as it comes (see `END_TOLD_S`): `reports` cannot say of them
        but that they live, and what it says to live is billed until its node was last heard of."""
        return frozenset(self._ending)

    # ---- the service -----------------------------------------------------------------------------------------------

    def open_session(self, epoch: int, session: int) -> None:
        """A hello: to be answered with `reports()` before anything else is taken. Raises StaleEpoch, also for a hello
        that a later one has overtaken."""
        if epoch < self.epoch:
            raise StaleEpoch(f"epoch {epoch} is over: epoch {self.epoch} commands this agent", self.epoch)
        if epoch == self._session_epoch and session < self.session:
            raise StaleEpoch(f"session {session} of epoch {epoch} is over: session {self.session} is open", epoch)
        if (epoch, session) != (self._session_epoch, self.session):
            self.epoch = self._session_epoch = epoch
            self.session, self.heard = session, 0
            self._early.clear()

    def take(self, session: int, number: int, commands: Sequence[Command], now_s: float) -> list[Request]:
        """A numbered batch of commands."""
        stale = [command for command in commands if command.epoch < self.epoch]
        if stale:  # a service that was replaced, whatever session it believes in
            for command in stale:
                self._tell(Refused(None if isinstance(command, KEYLESS) else command.key, self.epoch))
            return []
        if session != self.session or number <= self.heard:
            return []
        if len(self._early) < MOST_EARLY or number == self.heard + 1:
            self._early[number] = tuple(commands)
        requests: list[Request] = []
        while (batch := self._early.pop(self.heard + 1, None)) is not None:
            self.heard += 1
            for command in batch:
                requests += self._obey(command, now_s)
        return requests

    def _obey(self, command: Command, now_s: float) -> list[Request]:
        if command.epoch < self.epoch:
            self._tell(Refused(None if isinstance(command, KEYLESS) else command.key, self.epoch))
            return []
        self.epoch = command.epoch
        match command:
            case RenewLease(stamp_s=stamp_s):
                assert stamp_s is not None, "whoever sends a renewal says by which reading of this node's clock"
                return [RenewLaunchersLease(command.epoch, command.lease_s, stamp_s)]
            case Mended(node=node):
                return [ForgetFindings(node)]
            case Noted(node=node, source=source, findings=findings):
                return [KeepNoted(node, source, findings)]
            case Prepare() | Release() | Stop() | Forget():
                return self.feed(command.key, command, now_s)
            case _:
                assert_never(command)

    # ---- the machine -----------------------------------------------------------------------------------------------

    def feed(self, key: RunKey, event: attempts.Input, now_s: float) -> list[Request]:
        """One step of a run's machine, and what it asks for."""
        if isinstance(event, Stop) and key in self._ending:
            return []
        state, outputs = attempts.step(event, self.states.get(key), now_s)
        if state is not None:
            self.states[key] = state
        if not isinstance(state, attempts.Launching | attempts.Live):
            self._ending.discard(key)
        requests: list[Request] = []
        for output in outputs:
            match output:
                case attempts.Check(spec=spec):
                    requests.append(CheckRun(key, spec))
                case attempts.Launch():
                    requests.append(LaunchRun(key, output, self.epoch))
                case attempts.Signal(number=number, ask=ask):
                    requests.append(SignalRun(key, number, self.epoch, ask))
                case attempts.Emit(event=said):
                    self._tell(said)
                case attempts.Drop():
                    self.states.pop(key, None)
                    self._began_boot_s.pop(key, None)
                    requests.append(ForgetRun(key, self.epoch))
                case _:
                    assert_never(output)
        return requests

    def next_deadline_s(self, key: RunKey) -> float | None:
        """When `feed(key, Tick())` is due; None: never."""
        return attempts.next_deadline_s(self.states.get(key))

    # ---- the launcher ----------------------------------------------------------------------------------------------

    def launched(self, key: RunKey, record: RunRecord, now_s: float) -> list[Request]:
        """What the launcher knows of a run that is known here too."""
        requests: list[Request] = []
        self._note_start(key, record)
        if record.pid is not None and record.started_s is not None:
            requests += self.feed(key, attempts.Launched(record.pid, record.started_s), now_s)
        if record.exit is not None:
            requests += self.exited(key, record)
        return requests

    def _note_start(self, key: RunKey, record: RunRecord) -> None:
        if record.started_boot_s is not None and key in self.states:
            self._began_boot_s[key] = record.started_boot_s

    def exited(self, key: RunKey, record: RunRecord) -> list[Request]:
        """The launcher saw it end."""
        state = self.states.get(key)
        if state is None or isinstance(state, attempts.Ended):
            return []
        self._ending.add(key)
        return [LookAtEnd(key, record)]

    def refused(self, key: RunKey | None, epoch: int) -> None:
        """The launcher obeys a service of a higher epoch."""
        self.epoch = max(self.epoch, epoch)
        self._tell(Refused(key, self.epoch))

    def agree(self, epoch: int, table: Iterable[KnownRun], now_s: float) -> list[Request]:
        """With the launcher, on what runs: after every (re)connection, and before anything is asked of it."""
        self.epoch = max(self.epoch, epoch)
        requests: list[Request] = []
        listed: set[RunKey] = set()
        for known in table:
            listed.add(known.key)
            if known.key in self.states:
                requests += self.launched(known.key, known.record, now_s)
            else:
                requests += self._rebuild(known, now_s)
        for key, state in list(self.states.items()):
            if isinstance(state, attempts.Launching) and key not in listed:
                requests.append(LaunchRun(key, state.launch, self.epoch))
            elif isinstance(state, attempts.Live) and key not in listed:
                detail = "the launcher has no record of it any more"
                # When it ended nobody can tell: it is not said to have lived longer than is known.
                gone = attempts.ProcessExited(state.started.pid, "unknown", None, detail, state.started.at_s)
                requests += self.feed(key, gone, now_s)
            elif (last := attempts.last_signal(state)) is not None:
                requests.append(SignalRun(key, last.number, self.epoch, last.ask))
        return requests

    def _rebuild(self, known: KnownRun, now_s: float) -> list[Request]:
        """A run that an earlier agent started."""
        key, record = known.key, known.record
        end = record.exit
        if end is not None and record.started_s is None:  # it never began, or nobody noted when
            exited = Exited(key, end.how, end.code, None, end.detail, end.at_s)
            self.states[key] = attempts.Ended(key, exited)
            self._tell(exited)
            return []
        pid, started_s = record.pid or 0, now_s if record.started_s is None else record.started_s
        prepared = Prepared(key, known.address, known.master_port)
        self.states[key] = attempts.Live(key, prepared, Started(key, pid, started_s))
        self._note_start(key, record)
        return self.feed(key, attempts.Tick(), now_s) if end is None else self.exited(key, record)
