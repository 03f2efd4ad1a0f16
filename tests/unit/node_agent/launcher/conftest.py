"""A launcher a test, in a directory whose path is short enough for a socket; nothing survives the test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.launcher_rig import LauncherRig
from tests.fakes.processes import carrying, end_all


@pytest.fixture
def rig() -> Iterator[LauncherRig]:
    directory = Path(tempfile.mkdtemp(prefix="suanli-l-", dir="/tmp"))
    rig = LauncherRig(directory)
    try:
        yield rig
        rig.close()
        left = list(carrying(str(directory)))
        assert not left, f"processes were left: {left}"
    finally:
        end_all(str(directory))
        shutil.rmtree(directory)
