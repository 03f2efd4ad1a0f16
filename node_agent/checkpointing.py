"""For training loops: save so that a checkpoint is whole or absent, save when asked, and find where to go on.

    with checkpoints() as c:
        start = c.resume()                      # a directory that `write` has filled, or None
        for step in range(...):
            ...
            if c.requested or step % 100 == 0:
                c.save(lambda directory: torch.save(state, directory / "state.pt"), step)
            if c.should_exit:
                break

Under Suanli the place comes from SUANLI_CHECKPOINT_DIR, what to resume from SUANLI_RESUME_FROM, and the scheduler asks
for a checkpoint with the signal that SUANLI_CHECKPOINT_SIGNAL names (SIGUSR1 unless the job's file says otherwise) and
waits for SUANLI_CHECKPOINT_ACK. Outside, all is kept in ./checkpoints. Needs the standard library alone.

In a gang every worker is asked. Rank 0 writes, for data-parallel workers hold the same state; the others' `save` only
acknowledges. Workers notice the request at different steps: agree on it with a collective before leaving the loop.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from node_agent.regular_files import read_bounded

LATEST = "latest"  # a file that holds the name of the newest whole checkpoint
MANIFEST = "suanli-checkpoint.json"  # in each checkpoint: its step, and its files with their sizes
STEP_NAME = re.compile(r"step-(\d+)")
NAME_BYTES = 256
MANIFEST_BYTES = 16 << 20


class Checkpoints:
    """What `checkpoints()` gives to the loop."""

    def __init__(self, directory: Path, resume_from: Path | None, ack: Path | None, *, writes: bool, keep: int) -> None:
        self.directory = directory
        self._resume_from = resume_from
        self._ack = ack
        self._writes = writes
        self._keep = keep
        self._asked = False
        self._acknowledged = False

    @property
    def requested(self) -> bool:
        """The scheduler waits for a checkpoint: save as soon as the state is whole."""
        return self._asked and not self._acknowledged

    @property
    def should_exit(self) -> bool:
        """A requested checkpoint was saved: the loop may leave, else SIGTERM ends it."""
        return self._acknowledged

    def ask(self, number: int = signal.SIGUSR1, frame: FrameType | None = None) -> None:
        """The handler of the signal that asks. Where that is SIGTERM, one after the acknowledgement means go."""
        if number == signal.SIGTERM and self._acknowledged:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._asked = True

    def save(self, write: Callable[[Path], None], step: int) -> Path:
        """Let `write` fill an empty directory, then give it its name in one step. Acknowledges when asked.

        Returns the checkpoint's directory. Raises what `write` raises; the checkpoints before are untouched.
        """
        asked = self._asked
        target = self.directory / f"step-{step:010d}"
        if self._writes:
            self._write(write, step, target)
        if asked and not self._acknowledged:
            if self._ack is not None:
                self._ack.touch()
            self._acknowledged = True
        return target

    def _write(self, write: Callable[[Path], None], step: int, target: Path) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        unfinished = self.directory / f".{target.name}.{os.getpid()}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            write(unfinished)
            _seal(unfinished, step)
            if target.exists():  # this step was saved before; the new one replaces it
                shutil.rmtree(target)
            os.rename(unfinished, target)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        pointer = self.directory / f".{LATEST}.{os.getpid()}"
        pointer.write_text(target.name)
        _sync(pointer)
        os.replace(pointer, self.directory / LATEST)
        _sync(self.directory)
        for old in _by_step(self.directory)[self._keep :]:
            shutil.rmtree(old, ignore_errors=True)

    def resume(self) -> Path | None:
        """The newest whole checkpoint to go on from, or None. Torn ones are passed over."""
        return None if self._resume_from is None else newest_whole(self._resume_from)


def newest_whole(directory: Path) -> Path | None:
    """The checkpoint in `directory` that `latest` names, else the newest that is whole; or `directory` if it is one."""
    if _is_whole(directory):
        return directory
    try:
        named = directory / read_bounded(directory / LATEST, NAME_BYTES).decode().strip()
    except (OSError, ValueError):
        named = None
    if named is not None and STEP_NAME.fullmatch(named.name) and named.parent == directory and _is_whole(named):
        return named
    return next((found for found in _by_step(directory) if _is_whole(found)), None)


def _by_step(directory: Path) -> list[Path]:
    """Newest first."""
    try:
        named = [entry for entry in directory.iterdir() if STEP_NAME.fullmatch(entry.name)]
    except OSError:
        return []
    return sorted(named, key=lambda entry: entry.name, reverse=True)


def _seal(directory: Path, step: int) -> None:
    """Bring the files to the disk, then say which they are: a copy that lost some is found out by their sizes."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    sizes = {}
    for path in files:
        _sync(path)
        sizes[str(path.relative_to(directory))] = path.stat().st_size
    manifest = directory / MANIFEST
    manifest.write_text(json.dumps({"step": step, "files": sizes}))
    _sync(manifest)


def _is_whole(directory: Path) -> bool:
    try:
        sizes = json.loads(read_bounded(directory / MANIFEST, MANIFEST_BYTES))["files"]
        return all((directory / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):  # a job may write anything
        return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def checkpoints(keep: int = 2) -> Iterator[Checkpoints]:
    """Open in the main thread, around the training loop. The newest `keep` checkpoints are kept."""
    assert keep >= 1, keep
    under_suanli = "SUANLI_CHECKPOINT_DIR" in os.environ
    directory = Path(os.environ.get("SUANLI_CHECKPOINT_DIR", "checkpoints"))
    resume_from = os.environ.get("SUANLI_RESUME_FROM") or (None if under_suanli else str(directory))
    ack = os.environ.get("SUANLI_CHECKPOINT_ACK")
    session = Checkpoints(
        directory,
        Path(resume_from) if resume_from else None,
        Path(ack) if ack else None,
        writes=os.environ.get("RANK", "0") == "0",
        keep=keep,
    )
    number = getattr(signal, os.environ.get("SUANLI_CHECKPOINT_SIGNAL", "SIGUSR1"), signal.SIGUSR1)
    before = signal.signal(number, session.ask)
    try:
        yield session
    finally:
        signal.signal(number, before)
