"""Which processes run on this node, and how did those end that do not? The launcher without its socket.

One process group and session a run. It starts a key once and for all, notes the exit when the kernel tells of it, and
leaves nothing of a run behind. It also ends runs by itself for two reasons: the lease lapsed, or too much memory.
Deadlines are seconds of CLOCK_BOOTTIME, which no clock adjustment moves and which counts a suspended machine's sleep.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from node_agent.clock import SteadyClock, boottime_s
from node_agent.launcher import procfs
from node_agent.launcher.forking import CannotExecute, fork
from node_agent.launcher.journal import Journal, Run
from node_agent.launcher.records import CANNOT_EXECUTE, ExitRecord, How, LaunchOrder, RunRecord
from node_agent.launcher.signals import ask, kill, kill_group, send

MARK_VARIABLE = "SUANLI_RESULT_FILE"  # a path that no other run has
MEMORY_WATCH_S = 0.25
SWEEP_AGAIN_S = 0.2
ADOPTED_POLL_S = 0.05
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class Rejected(Exception):
    """A request that is not carried out. `kind` is for the agent, the message for people."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Supervisor:
    """The table of runs. `on_exit` is called with each run's end, as soon as it is known and journalled.

    `watch` and `unwatch` are told of descriptors that become readable when an adopted process ends. `now_s` is the time
    of day of the stamps.

    The lease begins with the launcher, or goes on where its predecessor's was, and only the service's renewals extend
    it: a launch that was long on its way shows nothing about whether the service still lives.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        lease_s: float,
        on_exit: Callable[[RunRecord], None],
        watch: Callable[[int, Callable[[], None]], None],
        unwatch: Callable[[int], None],
        now_s: Callable[[], float] | None = None,
    ) -> None:
        self._journal = journal
        self._runs = journal.kept.runs
        self._by_pid: dict[int, Run] = {}
        self._on_exit = on_exit
        self._watch = watch
        self._unwatch = unwatch
        self._pidfds: dict[str, int] = {}
        self._polled: dict[str, Run] = {}
        self._memory_at: float | None = None
        self._sweep_at: float | None = None
        self._poll_at: float | None = None
        self._closing = False
        self._now_s = now_s or SteadyClock().now_s
        self._lease_s = lease_s
        now = boottime_s()
        self._lease_until = min(now + lease_s, journal.kept.lease_until or now + lease_s)
        self._lease_lapsed = False
        if journal.kept.lease_until is None:  # so that a successor does not begin a new one
            self._note_lease()
        self._inherit_orphans()
        self._take_over()

    @staticmethod
    def _inherit_orphans() -> None:
        """A process that a run leaves behind becomes the launcher's child, so that it can be found."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            print(f"orphans go to init: prctl: {os.strerror(ctypes.get_errno())}", file=sys.stderr)

    # ---- after a crash of an earlier launcher ----------------------------------------------------------------------

    def _take_over(self) -> None:
        """Watch what still runs, call the end of the rest unknown, and clear away what the dead left behind."""
        open_runs = [run for run in self._runs.values() if run.exit is None]
        if not open_runs:
            return
        self._find_unnoted([run for run in open_runs if run.pid is None])
        for run in open_runs:
            found = procfs.process(run.pid) if run.pid is not None else None
            if found is None or found.ended or found.start_ticks != run.start_ticks:
                self._clear_away(run)
                self._conclude(run, "unknown", None, "the launcher died, and the run ended while nobody watched")
            else:
                self._adopt(run)
        if self._by_pid:
            self._schedule_memory(boottime_s())

    def _find_unnoted(self, runs: Iterable[Run]) -> None:
        """The earlier launcher may have died between the fork and noting the pid: look for the run's mark."""
        marks = {run.mark.encode(): run for run in runs if run.mark}
        if not marks:
            return
        for found in procfs.processes():
            if found.session != found.pid:
                continue
            for mark, run in marks.items():
                if procfs.has_in_environment(found.pid, mark):
                    run.pid, run.start_ticks, run.started_s = found.pid, found.start_ticks, self._now_s()
                    self._journal.started(run)

    def _adopt(self, run: Run) -> None:
        assert run.pid is not None, run
        run.adopted = True
        self._by_pid[run.pid] = run
        try:
            pidfd = os.pidfd_open(run.pid)
        except OSError:  # no such system call, or it has just ended: polling finds out
            self._polled[run.key] = run
            self._poll_at = boottime_s()
            return
        self._pidfds[run.key] = pidfd
        self._watch(pidfd, lambda: self._adopted_ended(run))

    def _adopted_ended(self, run: Run) -> None:
        self._clear_away(run)
        self._conclude(run, "unknown", None, "it outlived the launcher that started it, so its exit code is not known")

    def _poll_adopted(self) -> None:
        for run in list(self._polled.values()):
            assert run.pid is not None, run
            found = procfs.process(run.pid)
            if found is None or found.ended or found.start_ticks != run.start_ticks:
                self._adopted_ended(run)
        self._poll_at = boottime_s() + ADOPTED_POLL_S if self._polled else None

    def _clear_away(self, run: Run) -> None:
        """Kill what is left of a run whose main process is gone and was not our child."""
        leader = procfs.process(run.pid) if run.pid is not None else None
        ours = leader is None or leader.start_ticks == run.start_ticks  # else the pid has gone to a stranger
        mark = run.mark.encode()
        for found in procfs.processes():
            in_session = ours and run.pid is not None and found.session == run.pid
            if in_session or (mark and procfs.has_in_environment(found.pid, mark)):
                kill(found.pid, signal.SIGKILL)

    # ---- requests --------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        return self._journal.kept.epoch

    def check_epoch(self, epoch: int) -> None:
        if epoch < self.epoch:
            raise Rejected("stale_epoch", f"epoch {epoch} is over: epoch {self.epoch} commands here")
        if epoch > self.epoch:
            self._journal.epoch(epoch)

    def launch(self, orders: Sequence[LaunchOrder]) -> list[RunRecord | Rejected]:
        """Start each; a key that is known already is answered with its run and not started. Answers are in order."""
        answers: list[RunRecord | Rejected] = []
        fresh: dict[str, Run] = {}
        refused: dict[str, str] = {}
        kills_before = procfs.out_of_memory_kills()
        for order in orders:
            if order.key in self._runs or order.key in fresh:
                continue
            refusal = self._refusal(order)
            if refusal:
                refused[order.key] = refusal
            else:
                fresh[order.key] = _new_run(order, kills_before)
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
        self._schedule_memory(boottime_s())
        return answers

    def _refusal(self, order: LaunchOrder) -> str:
        """Why it is not to be started; empty: it is."""
        if order.key in self._journal.kept.forgotten:
            return "this run was started before, and is over and forgotten"
        if self._closing:
            return "this launcher is shutting down"
        silent_s = boottime_s() - self._lease_until
        if order.lease_bound and silent_s >= 0:
            return f"the node's lease lapsed {silent_s:.1f} s ago: nothing starts here until the service renews it"
        return ""

    def _start(self, run: Run, order: LaunchOrder) -> None:
        """Fork. When nothing comes of it that is the end of the run, without an event: the answer says it."""
        try:
            run.pid = fork(order)
        except CannotExecute as error:
            run.exit = ExitRecord("exit", CANNOT_EXECUTE, self._now_s(), str(error))
        except (OSError, ValueError) as error:
            run.exit = ExitRecord("never_started", None, self._now_s(), f"it could not be started: {error}")
        if run.pid is None:
            self._note_end(run)
            return
        run.started_s = self._now_s()
        run.start_ticks = procfs.start_ticks(run.pid)
        self._by_pid[run.pid] = run
        try:
            self._journal.started(run)
        except OSError as error:  # the intent is on the disk: a successor finds the process by its mark
            print(f"pid of {run.key} not journalled: {error}", file=sys.stderr)

    def send_signal(self, key: str, number: int) -> bool:
        """Signal the run's process group. False when the run is not alive.

        SIGUSR1 asks for a checkpoint and must not kill: it goes to those processes of the run that await it, and
        again a little later as long as there is none (the program may still be starting).
        """
        run = self._runs.get(key)
        if run is None or not run.live:
            return False
        if number == signal.SIGUSR1:
            ask(run)
            return True
        run.asks_at = None
        send(run, signal.Signals(number))
        return True

    def renew(self, lease_s: float) -> None:
        """The service lives: lease-bound runs may go on for `lease_s` from now."""
        self._lease_s = lease_s
        self._lease_until = boottime_s() + lease_s
        self._lease_lapsed = False
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
            self._journal.lease(self._lease_until)
        except OSError as error:  # a successor then begins with an earlier deadline, which is the safe side
            print(f"lease not journalled: {error}", file=sys.stderr)

    def _lapse(self, now: float) -> None:
        self._lease_lapsed = True
        lapsed = [run for run in self._live() if run.lease_bound and run.stopped_for is None]
        for run in lapsed:  # all of them first: a signal that cannot be sent must not spare the others
            run.stopped_for = "lease"
            run.asks_at = None
            run.kill_at = now + run.grace_s
        for run in lapsed:
            send(run, signal.SIGTERM)

    # ---- ends ------------------------------------------------------------------------------------------------------

    def reap(self) -> None:
        """Note every child that has ended, and kill what it left behind."""
        reaped = False
        while True:
            try:
                # Look before reaping: as long as the zombie is there its group's number cannot be anyone else's.
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if ended is None:
                break
            run = self._by_pid.get(ended.si_pid)
            if run is not None:
                kill_group(ended.si_pid, signal.SIGKILL)
            os.waitpid(ended.si_pid, 0)
            reaped = True
            if run is not None:
                self._conclude(run, *self._how(run, ended.si_code, ended.si_status))
        if reaped:
            self._sweep()
            # The list of children may miss one while others end; look once more.
            self._sweep_at = boottime_s() + SWEEP_AGAIN_S

    def _how(self, run: Run, code: int, status: int) -> tuple[How, int | None, str]:
        if run.stopped_for == "lease":
            return "lease", status, f"the service was silent for {self._lease_s:g} s, so its lease lapsed"
        if run.stopped_for == "shutdown":  # whatever its code: a run that was told to go has not finished
            return "lease", status, "its node was taken down"
        if run.stopped_for == "memory":
            return "out_of_memory", status, f"it used more than its {run.memory_bytes / 2**20:.4g} MiB of memory"
        if code == os.CLD_EXITED:
            return "exit", status, ""
        if status == signal.SIGKILL and not run.kill_sent and procfs.out_of_memory_kills() > run.kills_before:
            return "out_of_memory", status, "the kernel killed it: the node was out of memory"
        return "signal", status, ""

    def _conclude(self, run: Run, how: How, code: int | None, detail: str) -> None:
        if run.stopped_for == "lease" and how == "unknown":
            how, detail = "lease", "the service was silent, so its lease lapsed"
        elif run.stopped_for == "memory" and how == "unknown":
            how, detail = "out_of_memory", f"it used more than its {run.memory_bytes / 2**20:.4g} MiB of memory"
        run.exit = ExitRecord(how, code, self._now_s(), detail)
        self._note_end(run)
        self._on_exit(run.record())

    def _note_end(self, run: Run) -> None:
        run.kill_at = run.asks_at = None
        if run.pid is not None:
            self._by_pid.pop(run.pid, None)
        self._polled.pop(run.key, None)
        pidfd = self._pidfds.pop(run.key, None)
        if pidfd is not None:
            self._unwatch(pidfd)
            os.close(pidfd)
        try:
            self._journal.ended(run)
        except OSError as error:  # it stays in memory; a successor would call it unknown
            print(f"end of {run.key} not journalled: {error}", file=sys.stderr)

    def _sweep(self) -> None:
        """Kill children that no living run can own: what a run put into the background and left."""
        self._sweep_at = None
        marks: set[bytes] | None = None
        for pid in procfs.own_children():
            if pid in self._by_pid:
                continue
            found = procfs.process(pid)
            if found is None or found.ended or found.session in self._by_pid:
                continue
            if marks is None:
                marks = {run.mark.encode() for run in self._live() if run.mark}
            if not any(procfs.has_in_environment(pid, mark) for mark in marks):
                kill(pid, signal.SIGKILL)

    # ---- time ------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `on_time` has something to do; None: never."""
        times = [self._memory_at, self._sweep_at, self._poll_at]
        bound = False
        for run in self._by_pid.values():
            times += (run.kill_at, run.asks_at)
            bound = bound or (run.lease_bound and run.stopped_for is None)
        if bound and not self._lease_lapsed:
            times.append(self._lease_until)
        return min((at for at in times if at is not None), default=None)

    def on_time(self) -> None:
        now = boottime_s()
        if now >= self._lease_until and not self._lease_lapsed:
            self._lapse(now)
        for run in self._live():
            if run.kill_at is not None and now >= run.kill_at:
                run.kill_at = None
                send(run, signal.SIGKILL)
            elif run.asks_at is not None and now >= run.asks_at:
                ask(run)
        if self._memory_at is not None and now >= self._memory_at:
            self._watch_memory()
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

    def _watch_memory(self) -> None:
        """RSS first: it is cheap, and never less than PSS, so only a run over its limit by RSS is looked at closely."""
        members: dict[int, list[int]] = {}
        for found in procfs.processes():
            if found.session in self._by_pid:
                members.setdefault(found.session, []).append(found.pid)
        for sid, pids in members.items():
            run = self._by_pid[sid]
            if not run.memory_bytes or run.stopped_for is not None:
                continue
            if sum(map(procfs.rss_bytes, pids)) <= run.memory_bytes:
                continue
            if sum(map(procfs.pss_bytes, pids)) > run.memory_bytes:
                run.stopped_for = "memory"
                send(run, signal.SIGKILL)

    def _live(self) -> list[Run]:
        return list(self._by_pid.values())

    # ---- the end of the launcher -----------------------------------------------------------------------------------

    def close_down(self, grace_s: float) -> None:
        """Ask every run to go, and kill it when `grace_s` is over. Call until `empty`."""
        if self._closing:
            return
        self._closing = True
        kill_at = boottime_s() + grace_s
        for run in self._live():
            run.asks_at = None
            run.kill_at = kill_at if run.kill_at is None else min(run.kill_at, kill_at)
            if run.stopped_for is None:
                run.stopped_for = "shutdown"
            send(run, signal.SIGTERM)

    @property
    def empty(self) -> bool:
        return not self._by_pid

    def kill_leftovers(self, within_s: float = 1.0) -> None:
        """Nothing that descends from a run may outlive the launcher."""
        until = boottime_s() + within_s
        while boottime_s() < until:
            self.reap()
            left = procfs.own_children()
            if not left:
                return
            for pid in left:
                kill(pid, signal.SIGKILL)
            time.sleep(0.005)


def _new_run(order: LaunchOrder, kills_before: int) -> Run:
    env: Mapping[str, str] = dict(order.env)
    return Run(
        key=order.key,
        argv_sha256=hashlib.sha256("\0".join(order.argv).encode()).hexdigest(),
        mark=f"{MARK_VARIABLE}={env[MARK_VARIABLE]}" if MARK_VARIABLE in env else "",
        memory_bytes=order.memory_bytes,
        grace_s=order.grace_s,
        lease_bound=order.lease_bound,
        tag=order.tag,
        kills_before=kills_before,
    )
