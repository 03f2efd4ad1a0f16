"""A directory for an agent and its launcher, in which nothing may be left running."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.processes import carrying, end_all


@pytest.fixture
def place() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="suanli-h-", dir="/tmp"))
    try:
        yield directory
        left = list(carrying(str(directory)))
        assert not left, f"processes were left: {left}"
    finally:
        end_all(str(directory))
        shutil.rmtree(directory)
