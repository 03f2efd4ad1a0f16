"""What every case is given, and where it puts what it saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.provenance import CHECKOUT
from benchmarks.system.serving.answer import PeerFigures
from benchmarks.system.serving.generators import Generate
from benchmarks.system.serving.site import Site
from benchmarks.workloads.http_mix import ClassResult
from benchmarks.workloads.proportion import Proportion

EXAMPLES = CHECKOUT / "examples"
MODELS = Path(__file__).parent / "models"
ONE = '{"inputs": [1]}'
NIGHTLY_OPEN_LOOP_S = 60.0

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """`duration_s` of each measurement; what is long in `nightly` is said there."""

    duration_s: float
    clients: tuple[int, ...]
    groups: tuple[str, ...]
    peers: tuple[str, ...] = ()
    nightly: bool = False
    seed: int = 0

    @property
    def open_loop_s(self) -> float:
        """A tail needs many requests."""
        return NIGHTLY_OPEN_LOOP_S if self.nightly else self.duration_s


@dataclass(slots=True)
class Measured:
    values: dict[str, float] = field(default_factory=dict)
    details: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    proportions: dict[str, Proportion] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    peers: list[PeerFigures] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bench:
    site: Site
    plan: Plan
    measured: Measured
    generate: Generate
    progress: Progress

    def share(self, case: str, counted: Proportion) -> None:
        """A share that was counted, with how sure it is. Nothing where nothing was sent."""
        if counted.share is not None:
            self.measured.values[case] = round(counted.share, 5)
            self.measured.proportions[case] = counted


def in_words(result: ClassResult) -> dict[str, Any]:
    """One class of an open loop, for the details of an answer."""
    load = result.load
    return {
        "sent": load.sent,
        "answered": load.ok,
        "good": result.good,
        "refused": load.explicit,
        "unexplained": result.unexplained,
        "errors": load.errors,
        "p50_ms": rounded(load.p50_ms),
        "p99_ms": rounded(load.p99_ms),
        "max_ms": rounded(load.max_ms),
    }


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
