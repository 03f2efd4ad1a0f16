"""Where do records of runs lie, and which is the last of this machine? A directory a machine, a file a run.

A record is there whole or not at all: it is written beside its place, synced and renamed. One that cannot be read is
named and passed over.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.perf.compare import Machine, NotARecord, Record, record_json, record_of
from benchmarks.workloads.devices import cpu_model

PACKAGES = ("msgspec", "numpy", "SQLAlchemy", "pytest-benchmark")


def this_machine() -> Machine:
    return Machine(
        cpu=cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
        host=hashlib.sha256(platform.node().encode()).hexdigest()[:12],
    )


def versions() -> dict[str, str]:
    """Of those of PACKAGES that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def load() -> float | None:
    """Of the machine over the last minute."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def keep(root: Path, record: Record) -> Path:
    """Durable when it returns. Raises OSError."""
    directory = root / record.machine.key
    directory.mkdir(parents=True, exist_ok=True)
    stamp = record.at.replace(":", "").replace("-", "")
    path = directory / f"{stamp}-{record.commit or 'unknown'}.json"
    handle, beside = tempfile.mkstemp(dir=directory, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(record_json(record), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    return path


def last(root: Path, machine: Machine, *, of_commit: str = "", passed_over: Callable[[str], object]) -> Record | None:
    """The newest of this machine whose commit begins so; None: there is none. `passed_over` hears of files that are no
    records."""
    for path in sorted((root / machine.key).glob("*.json"), reverse=True):
        try:
            record = record_of(json.loads(path.read_text(encoding="utf-8")))
            if record.machine != machine:
                raise NotARecord("it is of another machine")
        except (OSError, ValueError, NotARecord) as error:
            passed_over(f"{path} is passed over: {error}")
            continue
        if (record.commit or "").startswith(of_commit):
            return record
    return None
