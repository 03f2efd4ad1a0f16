"""What the simulated jobs' processes do: work, save, acknowledge, end; and the files that they share.

A checkpoint is written beside the last whole one and counts once it is whole, as node_agent.checkpointing does: a
process that is killed while it saves leaves a torn one, and the one before.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from node_agent.messages import RunKey
from scheduler.simulation.faults.story import Serve, Submit
from scheduler.simulation.faults.timeline import Appointment, Timeline
from scheduler.simulation.faults.virtual_processes import Behaviour, Exits, Reaction, VirtualProcesses

EXIT_FAILED = 1
TERM_S = 0.3  # what a program that hears SIGTERM needs to go


@dataclass(slots=True)
class SharedFiles:
    """`whole`: by checkpoint directory, how much of the work it holds. `torn`: directories with an unfinished save."""

    whole: dict[str, float] = field(default_factory=dict)
    torn: set[str] = field(default_factory=set)
    failures: dict[str, int] = field(default_factory=dict)
    """By job: how often it has failed by itself."""

    def attempts_of(self, job_directory: str) -> list[int]:
        """Numbers of the attempts that have a directory there."""
        prefix = f"{job_directory}/attempt-"
        there = set(self.whole) | self.torn
        return sorted(int(name.removeprefix(prefix)) for name in there if name.startswith(prefix))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a program finds itself."""

    key: RunKey
    checkpoint_dir: str | None
    resume_from: str | None


class Program:
    """One process. `on_ack`, `on_ready` tell who watches the run."""

    def __init__(
        self,
        timeline: Timeline,
        files: SharedFiles,
        what: Submit | Serve,
        place: Place,
        *,
        on_ack: Callable[[], None],
        on_ready: Callable[[], None],
    ) -> None:
        self._timeline = timeline
        self._files = files
        self._what = what
        self._place = place
        self._on_ack = on_ack
        self._on_ready = on_ready
        self._saving: Appointment | None = None
        self._asked = False
        self._due: list[Appointment] = []
        self.acknowledged = False
        self.is_ready = False
        self.exit_code: int | None = None
        """Of one that went by itself."""
        self._began_s = timeline.now_s
        self._had = 0.0 if place.resume_from is None else files.whole.get(place.resume_from, 0.0)

    def behaviour(self) -> Behaviour:
        what = self._what
        if isinstance(what, Serve):
            return Behaviour(term=Exits(TERM_S, 0))
        term: Reaction = "fatal"
        if what.stubborn:
            term = "handled"
        elif what.saves_every_s is not None:
            term = Exits(TERM_S, what.leaves_with)
        return Behaviour(term=term, usr1="fatal" if what.saves_every_s is None else "handled")

    def run(self, processes: VirtualProcesses, pid: int, ended: Callable[[], None]) -> None:
        """Begin. `ended` is called when it has ended by itself."""
        what = self._what

        def end() -> None:
            process = processes.get(pid)
            if process is not None and process.end is None:
                self.exit_code = self._exit_code()
                self.gone()
                processes.end(pid, self.exit_code)
                ended()

        if isinstance(what, Serve):
            self._after(what.ready_s, self._ready)
            if what.lasts_s is not None:
                self._after(what.lasts_s, end)
            return
        self._after(max(0.05, what.work_s - self._had), end)
        if what.saves_every_s is not None and self._place.key.worker == 0:
            self._after(what.saves_every_s, self._save_regularly)

    def signalled(self, number: int) -> None:
        if number == signal.SIGUSR1 and isinstance(self._what, Submit):
            self._asked = True
            if self._place.key.worker != 0:
                self._after(0.01, self._acknowledge)
            elif self._saving is None:
                self._save()

    def gone(self) -> None:
        """It has ended, or was ended: whatever it was about stays undone."""
        if self._saving is not None and self._place.checkpoint_dir is not None:
            self._files.torn.add(self._place.checkpoint_dir)
        for appointment in self._due:
            appointment.call_off()
        self._due.clear()

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _after(self, delay_s: float, action: Callable[[], None]) -> Appointment:
        appointment = self._timeline.after(delay_s, action)
        self._due.append(appointment)
        return appointment

    def _exit_code(self) -> int:
        what, job = self._what, self._place.key.job_id
        if isinstance(what, Serve):
            return 0
        if self._place.key.worker == 0 and self._files.failures.get(job, 0) < what.fails:
            self._files.failures[job] = self._files.failures.get(job, 0) + 1
            return EXIT_FAILED
        return 0

    def _ready(self) -> None:
        self.is_ready = True
        self._on_ready()

    def _save_regularly(self) -> None:
        assert isinstance(self._what, Submit)
        if self._saving is None:
            self._save()
        assert self._what.saves_every_s is not None
        self._after(self._what.saves_every_s, self._save_regularly)

    def _save(self) -> None:
        assert isinstance(self._what, Submit)
        done = self._had + self._timeline.now_s - self._began_s
        self._saving = self._after(self._what.save_s, lambda: self._saved(done))

    def _saved(self, done: float) -> None:
        self._saving = None
        directory = self._place.checkpoint_dir
        assert directory is not None, self._place
        self._files.whole[directory] = done
        self._files.torn.discard(directory)
        if self._asked:
            self._acknowledge()

    def _acknowledge(self) -> None:
        self.acknowledged = True
        self._on_ack()
