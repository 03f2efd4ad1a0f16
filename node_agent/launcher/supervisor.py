"""Which processes run on this node, and how did those end that do not? The launcher without its socket.

One process group and session a run. It starts a key once and for all, notes the exit when the kernel tells of it, and
leaves nothing of a run behind. It also ends runs by itself for two reasons: the lease lapsed, or too much memory.
Whatever it asks of the system goes through ports.Processes and ports.JournalFile, and it does nothing by itself: who
drives it calls `reap` when a child has ended and `on_time` when `next_deadline` is reached.

Deadlines are seconds of CLOCK_BOOTTIME, which no clock adjustment moves and which counts a suspended machine's sleep.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Sequence

from node_agent.launcher.ends import how_it_ended, how_it_ended_unseen, over_limit_text
from node_agent.launcher.journal import Journal, Run
from node_agent.launcher.lease import Lease
from node_agent.launcher.memory import over_limit
from node_agent.launcher.ports import CannotExecute, Processes, Say
from node_agent.launcher.records import CANNOT_EXECUTE, ExitRecord, How, LaunchOrder, RunRecord
from node_agent.launcher.signals import ask_for_checkpoint, send

MEMORY_WATCH_S = 0.25
SWEEP_AGAIN_S = 0.2
ADOPTED_POLL_S = 0.05


class Rejected(Exception):
    """A request that is not carried out. `kind` is for the agent, the message for people."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Supervisor:
    """The table of runs. `on_exit` is called with each run's end, as soon as it is known and journalled.

    `boot_s` reads CLOCK_BOOTTIME in seconds, `now_s` the time of day of the stamps in epoch seconds.

    The lease begins with the launcher, or goes on where its predecessor's was, and only the service's renewals extend
    it: a launch that was long on its way shows nothing about whether the service still lives.
    """

    def __init__(
        self,
        journal: Journal,
        processes: Processes,
        *,
        lease_s: float,
        boot_s: Callable[[], float],
        now_s: Callable[[], float],
        on_exit: Callable[[RunRecord], None],
        say: Say,
    ) -> None:
        self._journal = journal
        self._processes = processes
        self._groups = processes.groups
        self._boot_s = boot_s
        self._now_s = now_s
        self._on_exit = on_exit
        self._say = say
        self._runs = journal.kept.runs
        self._by_pid: dict[int, Run] = {}
        self._polled: dict[str, Run] = {}
        self._memory_at: float | None = None
        self._sweep_at: float | None = None
        self._poll_at: float | None = None
        self._leaving: set[str] = set()  # control groups of ended runs in which something has not ended yet
        self._closing = False
        first_end = boot_s() + lease_s
        kept = journal.kept
        self._lease = Lease(lease_s, min(first_end, kept.lease_until or first_end), kept.lease_stamp_s)
        if kept.lease_until is None:  # so that a successor does not begin a new one
            self._note_lease()
        processes.inherit_orphans()
        self._take_over()

    # ---- after a crash of an earlier launcher ----------------------------------------------------------------------

    def _take_over(self) -> None:
        """Watch what still runs, call the end of the rest unknown, and clear away what the dead left behind."""
        open_runs = [run for run in self._runs.values() if run.exit is None]
        self._find_unnoted([run for run in open_runs if run.pid is None])
        for run in open_runs:
            run.held = self._groups.holds_memory(run.control_group)
            found = self._processes.find(run.pid) if run.pid is not None else None
            if found is None or found.ended or found.start_ticks != run.start_ticks:
                self._clear_away(run)
                detail = "the launcher died, and the run ended while nobody watched"
                self._conclude(run, *how_it_ended_unseen(self._processes, run, detail), lived_s=run.lived_s)
            else:
                self._adopt(run)
        kept = {run.control_group for run in self._live()}
        for group in self._groups.names():
            if group not in kept:
                self._leave(group)
        if self._by_pid:
            self._schedule_memory(self._boot_s())

    def _find_unnoted(self, runs: Iterable[Run]) -> None:
        """The earlier launcher may have died between the fork and noting the pid: look for the run's mark."""
        marks = {run.mark: run for run in runs if run.mark}
        if not marks:
            return
        for found in self._processes.living():
            if found.session != found.pid:
                continue
            for mark, run in marks.items():
                if self._processes.has_in_environment(found.pid, mark):
                    run.pid, run.start_ticks = found.pid, found.start_ticks
                    self._note_started(run)

    def _adopt(self, run: Run) -> None:
        assert run.pid is not None, run
        run.adopted = True
        self._by_pid[run.pid] = run
        if not self._processes.watch(run.pid, lambda: self._adopted_ended(run)):
            self._polled[run.key] = run
            self._poll_at = self._boot_s()

    def _adopted_ended(self, run: Run) -> None:
        self._clear_away(run)
        detail = "it outlived the launcher that started it, so its exit code is not known"
        self._conclude(run, *how_it_ended_unseen(self._processes, run, detail))

    def _poll_adopted(self) -> None:
        for run in list(self._polled.values()):
            assert run.pid is not None, run
            found = self._processes.find(run.pid)
            if found is None or found.ended or found.start_ticks != run.start_ticks:
                self._adopted_ended(run)
        self._poll_at = self._boot_s() + ADOPTED_POLL_S if self._polled else None

    def _clear_away(self, run: Run) -> None:
        """Kill what is left of a run whose main process is gone and was not our child."""
        leader = self._processes.find(run.pid) if run.pid is not None else None
        ours = leader is None or leader.start_ticks == run.start_ticks  # else the pid has gone to a stranger
        for found in self._processes.living():
            in_session = ours and run.pid is not None and found.session == run.pid
            if in_session or (run.mark and self._processes.has_in_environment(found.pid, run.mark)):
                self._processes.signal(found.pid, signal.SIGKILL)

    # ---- requests --------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        return self._journal.kept.epoch

    def check_epoch(self, epoch: int) -> None:
        if epoch < self.epoch:
            raise Rejected("stale_epoch", f"epoch {epoch} is over: epoch {self.epoch} commands here")
        if epoch > self.epoch:
            self._lease.new_epoch()
            self._journal.epoch(epoch)

    def launch(self, orders: Sequence[LaunchOrder]) -> list[RunRecord | Rejected]:
        """Start each; a key that is known already is answered with its run and not started. Answers are in order."""
        answers: list[RunRecord | Rejected] = []
        fresh: dict[str, Run] = {}
        refused: dict[str, str] = {}
        kills_before = self._processes.out_of_memory_kills()
        for order in orders:
            if order.key in self._runs or order.key in fresh:
                continue
            refusal = self._refusal(order)
            if refusal:
                refused[order.key] = refusal
            else:
                fresh[order.key] = Run.of(order, kills_before)
        if fresh:
            try:
                self._journal.intents(fresh.values())
            except OSError as error:
                said = f"the launcher's journal cannot be written: {error}; free space on the node's state directory"
                refused.update(dict.fromkeys(fresh, said))
        for order in orders:
            run = self._runs.get(order.key)
            if run is None:
                answers.append(Rejected("refused", refused[order.key]))
                continue
            if fresh.pop(order.key, None) is not None:
                self._start(run, order)
            if run.exit is not None and run.exit.how == "never_started":
                answers.append(Rejected("never_started", run.exit.detail))
            else:
                answers.append(run.record())
        self._schedule_memory(self._boot_s())
        return answers

    def _refusal(self, order: LaunchOrder) -> str:
        """Why it is not to be started; empty: it is."""
        if order.key in self._journal.kept.forgotten:
            return "this run was started before, and is over and forgotten"
        if self._closing:
            return "this launcher is shutting down"
        silent_s = self._boot_s() - self._lease.until
        if order.lease_bound and silent_s >= 0:
            return f"the node's lease lapsed {silent_s:.1f} s ago: nothing starts here until the service renews it"
        return ""

    def _start(self, run: Run, order: LaunchOrder) -> None:
        """When nothing comes of it that is the end of the run, without an event: the answer says it."""
        try:
            run.pid = self._processes.start(order)
        except CannotExecute as error:
            run.exit = ExitRecord("exit", CANNOT_EXECUTE, self._now_s(), str(error))
        except (OSError, ValueError) as error:
            run.exit = ExitRecord("never_started", None, self._now_s(), f"it could not be started: {error}")
        if run.pid is None:
            self._note_end(run)
            return
        found = self._processes.find(run.pid)
        run.start_ticks = None if found is None else found.start_ticks
        run.held = run.memory_bytes > 0 and self._groups.holds_memory(run.control_group)
        self._by_pid[run.pid] = run
        self._note_started(run)

    def _note_started(self, run: Run) -> None:
        run.started_s, run.started_boot_s = self._now_s(), self._boot_s()
        try:
            self._journal.started(run)
        except OSError as error:  # the intent is on the disk: a successor finds the process by its mark
            self._say(f"pid of {run.key} not journalled: {error}")

    def send_signal(self, key: str, number: int, *, ask: bool = False) -> bool:
        """Signal the run's process group. False when the run is not alive.

        `ask`: for a checkpoint, which must not kill. It goes to those processes of the run that await the signal, and
        again a little later as long as there is none (the program may still be starting).
        """
        run = self._runs.get(key)
        if run is None or not run.live:
            return False
        run.asked = True
        if ask:
            run.asks_with = number
            ask_for_checkpoint(self._processes, run, self._boot_s())
            return True
        run.asks_at = None
        send(self._processes, run, signal.Signals(number))
        return True

    def renew(self, lease_s: float, stamp_s: float) -> None:
        """The service lives: lease-bound runs may go on until `lease_s` after this node's clock (CLOCK_BOOTTIME) stood
        at `stamp_s`, the reading that the service last heard. One that is older than another's changes nothing.
        """
        if self._lease.renew(lease_s, stamp_s, self._boot_s()):
            self._note_lease()

    def forget(self, key: str) -> None:
        run = self._runs.get(key)
        if run is not None and run.exit is None:
            raise Rejected("alive", "the run has not ended, so it is not forgotten")
        if run is not None:
            self._journal.forget(key)

    def records(self) -> list[RunRecord]:
        return [run.record() for run in self._runs.values()]

    # ---- lease -----------------------------------------------------------------------------------------------------

    def _note_lease(self) -> None:
        try:
            self._journal.lease(self._lease.until, self._lease.stamp_s, self._boot_s())
        except OSError as error:  # a successor then begins with an earlier deadline, which is the safe side
            self._say(f"lease not journalled: {error}")

    def _lapse(self, now: float) -> None:
        self._lease.lapsed = True
        lapsed = [run for run in self._live() if run.lease_bound and run.stopped_for is None]
        for run in lapsed:  # all of them first: a signal that cannot be sent must not spare the others
            run.stopped_for = "lease"
            run.asks_at = None
            run.kill_at = now + run.grace_s
        for run in lapsed:
            send(self._processes, run, signal.SIGTERM)

    # ---- ends ------------------------------------------------------------------------------------------------------

    def reap(self) -> None:
        """Note every child that has ended, and kill what it left behind."""
        reaped = False
        while (ended := self._processes.ended_child()) is not None:
            run = self._by_pid.get(ended.pid)
            if run is not None:  # as long as the zombie is there its group's number cannot be anyone else's
                self._processes.signal_group(ended.pid, signal.SIGKILL)
            self._processes.reap(ended.pid)
            reaped = True
            if run is not None:
                self._conclude(run, *how_it_ended(self._processes, run, ended))
        if reaped:
            self._sweep()
            # The list of children may miss one while others end; look once more.
            self._sweep_at = self._boot_s() + SWEEP_AGAIN_S

    def _conclude(self, run: Run, how: How, code: int | None, detail: str, *, lived_s: float | None = None) -> None:
        """Whatever its code: a run that was told to go has not finished. `lived_s`: where it did not end just now."""
        if lived_s is None:
            lived_s = self._lived_s(run)
        match run.stopped_for:
            case "lease":
                how, detail = "lease", f"the service was silent for {self._lease.lease_s:g} s, so its lease lapsed"
            case "shutdown":
                how, detail = "lease", "its node was taken down"
            case "memory":
                how, detail = "out_of_memory", over_limit_text(run)
        # By the clock of its start: since then somebody may have set the time of day, and a launcher have come after.
        at_s = self._now_s() if run.started_s is None else run.started_s + lived_s
        run.exit = ExitRecord(how, code, at_s, detail, run.asked)
        self._note_end(run)
        self._on_exit(run.record())

    def _lived_s(self, run: Run) -> float:
        """Until now. What an older version started is only known by the time of day."""
        if run.started_boot_s is not None:
            return self._boot_s() - run.started_boot_s
        return 0.0 if run.started_s is None else max(0.0, self._now_s() - run.started_s)

    def _note_end(self, run: Run) -> None:
        run.kill_at = run.asks_at = None
        if run.pid is not None:
            self._by_pid.pop(run.pid, None)
            self._processes.unwatch(run.pid)
        self._polled.pop(run.key, None)
        self._leave(run.control_group)
        try:
            self._journal.ended(run)
        except OSError as error:  # it stays in memory; a successor would call it unknown
            self._say(f"end of {run.key} not journalled: {error}")

    def _leave(self, group: str) -> None:
        """Of a run that has ended: whatever is in it goes, and then the group itself."""
        gone = self._groups.remove(group)  # mostly nothing is left in it
        if not gone:
            self._groups.kill(group)
            gone = self._groups.remove(group)
        if gone:
            self._leaving.discard(group)
        else:
            self._leaving.add(group)
            self._sweep_at = self._boot_s() + SWEEP_AGAIN_S

    def _sweep(self) -> None:
        """Kill children that no living run can own: what a run put into the background and left."""
        self._sweep_at = None
        for group in list(self._leaving):
            self._leave(group)
        marks: set[str] | None = None
        for pid in self._processes.children():
            if pid in self._by_pid:
                continue
            found = self._processes.find(pid)
            if found is None or found.ended or found.session in self._by_pid:
                continue
            if marks is None:
                marks = {run.mark for run in self._live() if run.mark}
            if not any(self._processes.has_in_environment(pid, mark) for mark in marks):
                self._processes.signal(pid, signal.SIGKILL)

    # ---- time ------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `on_time` has something to do; None: never."""
        times = [self._memory_at, self._sweep_at, self._poll_at]
        bound = False
        for run in self._by_pid.values():
            times += (run.kill_at, run.asks_at)
            bound = bound or (run.lease_bound and run.stopped_for is None)
        if bound and not self._lease.lapsed:
            times.append(self._lease.until)
        return min((at for at in times if at is not None), default=None)

    def on_time(self) -> None:
        now = self._boot_s()
        if now >= self._lease.until and not self._lease.lapsed:
            self._lapse(now)
        for run in self._live():
            if run.kill_at is not None and now >= run.kill_at:
                run.kill_at = None
                send(self._processes, run, signal.SIGKILL)
            elif run.asks_at is not None and now >= run.asks_at:
                ask_for_checkpoint(self._processes, run, now)
        if self._memory_at is not None and now >= self._memory_at:
            for run in list(over_limit(self._processes, self._by_pid)):
                run.stopped_for = "memory"
                send(self._processes, run, signal.SIGKILL)
            self._schedule_memory(now)
        if self._sweep_at is not None and now >= self._sweep_at:
            self._sweep()
        if self._poll_at is not None and now >= self._poll_at:
            self._poll_adopted()

    def _schedule_memory(self, now: float) -> None:
        watched = any(run.memory_bytes for run in self._by_pid.values())
        if not watched:
            self._memory_at = None
        elif self._memory_at is None or self._memory_at <= now:
            self._memory_at = now + MEMORY_WATCH_S

    def _live(self) -> list[Run]:
        return list(self._by_pid.values())

    # ---- the end of the launcher -----------------------------------------------------------------------------------

    def close_down(self, grace_s: float) -> None:
        """Ask every run to go, and kill it when `grace_s` is over. Call until `empty`."""
        if self._closing:
            return
        self._closing = True
        kill_at = self._boot_s() + grace_s
        for run in self._live():
            run.asks_at = None
            run.kill_at = kill_at if run.kill_at is None else min(run.kill_at, kill_at)
            if run.stopped_for is None:
                run.stopped_for = "shutdown"
            send(self._processes, run, signal.SIGTERM)

    @property
    def empty(self) -> bool:
        return not self._by_pid

    def kill_leftovers(self) -> bool:
        """Nothing that descends from a run may outlive the launcher: False while something is left, so call again."""
        self.reap()
        left = self._processes.children()
        for pid in left:
            self._processes.signal(pid, signal.SIGKILL)
        for group in self._groups.names():
            self._leave(group)
        return not left and not self._groups.names()
