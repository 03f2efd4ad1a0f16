"""What did ten thousand cards do over the nights, in a few arrays? The record read as columns, in one pass.

A whole DeviceRecord a card and night would be gigabytes; what change points and outliers need is a rate, when, of whom
and under which software. Only these fields are decoded (msgspec skips the rest of a line without making anything of
it), who and under what are kept once, and what is left is 24 bytes a line.

A result counts as a rate where its verdict is `ok`: what failed verification is no slow card, it is none.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.history.store import LINE_SCHEMA, HistoryStore, StoredResult
from benchmarks.protocol import Verdict
from benchmarks.record import DeviceRecord

GFLOPS = "GFLOP/s"
_OK = str(Verdict.OK)


@dataclass(frozen=True, slots=True)
class Whose:
    """A device, or a group of CPU devices, and what was run on it."""

    evidence: Literal["measured", "simulated"]
    workload: str
    precision: str
    device: str


@dataclass(frozen=True, slots=True)
class About:
    """Where it stood and under what it ran. `on`: accelerator, cpu or nothing."""

    site: str
    model: str
    rack: str
    node: str
    on: str
    unit: str
    driver: str
    runtime: str
    library: str
    protocol: str

    @property
    def like(self) -> tuple[str, ...]:
        """Equal among equals: same model and software."""
        return (self.on, self.model, self.unit, self.driver, self.runtime, self.library, self.protocol)


@dataclass(frozen=True, slots=True)
class Run:
    """A shared window. `at_s` is when its results were recorded."""

    name: str
    at_s: float
    window_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """One entry a result that counts: places in `runs`, `whose` and `about`, and the rate in the unit of `about`.

    `failed` counts results by verdict that do not count; `unreadable_lines` what could not be read at all.
    """

    runs: tuple[Run, ...]
    whose: tuple[Whose, ...]
    about: tuple[About, ...]
    run: NDArray[np.int32]
    who: NDArray[np.int32]
    under: NDArray[np.int32]
    rate: NDArray[np.float64]
    failed: dict[str, int]
    unreadable_lines: int

    def __len__(self) -> int:
        return len(self.rate)


class _Line(msgspec.Struct, frozen=True, gc=False):
    schema: str
    run: str
    recorded_at_s: float
    device: str
    model: str
    evidence: Literal["measured", "simulated"]
    on: str
    workload: str
    precision: str
    verdict: str
    site: str | None = None
    rack: str | None = None
    node: str | None = None
    gflops: float | None = None
    value: float | None = None
    unit: str | None = None
    window_s: float | None = None
    driver: str | None = None
    runtime: str | None = None
    library: str | None = None
    protocol: str = ""


class _Gathered:
    """Columns that are being filled, a result at a time."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, float], int] = {}
        self._run_facts: list[Run] = []
        self._whose: dict[tuple[str, ...], int] = {}
        self._about: dict[tuple[str | None, ...], int] = {}
        self._run, self._who, self._under, self._rates = array("i"), array("i"), array("i"), array("d")
        self._failed: dict[str, int] = {}

    def add(self, line: _Line | DeviceRecord, run: str, recorded_at_s: float) -> None:
        rate, unit = (line.gflops, GFLOPS) if line.gflops else (line.value, line.unit)
        if line.verdict != _OK or not rate or not 0.0 < rate < float("inf"):
            verdict = str(line.verdict) if line.verdict != _OK else "no_rate"
            self._failed[verdict] = self._failed.get(verdict, 0) + 1
            return
        window_s = line.window_s or 0.0
        place = self._runs.setdefault((run, window_s), len(self._runs))
        if place == len(self._run_facts):
            self._run_facts.append(Run(run, recorded_at_s, window_s))
        self._run.append(place)
        key = (line.evidence, line.workload, line.precision, line.device)
        self._who.append(self._whose.setdefault(key, len(self._whose)))
        where = (line.site, line.model, line.rack, line.node, line.on, unit)
        software = (line.driver, line.runtime, line.library, line.protocol)
        self._under.append(self._about.setdefault(where + software, len(self._about)))
        self._rates.append(rate)

    def columns(self, *, unreadable: int = 0) -> Columns:
        run, who, under = self._run, self._who, self._under
        return Columns(
            runs=tuple(self._run_facts),
            whose=tuple(Whose(*key) for key in self._whose),  # type: ignore[arg-type]
            about=tuple(About(*(text or "" for text in key)) for key in self._about),
            run=np.frombuffer(run, np.int32) if run else np.empty(0, np.int32),
            who=np.frombuffer(who, np.int32) if who else np.empty(0, np.int32),
            under=np.frombuffer(under, np.int32) if under else np.empty(0, np.int32),
            rate=np.frombuffer(self._rates, np.float64) if self._rates else np.empty(0, np.float64),
            failed=self._failed,
            unreadable_lines=unreadable,
        )


def columns_of(results: Iterable[StoredResult]) -> Columns:
    """Of results that were read already."""
    gathered = _Gathered()
    for result in results:
        gathered.add(result.record, result.run, result.recorded_at_s)
    return gathered.columns()


def read_columns(
    store: HistoryStore,
    *,
    since_s: float = 0.0,
    until_s: float = float("inf"),
    progress: Callable[[float], None] = lambda share: None,
) -> Columns:
    """Results recorded in [since_s, until_s]. Lines are read one by one; nothing but the columns is kept."""
    decode = msgspec.json.Decoder(_Line).decode
    gathered = _Gathered()
    unreadable = 0
    paths = store.files(since_s=since_s, until_s=until_s)
    for number, path in enumerate(paths):
        progress(number / len(paths))
        with path.open("rb") as lines:
            for raw in lines:
                try:
                    line = decode(raw)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    unreadable += bool(raw.strip())
                    continue
                if line.schema != LINE_SCHEMA:
                    unreadable += 1
                elif since_s <= line.recorded_at_s <= until_s:
                    gathered.add(line, line.run, line.recorded_at_s)
    progress(1.0)
    return gathered.columns(unreadable=unreadable)
