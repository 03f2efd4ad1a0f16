"""The simulator's store in memory, made safe for tests with threads: all services that open it take turns."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from scheduler.core.jobs import Job
from scheduler.simulation import virtual_store


@dataclass
class Kept(virtual_store.Kept):
    lock: threading.Lock = field(default_factory=threading.Lock)


class FakeStore(virtual_store.VirtualStore):
    kept: Kept

    def __init__(
        self,
        kept: Kept | None = None,
        *,
        before_write: virtual_store.Hook | None = None,
        after_write: virtual_store.Hook | None = None,
    ) -> None:
        super().__init__(kept or Kept(), before_write=before_write, after_write=after_write)

    @contextmanager
    def _write(self, what: str) -> Iterator[None]:
        with self.kept.lock, super()._write(what):
            yield

    @property
    def _jobs(self) -> dict[str, Job]:
        """For tests that put a job there as no service would."""
        return self.kept.jobs
