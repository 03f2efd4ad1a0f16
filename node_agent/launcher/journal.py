"""What must outlive the launcher: which runs it was about to start, started and saw end, and the highest epoch.

An append-only file of JSON lines, reached through ports.JournalFile. `intent` is written and synced before the fork, so
a key is never started twice; `pid` follows it, `exit` follows the wait, `forget` ends it. A torn last line (the
launcher was killed while writing) is dropped. Opening rewrites the file to what still matters, and so does growth;
forgotten keys are kept, up to a bound, as tombstones.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from node_agent.launcher.ports import JournalFile, Say
from node_agent.launcher.records import BadRecord, ExitRecord, Json, LaunchOrder, RunRecord, control_group_of

MARK_VARIABLE = "SUANLI_RESULT_FILE"  # a path that no other run has
TOMBSTONES = 10_000
REWRITE_AFTER_LINES = 50_000


@dataclass(slots=True)
class Run:
    """One run: the row of the launcher's table, and what the journal keeps of it.

    `mark` is an entry of the run's environment that no other run has, by which its processes can be told wherever they
    went. `stopped_for` says why the launcher itself ended the run, if it did; `kill_at` is a time of CLOCK_BOOTTIME.

    `started_boot_s` is `started_s` by CLOCK_BOOTTIME (None: of an earlier boot, whose readings say nothing in this
    one), and `lived_s` for how long the run is known to have lived by what an earlier launcher wrote down: between two
    launchers somebody may have set the time of day.
    """

    key: str
    argv_sha256: str
    mark: str
    memory_bytes: int
    grace_s: float
    lease_bound: bool
    tag: str
    pid: int | None = None
    start_ticks: int | None = None
    started_s: float | None = None
    started_boot_s: float | None = None
    lived_s: float = 0.0
    exit: ExitRecord | None = None
    adopted: bool = False  # not a child of this launcher: its exit code cannot be learnt
    stopped_for: str | None = None
    asked: bool = False  # the service had it signalled
    kill_sent: bool = False
    kill_at: float | None = None
    asks_at: float | None = None
    asks_with: int = 0  # the signal by which a checkpoint was asked for
    blocking: set[int] = field(default_factory=set)  # processes that blocked that signal when last looked at
    kills_before: int = 0  # the kernel's count of out-of-memory kills when the run began
    held: bool = False  # the kernel holds it to its memory

    @staticmethod
    def of(order: LaunchOrder, kills_before: int) -> Run:
        env = dict(order.env)
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

    @property
    def control_group(self) -> str:
        return control_group_of(self.key)

    @property
    def live(self) -> bool:
        return self.pid is not None and self.exit is None

    def record(self) -> RunRecord:
        return RunRecord(self.key, self.tag, self.pid, self.started_s, self.exit, self.started_boot_s)


@dataclass(slots=True)
class Kept:
    """What was in the journal. Pids and times of an earlier boot are left out: they mean nothing in this one."""

    epoch: int = 0
    lease_until: float | None = None  # CLOCK_BOOTTIME seconds, and so is the stamp
    lease_stamp_s: float | None = None  # see lease.Lease
    seen_s: float | None = None  # when the launcher last wrote down that it lives
    runs: dict[str, Run] = field(default_factory=dict)
    forgotten: dict[str, None] = field(default_factory=dict)  # a set that remembers its order


class Journal:
    """The file, open for appending. Raises OSError when it cannot be written: then nothing may be started.

    `boot_id` differs after each boot of the node.
    """

    def __init__(self, file: JournalFile, *, boot_id: str, say: Say) -> None:
        self._file = file
        self._boot_id = boot_id
        self._say = say
        self.kept = self._load()
        self._lines = 0
        self._torn = False  # half a line stands at the end of the file
        self._epoch_is_owed = False
        self.rewrite()

    # ---- writing ---------------------------------------------------------------------------------------------------

    def epoch(self, epoch: int) -> None:
        """It counts from now on even if it cannot be written: then it goes in front of whatever is written next."""
        self.kept.epoch = epoch
        self.kept.lease_stamp_s = None
        self._epoch_is_owed = True
        self._append([], sync=True)

    def lease(self, until: float, stamp_s: float | None, now: float) -> None:
        """`now`: so late the launcher lived, and with it all runs of which it has not written the end."""
        self.kept.lease_until, self.kept.lease_stamp_s, self.kept.seen_s = until, stamp_s, now
        self._append([_lease(until, stamp_s, now)], sync=False)

    def intents(self, runs: Iterable[Run]) -> None:
        """Before the forks; on the disk when it returns."""
        chosen = list(runs)
        self._append([_intent(run) for run in chosen], sync=True)
        self.kept.runs.update((run.key, run) for run in chosen)

    def started(self, run: Run) -> None:
        self._append([_pid(run)], sync=False)

    def ended(self, run: Run) -> None:
        self._append([_exit(run)], sync=False)

    def forget(self, key: str) -> None:
        self._append([{"t": "forget", "key": key}], sync=False)
        self._bury(self.kept, key)
        if self._lines > REWRITE_AFTER_LINES:
            self.rewrite()

    def _append(self, records: Iterable[Json], *, sync: bool) -> None:
        """All of it, or an error and nothing."""
        owed = [{"t": "epoch", "epoch": self.kept.epoch}] if self._epoch_is_owed else []
        lines = [_line(record) for record in (*owed, *records)]
        data = ("\n" * self._torn + "".join(lines)).encode()
        written = self._file.append(data)
        try:
            if written != len(data):
                raise OSError(errno.ENOSPC, "no space left for the journal", self._file.name)
            if sync or owed:
                self._file.sync()
        except OSError:
            self._take_back(written)
            raise
        self._torn = self._epoch_is_owed = False
        self._lines += len(lines)

    def _take_back(self, count: int) -> None:
        """What was refused must not be found by a successor."""
        try:
            self._file.take_back(count)
        except OSError as error:
            self._torn = True  # so that the next line does not become a part of the torn one
            self._say(f"{self._file.name}: half a line could not be taken back: {error}")

    def rewrite(self) -> None:
        """Replace the file by the shortest one that says the same."""
        self._file.replace("".join(map(_line, self._snapshot())).encode())
        self._torn = self._epoch_is_owed = False
        self._lines = 0

    def _snapshot(self) -> Iterator[Json]:
        kept = self.kept
        yield {"t": "boot", "boot_id": self._boot_id}
        yield {"t": "epoch", "epoch": kept.epoch}
        if kept.lease_until is not None:
            yield _lease(kept.lease_until, kept.lease_stamp_s, kept.seen_s)
        for key in kept.forgotten:
            yield {"t": "forget", "key": key}
        for run in kept.runs.values():
            yield _intent(run)
            if run.started_s is not None:
                yield _pid(run)
            if run.exit is not None:
                yield _exit(run)

    def close(self) -> None:
        self._file.close()

    # ---- reading ---------------------------------------------------------------------------------------------------

    def _load(self) -> Kept:
        kept = Kept()
        text = self._file.read()
        if text is None:
            return kept
        written_by = self._boot_id
        for number, line in enumerate(text.splitlines(), 1):
            try:
                record = json.loads(line)
                if record["t"] == "boot":
                    written_by = record["boot_id"]
                else:
                    self._replay(kept, record)
            except (ValueError, KeyError, TypeError, BadRecord) as error:
                self._say(f"{self._file.name}:{number}: line dropped: {error!r}")
        open_runs = [run for run in kept.runs.values() if run.exit is None]
        for run in open_runs:
            if run.started_boot_s is not None and kept.seen_s is not None:
                run.lived_s = max(run.lived_s, kept.seen_s - run.started_boot_s)
        if written_by != self._boot_id:
            kept.lease_until = kept.lease_stamp_s = kept.seen_s = None
            for run in kept.runs.values():
                run.started_boot_s = None
            for run in open_runs:
                run.pid = run.start_ticks = None
        return kept

    def _replay(self, kept: Kept, record: Mapping[str, Any]) -> None:
        match record["t"]:
            case "epoch":
                if int(record["epoch"]) > kept.epoch:
                    kept.epoch, kept.lease_stamp_s = int(record["epoch"]), None
            case "lease":
                stamp_s = record.get("stamp_s")
                kept.lease_until, seen_s = float(record["until"]), record.get("seen_s")
                kept.seen_s = None if seen_s is None else float(seen_s)
                kept.lease_stamp_s = None if stamp_s is None else float(stamp_s)
            case "intent":
                kept.runs[str(record["key"])] = Run(
                    key=str(record["key"]),
                    argv_sha256=str(record["argv_sha256"]),
                    mark=str(record["mark"]),
                    memory_bytes=int(record["memory_bytes"]),
                    grace_s=float(record["grace_s"]),
                    lease_bound=bool(record["lease_bound"]),
                    tag=str(record["tag"]),
                    kills_before=int(record["kills_before"]),
                )
            case "pid":
                run = kept.runs[record["key"]]
                pid, ticks = record["pid"], record["ticks"]  # null: of an earlier boot
                run.pid = None if pid is None else int(pid)
                run.start_ticks = None if ticks is None else int(ticks)
                run.started_s, boot_s = float(record["at_s"]), record.get("boot_s")
                run.started_boot_s = None if boot_s is None else float(boot_s)
                run.lived_s = float(record.get("lived_s", 0.0))
            case "exit":
                kept.runs[record["key"]].exit = ExitRecord.from_json(record)
            case "forget":
                self._bury(kept, str(record["key"]))
            case other:
                raise BadRecord(f"unknown record {other!r}")

    @staticmethod
    def _bury(kept: Kept, key: str) -> None:
        kept.runs.pop(key, None)
        kept.forgotten[key] = None
        while len(kept.forgotten) > TOMBSTONES:
            del kept.forgotten[next(iter(kept.forgotten))]


def _line(record: Json) -> str:
    return json.dumps(record, separators=(",", ":")) + "\n"


def _lease(until: float, stamp_s: float | None, seen_s: float | None) -> Json:
    return {"t": "lease", "until": until, "stamp_s": stamp_s, "seen_s": seen_s}


def _intent(run: Run) -> Json:
    return {
        "t": "intent",
        "key": run.key,
        "argv_sha256": run.argv_sha256,
        "mark": run.mark,
        "memory_bytes": run.memory_bytes,
        "grace_s": run.grace_s,
        "lease_bound": run.lease_bound,
        "tag": run.tag,
        "kills_before": run.kills_before,
    }


def _pid(run: Run) -> Json:
    began = {"at_s": run.started_s, "boot_s": run.started_boot_s}
    lived = {"lived_s": run.lived_s} if run.lived_s else {}  # what was known of it when the file was rewritten
    return {"t": "pid", "key": run.key, "pid": run.pid, "ticks": run.start_ticks, **began, **lived}


def _exit(run: Run) -> Json:
    assert run.exit is not None, run
    end = run.exit
    how = {"how": end.how, "code": end.code, "detail": end.detail, "asked": end.asked}
    return {"t": "exit", "key": run.key, "at_s": end.at_s, **how}
