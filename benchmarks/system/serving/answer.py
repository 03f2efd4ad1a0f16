"""What is demanded of serving, and the benchmark's answer, in the one shape of all benchmarks.

Every figure says what it measures: `gateway` (a caller's connection, the gateway with its token check and admission,
the connection to the replica, the model), `direct` (the replica alone, without a gateway), `ratio` (two figures of this
run) or `count`. They are true of the machine that ran it, and of what else it did; no accelerator is used, and nothing
here says anything about one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.planner.answer import EXIT_INTERRUPTED, EXIT_MISSED, Bound
from benchmarks.record import BENCH_SCHEMA
from benchmarks.workloads.proportion import Proportion

Measures = Literal["gateway", "direct", "ratio", "count"]
GROUPS = ("noop", "mlp", "overload", "flood", "scale", "node-death", "kills", "low-altitude")
"""What `--cases` chooses from, in the order in which they are run."""

SLO_ORDINARY_MS = 500.0
SLO_URGENT_MS = 100.0
ENOUGH_URGENT = 10_000


@dataclass(frozen=True, slots=True)
class Demand:
    bound: Bound
    measures: Measures
    group: str
    about: str


def _share(must: float | None = None, aim: float | None = None) -> Bound:
    return Bound("share", must, aim, "higher")


DEMANDS: Mapping[str, Demand] = {
    # a model that does nothing
    "noop_1_client_p50_ms": Demand(Bound("ms", 0.4), "gateway", "noop", "closed loop, one caller"),
    "noop_1_client_against_ray_serve": Demand(
        Bound("times as fast", 10, None, "higher"), "ratio", "noop", "its default proxy's p50 over ours"
    ),
    "noop_1_client_against_uvicorn": Demand(Bound("times its p50", None, 2), "ratio", "noop", "bare, same body"),
    "noop_8_clients_per_s": Demand(Bound("requests/s", better="higher"), "gateway", "noop", "closed loop"),
    "noop_8_clients_p50_ms": Demand(Bound("ms"), "gateway", "noop", "closed loop"),
    "noop_32_clients_per_s": Demand(Bound("requests/s", 10_000, None, "higher"), "gateway", "noop", "closed loop"),
    "noop_32_clients_p50_ms": Demand(Bound("ms"), "gateway", "noop", "closed loop"),
    "noop_32_clients_against_ray_serve_best": Demand(
        Bound("times as many", 3, None, "higher"), "ratio", "noop", "throughput-optimised, direct ingress"
    ),
    "noop_32_clients_against_uvicorn": Demand(Bound("of its rate", None, 0.8, "higher"), "ratio", "noop", "bare"),
    "noop_direct_1_client_p50_ms": Demand(Bound("ms"), "direct", "noop", "the replica alone"),
    "noop_direct_32_clients_per_s": Demand(Bound("requests/s", better="higher"), "direct", "noop", "the replica alone"),
    # a small network
    "mlp_1_client_p50_ms": Demand(Bound("ms"), "gateway", "mlp", "closed loop, with dynamic batching"),
    "mlp_1_client_against_unbatched": Demand(
        Bound("times its p50", 1.2), "ratio", "mlp", "the same service with batches of one"
    ),
    "mlp_32_clients_per_s": Demand(Bound("requests/s", better="higher"), "gateway", "mlp", "dynamic batching"),
    "mlp_32_clients_p50_ms": Demand(Bound("ms"), "gateway", "mlp", "dynamic batching"),
    "mlp_32_clients_against_mosec": Demand(
        Bound("times as many", 0.9, 1.2, "higher"), "ratio", "mlp", "both with dynamic batching up to 32"
    ),
    "mlp_32_clients_against_ray_serve_best": Demand(
        Bound("times as many", 1, None, "higher"), "ratio", "mlp", "throughput-optimised, direct ingress, serve.batch"
    ),
    "mlp_direct_32_clients_per_s": Demand(Bound("requests/s", better="higher"), "direct", "mlp", "the replica alone"),
    # 1.5 x overload, two classes
    "overload_capacity_per_s": Demand(Bound("requests/s", better="higher"), "gateway", "overload", "measured first"),
    "overload_urgent_within_slo": Demand(_share(0.999, 1), "gateway", "overload", "30/s, within 100 ms, open loop"),
    "overload_urgent_p99_ms": Demand(Bound("ms"), "gateway", "overload", "of those answered, from when due"),
    "overload_ordinary_goodput": Demand(_share(0.45), "gateway", "overload", "120/s, within 500 ms, open loop"),
    # three times what there is
    "flood_peak_goodput_per_s": Demand(
        Bound("requests/s", better="higher"), "gateway", "flood", "within 500 ms, the better of 0.9 and 1.2 x capacity"
    ),
    "flood_goodput_of_peak": Demand(_share(0.9), "ratio", "flood", "goodput at 3 x capacity, open loop"),
    "flood_admitted_p99_ms": Demand(
        Bound("ms", SLO_ORDINARY_MS), "gateway", "flood", "of those answered, from when due"
    ),
    "flood_unexplained": Demand(
        Bound("requests", 0), "count", "flood", "neither answered nor refused with Retry-After"
    ),
    # more replicas
    "load_step_to_new_replica_s": Demand(
        Bound("s", 2, 0.5),
        "gateway",
        "scale",
        "from the first request of a step in load to a new replica's first answer",
    ),
    "scale_command_to_new_replica_s": Demand(
        Bound("s"),
        "gateway",
        "scale",
        "from before a scale command to the new replica's first answer, slowest of three",
    ),
    # a node dies
    "node_death_stop_s": Demand(
        Bound("s", 1, 0.1),
        "gateway",
        "node-death",
        "from the end of its processes to the last request sent that failed or took over 100 ms",
    ),
    "node_death_failed": Demand(Bound("requests"), "count", "node-death", "not answered with 200, sent at any time"),
    "node_silent_stop_s": Demand(
        Bound("s"), "gateway", "node-death", "the same, where its processes stop and its connections stay open"
    ),
    "node_silent_failed": Demand(Bound("requests"), "count", "node-death", "not answered with 200 within 5 s"),
    # others die
    "kill_replica_failed": Demand(Bound("requests", 0), "count", "kills", "failed, but for those in flight on it"),
    "kill_agent_failed": Demand(Bound("requests", 0), "count", "kills", "failed, of all"),
    "kill_service_failed": Demand(Bound("requests", 0), "count", "kills", "failed, of all"),
    # low-altitude flight beside what may wait
    "low_altitude_reserved_p99_ratio": Demand(
        Bound("times its p99", 1.3), "ratio", "low-altitude", "its own replica; another one saturated by best-effort"
    ),
    "low_altitude_shared_delay_batches": Demand(
        Bound("batches", 1), "ratio", "low-altitude", "p99 above the unloaded, in best-effort batches; shared replica"
    ),
}
"""Every case, in the order in which they are told. Names are stable."""

_OTHER_CLIENTS = re.compile(r"(noop|mlp)(_direct)?_(\d+)_clients?_(per_s|p50_ms)")


def demand_of(case: str) -> Demand:
    """Of the table; other numbers of clients are shown, and nothing is demanded of them."""
    if case in DEMANDS:
        return DEMANDS[case]
    match = _OTHER_CLIENTS.fullmatch(case)
    assert match is not None, case
    bound = Bound("requests/s", better="higher") if match[4] == "per_s" else Bound("ms")
    return Demand(bound, "direct" if match[2] else "gateway", match[1], "closed loop")


def rate_case(model: str, clients: int, what: Literal["per_s", "p50_ms"], *, direct: bool = False) -> str:
    kind = f"{model}_direct" if direct else model
    return f"{kind}_{clients}_client{'s' if clients != 1 else ''}_{what}"


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """What a closed loop saw. `errors`: requests without an answer of 200."""

    clients: int
    per_s: float
    p50_ms: float | None
    p99_ms: float | None
    errors: int
    generator: str

    def to_json(self) -> dict[str, Any]:
        return {"clients": self.clients, "per_s": self.per_s, "p50_ms": self.p50_ms, "p99_ms": self.p99_ms} | (
            {"errors": self.errors} if self.errors else {}
        )


@dataclass(frozen=True, slots=True)
class PeerFigures:
    """What a peer reached in the same run, by model. `skipped`: why there are none (of that model, if it is named)."""

    name: str
    version: str = ""
    loops: Mapping[str, tuple[ClosedLoop, ...]] = field(default_factory=dict)
    notes: str = ""
    skipped: str = ""

    def at(self, model: str, clients: int) -> ClosedLoop | None:
        return next((loop for loop in self.loops.get(model, ()) if loop.clients == clients), None)

    def to_json(self) -> dict[str, Any]:
        loops = {model: [loop.to_json() for loop in loops] for model, loops in self.loops.items()}
        told: dict[str, Any] = {"version": self.version, **loops, "notes": self.notes} if loops else {}
        return told | ({"skipped": self.skipped} if self.skipped else {})


@dataclass(frozen=True, slots=True)
class ServingAnswer:
    """`undecided`: cases whose requests were too few to say whether they are what they must be. `missing`: groups that
    could not be measured, and why. `partial`: it was interrupted, and cases are missing."""

    provenance: Mapping[str, Any]
    values: Mapping[str, float]
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    peers: tuple[PeerFigures, ...] = ()
    proportions: Mapping[str, Proportion] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    partial: bool = False

    def ok(self, case: str) -> bool | None:
        """None where nothing must, and where a share of too few requests does not tell."""
        bound = demand_of(case).bound
        proportion = self.proportions.get(case)
        if proportion is not None and bound.must is not None and proportion.of < ENOUGH_URGENT:
            return proportion.decides(bound.must)
        return bound.met(self.values[case], bound.must)

    def cases(self) -> Iterator[str]:
        """In the order of the table; other numbers of clients after those of their group."""
        for group in GROUPS:
            known = [case for case in DEMANDS if case in self.values]
            others = [case for case in self.values if case not in DEMANDS]
            yield from (case for case in (*known, *others) if demand_of(case).group == group)

    @property
    def exit_code(self) -> int:
        if self.partial:
            return EXIT_INTERRUPTED
        return EXIT_MISSED if self.missing or any(self.ok(case) is False for case in self.values) else 0

    def to_json(self) -> dict[str, Any]:
        shares = {
            case: {"hits": each.hits, "of": each.of, "low": round(each.low, 5), "high": round(each.high, 5)}
            for case, each in self.proportions.items()
        }
        about = {
            **self.provenance,
            "measures": {case: demand_of(case).measures for case in self.cases()},
            "includes": {case: demand_of(case).about for case in self.cases()},
            "intervals_95": shares,
            "details": dict(self.details),
            "missing": dict(self.missing),
        }
        document: dict[str, Any] = {
            "schema": BENCH_SCHEMA,
            "provenance": about,
            "cases": [
                {
                    "case": case,
                    "value": self.values[case],
                    "unit": demand_of(case).bound.unit,
                    "must": demand_of(case).bound.must,
                    "aim": demand_of(case).bound.aim,
                    "ok": self.ok(case),
                }
                for case in self.cases()
            ],
            "peers": {peer.name: peer.to_json() for peer in self.peers},
        }
        return document | {"partial": True} if self.partial else document


def with_ratios(values: Mapping[str, float], peers: tuple[PeerFigures, ...]) -> dict[str, float]:
    """The cases, and those that set them against a peer of the same run."""
    found = dict(values)
    by_name = {peer.name: peer for peer in peers}

    def p50_of(peer: str) -> float | None:
        loop = by_name[peer].at("noop", 1) if peer in by_name else None
        return loop.p50_ms if loop is not None else None

    def per_s_of(peer: str, model: str) -> float | None:
        loop = by_name[peer].at(model, 32) if peer in by_name else None
        return loop.per_s if loop is not None else None

    ours = found.get("noop_1_client_p50_ms")
    if ours and (theirs := p50_of("ray-serve")):
        found["noop_1_client_against_ray_serve"] = round(theirs / ours, 2)
    if ours and (theirs := p50_of("uvicorn")):
        found["noop_1_client_against_uvicorn"] = round(ours / theirs, 3)
    for case, peer, model in (
        ("noop_32_clients_against_ray_serve_best", "ray-serve-best", "noop"),
        ("noop_32_clients_against_uvicorn", "uvicorn", "noop"),
        ("mlp_32_clients_against_mosec", "mosec", "mlp"),
        ("mlp_32_clients_against_ray_serve_best", "ray-serve-best", "mlp"),
    ):
        rate = found.get(f"{model}_32_clients_per_s")
        if rate is not None and (theirs := per_s_of(peer, model)):
            found[case] = round(rate / theirs, 3)
    return found
