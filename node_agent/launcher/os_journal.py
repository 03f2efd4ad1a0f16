"""The journal's file on a real disk: ports.JournalFile by open(2), write(2), fdatasync(2), ftruncate(2), rename(2)."""

from __future__ import annotations

import os
from pathlib import Path


class OsJournal:
    """The file at `path`, for this user alone. Its directory must be there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    @property
    def name(self) -> str:
        return str(self._path)

    def read(self) -> str | None:
        try:
            return self._path.read_text(errors="replace")
        except FileNotFoundError:
            return None

    def append(self, data: bytes) -> int:
        return os.write(self._opened(), data)

    def sync(self) -> None:
        os.fdatasync(self._opened())

    def take_back(self, count: int) -> None:
        descriptor = self._opened()
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - count)

    def replace(self, data: bytes) -> None:
        fresh = self._path.with_suffix(self._path.suffix + ".new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self._path)
        self.close()
        # Until the directory is synced a power failure may bring the old file back, without what is appended from now.
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _opened(self) -> int:
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._fd
