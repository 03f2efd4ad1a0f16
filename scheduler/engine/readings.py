"""What do all devices of the site read? Columns of the last readings, laid over with what agents say has changed.

A node is a table of its own: a row a device, a column a quantity of the schema; so no batch can touch a device of
another node, and one that does not continue what is here is not taken. Each cell has a value, or (a number of) the
reason why there is none; and when it was taken, and how it came about. Without sockets: `take` is given bytes, in the
engine's thread; who asks for readings does so in any.

Nothing that an agent says raises here: what came of it is an answer (`Taken`). Of a batch each section is taken whole
or not at all.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node_agent.devices.quantities import MEANINGS
from node_agent.devices.source import Quality, Unavailable
from node_agent.nodes import ALWAYS_TOLD
from node_agent.readings_wire import (
    LATEST_S,
    MOST_DEVICES,
    MOST_QUANTITIES,
    NAME_CHARACTERS,
    REASON_CHARACTERS,
    Head,
    NotReadings,
    Section,
    batch_of,
)
from scheduler.ports import Json, ReadingRow

COLUMNS: tuple[str, ...] = tuple(quantity.value for quantity in MEANINGS)
UNITS: tuple[str, ...] = tuple(meaning.unit for meaning in MEANINGS.values())
WIDTH = len(COLUMNS)
COLUMN_OF: Mapping[str, int] = {name: column for column, name in enumerate(COLUMNS)}
_ALWAYS_TOLD = frozenset(COLUMN_OF[quantity.value] for quantity in ALWAYS_TOLD)

# Qualities as they stand in the columns: the less real one is the higher. 0: there never was a value.
QUALITIES: tuple[str, ...] = ("", Quality.MEASURED.value, Quality.SIMULATED.value, Quality.REPLAYED.value)

OF_ANOTHER_VERSION = Unavailable("its agent is of another version, which does not know this", lasting=True)
# So many reasons may be kept that no cell has any more, before they are looked through.
SPARE_REASONS = 4096

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a batch. `nodes` are up to date now; `late` is how many sections told nothing new.

    `gap`: something is missing here before it can go on; all is to be asked for anew. `refused`: what was wrong with
    what was not taken ("": nothing).
    """

    nodes: int = 0
    late: int = 0
    gap: bool = False
    refused: str = ""


class _Refused(Exception):
    """A section that cannot be."""


@dataclass(slots=True)
class _Table:
    """One node. `reason` 0: there is a value; else its number among the reasons, and -1: not told yet. `columns`, where
    the agent's differ from ours: by its column ours, or -1."""

    agent: str
    book: int
    layout: int
    number: int
    uuids: tuple[str, ...]
    width: int
    columns: Places | None
    qualities: tuple[int, ...]
    values: Floats
    at_s: Floats
    reason: NDArray[np.int32]
    quality: NDArray[np.uint8]


@dataclass(slots=True)
class _Reasons:
    """Every reason that a cell has, once; their numbers begin at 1."""

    known: list[Unavailable] = field(default_factory=lambda: [Unavailable("")])
    numbers: dict[tuple[str, bool], int] = field(default_factory=dict)
    tidy_at: int = SPARE_REASONS

    def number(self, reason: str, *, lasting: bool) -> int:
        found = self.numbers.get((reason, lasting))
        if found is None:
            found = self.numbers[reason, lasting] = len(self.known)
            self.known.append(Unavailable(reason, lasting))
        return found

    def tidy(self, tables: Collection[_Table]) -> None:
        """Forget those that no cell has."""
        if len(self.known) < self.tidy_at:
            return
        used = np.unique(np.concatenate([np.zeros(1, np.int32), *(table.reason.ravel() for table in tables)]))
        used = used[used > 0]
        fresh = np.zeros(len(self.known), np.int32)
        fresh[used] = np.arange(1, len(used) + 1)
        for table in tables:
            np.copyto(table.reason, fresh[table.reason])
        self.known = [self.known[0], *(self.known[number] for number in used)]
        self.numbers = {(each.reason, each.lasting): number for number, each in enumerate(self.known) if number}
        self.tidy_at = 2 * len(self.known) + SPARE_REASONS


