"""A launcher's journal on a simulated disk: what does a power failure or a full disk leave of it?"""

from __future__ import annotations

import errno


class VirtualJournal:
    """node_agent.launcher.ports.JournalFile in memory.

    A launcher that dies loses nothing of what it appended, for the kernel has it; a power failure (`crash`) loses what
    was not synced, from some byte on. While `full`, half of what is appended fits.
    """

    def __init__(self, name: str = "journal") -> None:
        self.full = False
        self._name = name
        self._content: bytes | None = None
        self._synced = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def unsynced_bytes(self) -> int:
        """How much a power failure could take now."""
        return len(self._content or b"") - self._synced

    def crash(self, keep_bytes_of_unsynced: int = 0) -> None:
        """The power fails: what was synced stays, and so many bytes of the rest."""
        assert 0 <= keep_bytes_of_unsynced <= self.unsynced_bytes, (keep_bytes_of_unsynced, self.unsynced_bytes)
        if self._content is not None:
            self._content = self._content[: self._synced + keep_bytes_of_unsynced]
            self._synced = len(self._content)

    def read(self) -> str | None:
        return None if self._content is None else self._content.decode(errors="replace")

    def append(self, data: bytes) -> int:
        written = len(data) // 2 if self.full else len(data)
        if self.full and not written:
            raise self._no_space()
        self._content = (self._content or b"") + data[:written]
        return written

    def sync(self) -> None:
        self._synced = len(self._content or b"")

    def take_back(self, count: int) -> None:
        content = self._content or b""
        assert 0 <= count <= len(content), (count, len(content))
        self._content = content[: len(content) - count]
        self._synced = min(self._synced, len(self._content))

    def replace(self, data: bytes) -> None:
        if self.full:
            raise self._no_space()
        self._content = data
        self._synced = len(data)

    def close(self) -> None:
        """There is nothing to let go of."""

    def _no_space(self) -> OSError:
        return OSError(errno.ENOSPC, "No space left on device", self._name)
