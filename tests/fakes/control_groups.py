"""Real control groups for tests, where this machine lets us make them; nothing of them survives the test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node_agent.launcher.cgroups import OsControlGroups
from node_agent.launcher.ports import Limits


@contextmanager
def control_groups(directory: Path) -> Iterator[OsControlGroups]:
    groups = OsControlGroups.find(f"suanli-test-{directory.name}", directory / "cgroups", [].append)
    try:
        yield groups
    finally:
        for name in groups.names():
            groups.kill(name)
            groups.remove(name)
        groups.close()


def _limits() -> Limits:
    with tempfile.TemporaryDirectory(prefix="suanli-c-") as directory, control_groups(Path(directory)) as groups:
        return groups.limits


LIMITS = _limits()

with_memory_groups = pytest.mark.skipif(
    not LIMITS.memory, reason=f"no control groups for memory can be made here: {LIMITS.why}"
)
with_cpu_groups = pytest.mark.skipif(
    not LIMITS.cpus, reason=f"no control groups for CPUs can be made here: {LIMITS.why}"
)
