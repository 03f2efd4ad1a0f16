"""When has something changed in a run's directory? inotify(7), so that nobody need look 20 times a second.

Where the kernel gives none (too many watches, another system) `works` is False for what could not be watched, and
whoever waits looks at intervals as before.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from pathlib import Path

IN_MOVED_TO, IN_CREATE, IN_CLOSE_WRITE, IN_ATTRIB = 0x80, 0x100, 0x8, 0x4  # linux/inotify.h
EVENTS = IN_MOVED_TO | IN_CREATE | IN_CLOSE_WRITE | IN_ATTRIB
BUFFER_BYTES = 1 << 16


class DirectoryNotices:
    """One inotify instance; `changed` is set whenever something happens in a directory that is watched. Make it in the
    event loop's thread."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._watches: dict[Path, int] = {}
        self._descriptor: int | None = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor is None or self._descriptor < 0:
            self._descriptor = None
            return
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def watch(self, directory: Path) -> bool:
        """Whether changes there will be heard of."""
        if self._descriptor is None:
            return False
        if directory not in self._watches:
            number = self._libc.inotify_add_watch(self._descriptor, os.fsencode(directory), EVENTS)
            if number < 0:
                return False
            self._watches[directory] = number
        return True

    def unwatch(self, directory: Path) -> None:
        number = self._watches.pop(directory, None)
        if number is not None and self._descriptor is not None:
            self._libc.inotify_rm_watch(self._descriptor, number)

    def _read(self) -> None:
        assert self._descriptor is not None
        try:
            os.read(self._descriptor, BUFFER_BYTES)  # which it was does not matter: all are looked at
        except BlockingIOError:
            return
        self.changed.set()

    def close(self) -> None:
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
