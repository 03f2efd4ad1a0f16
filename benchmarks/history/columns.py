"""What did ten thousand cards do over the nights, in a few arrays? The record read as columns, in one pass.

A whole DeviceRecord a card and night would be gigabytes; what change points and outliers need is a rate, when, of whom
and under which software. Only these fields are decoded (msgspec skips the rest of a line without making anything of
it), who and under what are kept once, and what is left is 24 bytes a line.

A result counts as a rate where its verdict is `ok`: what failed verification is no slow card, it is none.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.history.store import LINE_SCHEMA, HistoryStore
from benchmarks.protocol import Verdict

GFLOPS = "GFLOP/s"


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


def read_columns(
    store: HistoryStore,
    *,
    since_s: float = 0.0,
    until_s: float = float("inf"),
    progress: Callable[[float], None] = lambda share: None,
) -> Columns:
    """Results recorded in [since_s, until_s]. Lines are read one by one; nothing but the columns is kept."""
    decode = msgspec.json.Decoder(_Line).decode
    runs: dict[tuple[str, float], int] = {}
    run_facts: list[Run] = []
    whose: dict[tuple[str, ...], int] = {}
    about: dict[tuple[str | None, ...], int] = {}
    in_run, who, under, rates = array("i"), array("i"), array("i"), array("d")
    failed: dict[str, int] = {}
    unreadable = 0
    paths = store.files(since_s=since_s, until_s=until_s)
    ok = str(Verdict.OK)
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
                    continue
                if not since_s <= line.recorded_at_s <= until_s:
                    continue
                rate, unit = (line.gflops, GFLOPS) if line.gflops else (line.value, line.unit)
                if line.verdict != ok or not rate or not 0.0 < rate < float("inf"):
                    verdict = line.verdict if line.verdict != ok else "no_rate"
                    failed[verdict] = failed.get(verdict, 0) + 1
                    continue
                window_s = line.window_s or 0.0
                place = runs.setdefault((line.run, window_s), len(runs))
                if place == len(run_facts):
                    run_facts.append(Run(line.run, line.recorded_at_s, window_s))
                in_run.append(place)
                key = (line.evidence, line.workload, line.precision, line.device)
                who.append(whose.setdefault(key, len(whose)))
                where = (line.site, line.model, line.rack, line.node, line.on, unit)
                software = (line.driver, line.runtime, line.library, line.protocol)
                under.append(about.setdefault(where + software, len(about)))
                rates.append(rate)
    progress(1.0)
    return Columns(
        runs=tuple(run_facts),
        whose=tuple(Whose(*key) for key in whose),  # type: ignore[arg-type]
        about=tuple(About(*(text or "" for text in key)) for key in about),
        run=np.frombuffer(in_run, np.int32) if in_run else np.empty(0, np.int32),
        who=np.frombuffer(who, np.int32) if who else np.empty(0, np.int32),
        under=np.frombuffer(under, np.int32) if under else np.empty(0, np.int32),
        rate=np.frombuffer(rates, np.float64) if rates else np.empty(0, np.float64),
        failed=failed,
        unreadable_lines=unreadable,
    )
