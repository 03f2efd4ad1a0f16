"""What is no regular file is refused and never waited for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from node_agent.regular_files import NotRegular, is_regular, read_bounded


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "follow", "error"),
    [
        (fifo, False, NotRegular),
        (device, True, NotRegular),
        (device, False, OSError),
        (Path.mkdir, False, NotRegular),
    ],
)
@pytest.mark.timeout(10)
def test_refused_and_not_waited_for(
    tmp_path: Path, make: Callable[[Path], None], follow: bool, error: type[OSError]
) -> None:
    path = tmp_path / "x"
    make(path)
    with pytest.raises(error):
        read_bounded(path, 10, follow=follow)
    assert not is_regular(path)


def test_no_more_is_read_than_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    assert read_bounded(tmp_path / "x", 4) == b"0123"
    assert is_regular(tmp_path / "x")
    (tmp_path / "link").symlink_to(tmp_path / "x")
    assert read_bounded(tmp_path / "link", 4, follow=True) == b"0123"
    with pytest.raises(OSError, match="symbolic"):
        read_bounded(tmp_path / "link", 4)
    assert not is_regular(tmp_path / "link")
    assert not is_regular(tmp_path / "absent")
