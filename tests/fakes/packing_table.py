"""A few nodes with what is free on them, and asks, for packing tests that read like tables:

table = packing_table("1000 1000, 64 CPUs", "500 0, 8 CPUs")
table.best("fgd", table.ask(share_milli=250))
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

import numpy as np

from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.node_columns import ABSENT
from scheduler.core.packing.policies import packing_named
from scheduler.core.packing.rows import Ask, NodeKinds
from scheduler.core.packing.scorer import Scorer
from scheduler.core.packing.shapes import TypicalShapes

GIB = 2**30


class FreeTable:
    """What is free, changed by take and give; every change stamps its row anew."""

    def __init__(self, milli: Sequence[Sequence[int]], cpus_milli: Sequence[int], memory_gib: Sequence[int]) -> None:
        width = max(map(len, milli), default=0)
        padded = [[*row, *[ABSENT] * (width - len(row))] for row in milli]
        self.milli = np.array(padded, np.int32).reshape(len(milli), width)
        self.cpus_milli = np.array(cpus_milli, np.int64)
        self.memory_bytes = np.array(memory_gib, np.int64) * GIB
        self.stamps = np.zeros(len(milli), np.int64)
        self.followed: deque[int] | None = None
        self._counter = [0]

    def copy(self) -> FreeTable:
        """Of the same lineage: its stamps never repeat one of ours."""
        new = object.__new__(FreeTable)
        new.milli, new.cpus_milli, new.memory_bytes, new.stamps = (
            column.copy() for column in (self.milli, self.cpus_milli, self.memory_bytes, self.stamps)
        )
        new.followed = None
        new._counter = self._counter
        return new

    def take(self, row: int, devices: Sequence[int], ask: Ask, sign: int = 1) -> None:
        for device in devices:
            self.milli[row, device] -= sign * (ask.share_milli or WHOLE_DEVICE_MILLI)
        self.cpus_milli[row] -= sign * ask.cpus_milli
        self.memory_bytes[row] -= sign * ask.memory_bytes
        self._counter[0] += 1
        self.stamps[row] = self._counter[0]
        if self.followed is not None:
            self.followed.append(row)

    def give(self, row: int, devices: Sequence[int], ask: Ask) -> None:
        self.take(row, devices, ask, sign=-1)


class PackingTable:
    def __init__(self, free: FreeTable, models: Sequence[str], typical: TypicalShapes) -> None:
        self.free = free
        self.typical = typical
        self.models = models
        counts = (free.milli != ABSENT).sum(axis=1).tolist()
        devices = [[model] * count for model, count in zip(models, counts, strict=True)]
        self.kinds = NodeKinds.of_nodes(devices, free.cpus_milli, free.memory_bytes)

    def ask(self, **asked: object) -> Ask:
        """`rows`, `usable`: lists; all rows by default."""
        rows = asked.pop("rows", None)
        usable = asked.pop("usable", None)
        return Ask(
            rows=np.ones(len(self.models), np.bool_) if rows is None else np.array(rows, np.bool_),
            usable=None if usable is None else np.array(usable, np.bool_),
            **asked,  # type: ignore[arg-type]
        )

    def scorer(self, policy: str, tie_rank: Sequence[int] | None = None) -> Scorer:
        rank = np.arange(len(self.models)) if tie_rank is None else np.array(tie_rank)
        return Scorer(packing_named(policy), self.kinds, self.typical, rank, self.free.milli.shape[1])

    def best(self, policy: str, ask: Ask) -> tuple[int, tuple[int, ...]] | None:
        """Row and devices."""
        scorer = self.scorer(policy)
        row = scorer.best(self.free, ask)
        return None if row is None else (row, scorer.devices(self.free, row, ask))

    def scores(self, policy: str, ask: Ask) -> list[int | None]:
        scores, fits = self.scorer(policy).scores(self.free, ask)
        return [score if fit else None for score, fit in zip(scores.tolist(), fits.tolist(), strict=True)]


def packing_table(*nodes: str, typical: TypicalShapes | None = None) -> PackingTable:
    """A node is written `1000 500 0, 64 CPUs, 256 GiB, model T4`; by default 96 CPUs, 512 GiB and model G2."""
    milli, cpus, memory, models = [], [], [], []
    for node in nodes:
        devices, *rest = (part.strip() for part in node.split(","))
        facts = " ".join(rest)
        milli.append([int(left) for left in devices.split()])
        cpus.append(round(1000 * float(_found(r"([\d.]+) CPUs", facts) or 96)))
        memory.append(int(_found(r"(\d+) GiB", facts) or 512))
        models.append(_found(r"model (\S+)", facts) or "G2")
    return PackingTable(FreeTable(milli, cpus, memory), models, typical or TypicalShapes())


def _found(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found.group(1) if found else None