class ReadingsStore:
    """Implements scheduler.ports.Readings."""

    def __init__(self) -> None:
        self._tables: dict[str, _Table] = {}
        self._reasons = _Reasons()
        self._lock = threading.Lock()

    # ---- what agents say -------------------------------------------------------------------------------------------

    def take(self, agent: str, nodes: Collection[str], body: bytes) -> Taken:
        """`nodes`: those that the agent stands for."""
        try:
            batch = batch_of(body)
        except NotReadings as error:
            return Taken(gap=True, refused=str(error))
        done, late, gap, refused = 0, 0, False, ""
        with self._lock:
            for section in batch.sections:
                try:
                    if section.node not in nodes:
                        raise _Refused("the agent does not stand for it")
                    table = self._tables.get(section.node)
                    known = table is not None and (table.agent, table.book) == (agent, batch.book)
                    if known and table is not None and table.number >= section.number:
                        late += 1
                        continue
                    if section.base == 0:
                        self._tables[section.node] = self._laid_out(agent, batch.book, section)
                    elif not known or table is None or (table.layout != section.layout or table.number < section.base):
                        gap = True
                        continue
                    else:
                        self._lay_over(table, section)
                    done += 1
                except _Refused as error:
                    gap = True
                    refused = refused or f"node {section.node[:80]!r}: {error}"
            self._reasons.tidy(self._tables.values())
        return Taken(done, late, gap, refused)

    def known(self, agent: str, nodes: Collection[str]) -> tuple[int, int]:
        """(book, number) up to which all that the agent said of these nodes is here; (0, 0) where that is nothing."""
        with self._lock:
            tables = [table for node in nodes if (table := self._tables.get(node)) and table.agent == agent]
        if not tables or len(tables) < len(nodes) or len({table.book for table in tables}) > 1:
            return 0, 0
        return tables[0].book, min(table.number for table in tables)

    def _laid_out(self, agent: str, book: int, section: Section) -> _Table:
        head = section.head
        if head is None:
            raise _Refused("all is told, but not of what")
        _check_head(head)
        columns = None
        if head.quantities != COLUMNS:
            columns = np.array([COLUMN_OF.get(name, -1) for name in head.quantities], np.intp)
        shape = (len(head.devices), WIDTH)
        missing = 0 if columns is None else self._reasons.number(OF_ANOTHER_VERSION.reason, lasting=True)
        table = _Table(
            agent,
            book,
            section.layout,
            section.number,
            head.devices,
            len(head.quantities),
            columns,
            tuple(QUALITIES.index(name) for name in head.qualities),
            np.full(shape, np.nan),
            np.full(shape, np.nan),
            np.full(shape, -1, np.int32),
            np.zeros(shape, np.uint8),
        )
        if columns is not None:
            table.reason[:, np.setdiff1d(np.arange(WIDTH), columns)] = missing
        self._lay_over(table, section)
        if (table.reason < 0).any():
            raise _Refused("not all cells are told of")
        return table

    def _lay_over(self, table: _Table, section: Section) -> None:
        """All that can be wrong is looked at before anything is changed."""
        size, width = len(table.uuids) * table.width, table.width
        places = _places(section.places, size)
        if len(section.values) != 8 * len(places):
            raise _Refused(f"{len(section.values)} bytes of values for {len(places)} cells")
        values = np.frombuffer(section.values, "<f8")
        if b"\0" in np.isfinite(values).tobytes():  # of so few cells faster than NumPy's all()
            raise _Refused("a value is no number")
        reasons = []
        for text, lasting, packed in section.reasons:
            if len(text) > REASON_CHARACTERS:
                raise _Refused(f"a reason of {len(text)} characters")
            reasons.append((text, lasting, _places(packed, size)))
        stamps = section.stamps
        for row, rows, column, columns, at_s, quality in stamps:
            inside = 0 <= row < row + rows <= len(table.uuids) and 0 <= column < column + columns <= width
            if not inside or not 0 <= at_s < LATEST_S or not 0 <= quality < len(table.qualities):
                raise _Refused("a time for what is not there")
        # A value must have a time: one from before, or one that comes with it.
        timed = table.quality
        ours = _ours(table, places)
        if b"\0" in timed.take(ours).tobytes():
            timed = timed.copy()
            for row, rows, column, columns, _, quality in stamps:
                timed[row : row + rows, _columns(table, column, columns)] = table.qualities[quality]
            if not timed.take(ours).all():
                raise _Refused("a value without a time")

        for row, rows, column, columns, at_s, quality in stamps:
            ours_too = _columns(table, column, columns)
            table.at_s[row : row + rows, ours_too] = at_s
            table.quality[row : row + rows, ours_too] = table.qualities[quality]
        table.values.put(ours, values if table.columns is None else _kept(table, places, values))
        table.reason.put(ours, 0)
        for text, lasting, where in reasons:
            table.reason.put(_ours(table, where), self._reasons.number(text, lasting=lasting))
        table.number = section.number

    # ---- who asks --------------------------------------------------------------------------------------------------

    def node(self, node: str, fields: Sequence[str] | None = None) -> Json:
        """Implements Readings.node."""
        with self._lock:
            table = self._tables.get(node)
            if table is None:
                return {}
            values, at_s, quality, reason = (
                each.tolist() for each in (table.values, table.at_s, table.quality, table.reason)
            )
            known, uuids = self._reasons.known, table.uuids
        columns = range(WIDTH) if fields is None else [COLUMN_OF[name] for name in fields if name in COLUMN_OF]
        shown: Json = {}
        for row, uuid in enumerate(uuids):
            of: dict[str, Any] = {}
            for column in columns:
                why = reason[row][column]
                if why == 0:
                    of[COLUMNS[column]] = {
                        "value": values[row][column],
                        "unit": UNITS[column],
                        "at_s": at_s[row][column],
                        "quality": QUALITIES[quality[row][column]],
                    }
                elif not known[why].lasting or column in _ALWAYS_TOLD:
                    of[COLUMNS[column]] = {"unavailable": known[why].reason}
            shown[uuid] = of
        return shown

    def rows(self, nodes: Sequence[str], fields: Sequence[str]) -> Mapping[str, Mapping[str, ReadingRow]]:
        """Implements Readings.rows."""
        columns = [COLUMN_OF[name] for name in fields]
        with self._lock:
            names = [node for node in nodes if node in self._tables]
            tables = [self._tables[node] for node in names]
            if not tables:
                return {}
            values = np.concatenate([table.values for table in tables])
            at_s = np.concatenate([table.at_s for table in tables])
            quality = np.concatenate([table.quality for table in tables])
            reason = np.concatenate([table.reason for table in tables])
            known = self._reasons.known
            uuids = [table.uuids for table in tables]
        reason = reason[:, columns]
        there = reason == 0
        newest = np.where(there, at_s[:, columns], -1.0).max(axis=1, initial=-1.0).tolist()
        least = np.where(there, quality[:, columns], 0).max(axis=1, initial=0).tolist()
        cells = values[:, columns].astype(object)
        cells[~there] = None
        missing: list[dict[str, str]] = [{} for _ in range(len(reason))]
        for row, column in zip(*(each.tolist() for each in np.nonzero(~there)), strict=True):
            missing[row][fields[column]] = known[reason[row, column]].reason
        told = map(
            ReadingRow,
            cells.tolist(),
            missing,
            [QUALITIES[each] or None for each in least],
            [None if each < 0 else each for each in newest],
        )
        return {
            name: dict(zip(of, told, strict=False))  # `told` goes on with the next node
            for name, of in zip(names, uuids, strict=True)
        }

    def bytes_kept(self) -> int:
        """Of the columns themselves."""
        with self._lock:
            return sum(
                table.values.nbytes + table.at_s.nbytes + table.reason.nbytes + table.quality.nbytes
                for table in self._tables.values()
            )


