"""A whole launcher in virtual time: the live Supervisor and Journal on virtual processes and a virtual disk."""

from __future__ import annotations

from typing import Any

from node_agent.launcher.journal import Journal
from node_agent.launcher.ports import Limits
from node_agent.launcher.records import LaunchOrder, RunRecord
from node_agent.launcher.supervisor import Rejected, Supervisor
from scheduler.simulation.faults.virtual_journal import VirtualJournal
from scheduler.simulation.faults.virtual_processes import NO_LIMITS, Behaviour, VirtualProcesses
from tests.fakes.fake_clock import FakeClock

DAWN_S = 1.7e9  # the time of day at which the node's clock stood at nought


class VirtualLauncher:
    """`start`, then `launch` and `advance`; `kill` and `start` again for a launcher that died."""

    def __init__(self, limits: Limits = NO_LIMITS) -> None:
        self.clock = FakeClock()
        self.dawn_s = DAWN_S
        """Another one: somebody has set the node's time of day."""
        self.file = VirtualJournal()
        self.processes = VirtualProcesses(
            self.clock.now_s,
            behave=lambda order: self.behaviours.get(order.key, Behaviour()),
            on_signal=self._signalled,
            limits=limits,
        )
        self.behaviours: dict[str, Behaviour] = {}
        self.signals: list[tuple[float, str, int]] = []
        self.exits: list[tuple[float, str, str, int | None]] = []
        self.said: list[str] = []
        self.supervisor: Supervisor

    def start(self, lease_s: float = 60.0) -> VirtualLauncher:
        self.supervisor = Supervisor(
            Journal(self.file, boot_id=self.processes.boot_id, say=self.said.append),
            self.processes,
            lease_s=lease_s,
            boot_s=self.clock.now_s,
            now_s=lambda: self.dawn_s + self.clock.now_s(),
            on_exit=self._ended,
            say=self.said.append,
        )
        return self

    def kill(self) -> None:
        del self.supervisor
        self.processes.launcher_died()

    def power_off(self, keep_bytes_of_unsynced: int = 0) -> None:
        del self.supervisor
        self.file.crash(keep_bytes_of_unsynced)
        self.processes.power_off()

    # ---- time --------------------------------------------------------------------------------------------------------

    def hear(self) -> None:
        """Turns of the live server's loop, until there is nothing to hear: what is done in time may end something."""
        self.supervisor.on_time()
        while self.processes.has_news:
            self.processes.deliver()
            self.supervisor.reap()
            self.supervisor.on_time()

    def advance(self, seconds: float) -> None:
        until = self.clock.time_s + seconds
        self.hear()
        while (at := self._next()) is not None and at <= until:
            self.clock.time_s = max(self.clock.time_s, at)
            self.processes.end_due()
            self.hear()
        self.clock.time_s = until

    def _next(self) -> float | None:
        times = (self.supervisor.next_deadline(), self.processes.next_end_s())
        return min((at for at in times if at is not None), default=None)

    # ---- requests ----------------------------------------------------------------------------------------------------

    def order(self, key: str, **changes: Any) -> LaunchOrder:
        fields: dict[str, Any] = {
            "key": key,
            "argv": ("train", key),
            "env": (("SUANLI_RESULT_FILE", f"/runs/{key}/result"),),
            "cwd": "/",
            "stdout": f"/runs/{key}/out",
            "stderr": f"/runs/{key}/err",
            "memory_bytes": 0,
            "grace_s": 2.0,
            "lease_bound": True,
            "tag": f"tag of {key}",
        }
        return LaunchOrder(**{**fields, **changes})

    def ask(self, key: str, **changes: Any) -> RunRecord | Rejected:
        """The answer to one launch."""
        return self.supervisor.launch([self.order(key, **changes)])[0]

    def launch(self, key: str, behaviour: Behaviour | None = None, **changes: Any) -> int:
        """The pid of the run."""
        if behaviour is not None:
            self.behaviours[key] = behaviour
        answer = self.ask(key, **changes)
        assert isinstance(answer, RunRecord), answer
        assert answer.pid is not None
        return answer.pid

    def renew(self, lease_s: float, age_s: float = 0.0) -> None:
        """As from a service that last heard this node's clock `age_s` ago."""
        self.supervisor.renew(lease_s, self.clock.time_s - age_s)

    def record(self, key: str) -> RunRecord:
        return next(record for record in self.supervisor.records() if record.key == key)

    def outcome(self, key: str) -> tuple[str, int | None] | None:
        end = self.record(key).exit
        return None if end is None else (end.how, end.code)

    def lives(self, pid: int) -> bool:
        found = self.processes.find(pid)
        return found is not None and not found.ended

    def _signalled(self, pid: int, number: int) -> None:
        process = self.processes.get(pid)
        assert process is not None
        self.signals.append((self.clock.time_s, process.order.key, number))

    def _ended(self, record: RunRecord) -> None:
        assert record.exit is not None
        self.exits.append((self.clock.time_s, record.key, record.exit.how, record.exit.code))
