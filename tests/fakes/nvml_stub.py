"""The stub of NVIDIA's library for tests: built once a run, and skipped with the reason where no compiler is."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import pytest

from benchmarks.telemetry.stub import CompilerMissing, StubCards, build


@functools.cache
def stub_library(*, old: bool = False) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="suanli-nvml-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    try:
        return build(directory, old=old)
    except CompilerMissing as why:
        pytest.skip(str(why))


def stub_cards(directory: Path, count: int = 8, *, old: bool = False) -> StubCards:
    return StubCards(directory, stub_library(old=old), count)