def _check_head(head: Head) -> None:
    if len(head.devices) > MOST_DEVICES or len(set(head.devices)) != len(head.devices):
        raise _Refused(f"{len(head.devices)} devices, or one of them twice")
    if any(len(uuid) > NAME_CHARACTERS for uuid in head.devices):
        raise _Refused("a device's name without end")
    if not 0 < len(head.quantities) <= MOST_QUANTITIES or len(set(head.quantities)) != len(head.quantities):
        raise _Refused(f"{len(head.quantities)} quantities, or one of them twice")
    unknown = [name for name in head.qualities if name not in QUALITIES[1:]]
    if unknown:
        raise _Refused(f"readings that are {unknown[0][:40]!r}")


def _places(packed: bytes, size: int) -> NDArray[np.uint16]:
    if len(packed) % 2:
        raise _Refused("half a place")
    places: NDArray[np.uint16] = np.frombuffer(packed, "<u2")
    if len(places) and int(places.max()) >= size:
        raise _Refused(f"a cell beyond the {size} that there are")
    return places


def _ours(table: _Table, places: NDArray[np.uint16]) -> NDArray[Any]:
    """The agent's places in our columns; those of columns that we have not are left out."""
    if table.columns is None:
        return places
    rows, columns = np.divmod(places.astype(np.intp), table.width)
    here = table.columns[columns]
    return (rows * WIDTH + here)[here >= 0]


def _kept(table: _Table, places: NDArray[np.uint16], values: Floats) -> Floats:
    assert table.columns is not None
    return values[table.columns[places.astype(np.intp) % table.width] >= 0]


def _columns(table: _Table, column: int, columns: int) -> slice | Places:
    if table.columns is None:
        return slice(column, column + columns)
    here = table.columns[column : column + columns]
    return here[here >= 0]
