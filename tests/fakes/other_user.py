"""For tests in which root runs something as another user: a real one, without any rights."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node_agent.execution.accounts import why_single_user
from tests.fakes.processes import carrying, end_all

OTHER = "nobody"


def _has_other() -> bool:
    try:
        return pwd.getpwnam(OTHER).pw_uid != 0
    except KeyError:
        return False


as_root = pytest.mark.skipif(
    bool(why_single_user()) or not _has_other(),
    reason=f"runs cannot go as another user here: {why_single_user() or f'there is no user {OTHER}'}",
)


@contextmanager
def passable_place(prefix: str) -> Iterator[Path]:
    """A directory that every user may pass through, and in which nothing may be left running."""
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    directory.chmod(0o711)
    try:
        yield directory
        left = list(carrying(str(directory)))
        assert not left, f"processes were left: {left}"
    finally:
        end_all(str(directory))
        shutil.rmtree(directory)


def others_directory(path: Path, mode: int = 0o700) -> Path:
    """A directory that belongs to the other user."""
    path.mkdir(mode=mode)
    user = pwd.getpwnam(OTHER)
    os.chown(path, user.pw_uid, user.pw_gid)
    return path
