"""Where a run's files are, and how its logs are read.

`state_dir/runs/JOB/attempt-N/worker-W/` holds stdout, stderr and the small files by which a run and its agent talk. Job
ids come from the network, so an id that could leave that tree is refused.
"""

from __future__ import annotations

import functools
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from node_agent.execution.accounts import Account
from node_agent.execution.log_files import read_end, read_log
from node_agent.messages import LogChunk, RunKey
from node_agent.regular_files import NotOwn, NotRegular, read_bounded

JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
STREAMS = ("stdout", "stderr")
CHUNK_BYTES = 1 << 20
TAIL_LINES = 20
TAIL_BYTES = 2048
RESULT_BYTES = 256 << 10
DIRECTORIES_ABOVE = 3  # runs, the job's and the attempt's
PASSABLE = 0o711


class NoSuchLog(LookupError):
    """There is no such run or stream on this node. The message says which."""


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The files of one run, all in one directory of its own."""

    directory: Path

    @property
    def stdout(self) -> Path:
        return self.directory / "stdout"

    @property
    def stderr(self) -> Path:
        return self.directory / "stderr"

    @property
    def result(self) -> Path:
        return self.directory / "result.json"

    @property
    def checkpoint_ack(self) -> Path:
        return self.directory / "checkpoint-ack"

    @property
    def ready(self) -> Path:
        return self.directory / "ready"

    @property
    def unix_socket(self) -> Path:
        return self.directory / "socket"

    def make(self, account: Account | None = None) -> None:
        """For the account that the run goes as; None: for us. Another user's way there may be walked, and not seen."""
        if account is None:
            for directory in (*reversed(self.directory.parents[:DIRECTORIES_ABOVE]), self.directory):
                _make_own(directory)
            return
        for directory in reversed(self.directory.parents[:DIRECTORIES_ABOVE]):
            directory.mkdir(mode=PASSABLE, parents=True, exist_ok=True)
            directory.chmod(PASSABLE)
        self.directory.mkdir(mode=0o700, exist_ok=True)
        os.chown(self.directory, account.uid, account.gid)


def _make_own(directory: Path) -> None:
    """As Path.mkdir does for what is there already, without an exception for each: a run's way there mostly is."""
    if not os.path.isdir(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)


@functools.lru_cache(maxsize=4096)  # a run's paths are asked for at each of its steps
def run_paths(state_dir: Path, job_id: str, attempt: int, worker: int) -> RunPaths:
    """Raises NoSuchLog for an id or number that names no directory of ours."""
    if not JOB_ID.fullmatch(job_id) or attempt < 0 or worker < 0:
        raise NoSuchLog(f"{job_id!r}, attempt {attempt}, worker {worker} names no run")
    return RunPaths(state_dir / "runs" / job_id / f"attempt-{attempt}" / f"worker-{worker}")


def paths_of(state_dir: Path, key: RunKey) -> RunPaths:
    return run_paths(state_dir, key.job_id, key.attempt, key.worker)


def read_chunk(paths: RunPaths, stream: str, offset: int, limit: int, *, over: bool) -> LogChunk:
    """At most `limit` bytes (never more than CHUNK_BYTES) from `offset`. `over`: the run has ended, so what is there is
    all that comes. A run that has not written yet has an empty log; one that is over and never had a file has none.
    """
    if stream not in STREAMS:
        raise NoSuchLog(f"{stream!r} is no stream; known are {', '.join(STREAMS)}")
    offset, limit = max(0, offset), max(0, min(limit, CHUNK_BYTES))
    job = paths.directory.parent.parent.name
    try:
        piece = read_log(paths.directory / stream, offset, limit)
    except NotRegular:
        raise NoSuchLog(f"{stream} of {job} is not a regular file any more") from None
    except NotOwn:
        raise NoSuchLog(f"{stream} of {job} is another user's file") from None
    except FileNotFoundError:
        if over and not paths.directory.is_dir():
            raise NoSuchLog(f"this node has no log {stream} of {job} (any more)") from None
        return LogChunk(b"", offset, over)
    following = piece.start + len(piece.data)
    return LogChunk(piece.data, following, over and following >= piece.end, piece.start - offset)


def tail(path: Path, lines: int = TAIL_LINES, limit: int = TAIL_BYTES) -> str:
    """The last lines of a text file, for a message; empty when there is none."""
    try:
        piece = read_end(path, limit)
    except OSError:
        return ""
    rows = piece.data.decode("utf-8", "replace").splitlines()
    if piece.start and len(rows) > 1:
        rows = rows[1:]  # begins in the middle of a line
    return "\n".join(row.rstrip() for row in rows[-lines:]).strip()


def read_result(path: Path) -> tuple[str | None, str]:
    """(JSON text of SUANLI_RESULT_FILE, complaint). No file: no result, no complaint. What is too big or no JSON is
    left out whole.
    """
    try:
        data = read_bounded(path, RESULT_BYTES + 1, own=True)
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"its result could not be read: {error}"
    if len(data) > RESULT_BYTES:
        return None, f"its result was over {RESULT_BYTES} bytes and was left out"
    try:
        text = data.decode()
        json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        return None, f"its result was left out, for SUANLI_RESULT_FILE holds no valid JSON: {reason}"
    return text, ""


def _no_constant(name: str) -> None:
    """Python's json takes NaN and Infinity, JSON (RFC 8259) does not."""
    raise ValueError(f"{name} is no JSON number")
