"""The whole run: an instance of our own, the groups of cases one after the other, then what they make of the peers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from benchmarks.provenance import load_1m, of_our_own_code
from benchmarks.system.serving import deaths, overload, rates
from benchmarks.system.serving.answer import GROUPS, ServingAnswer, with_ratios
from benchmarks.system.serving.bench import Bench, Measured, Plan, Progress
from benchmarks.system.serving.generators import Generate, choose_generator
from benchmarks.system.serving.site import ClientOf, Site, own_site
from benchmarks.workloads.http_mix import GeneratorFailed
from scheduler.errors import SuanliError

Group = Callable[[Bench], None]
OF = "the way of a request through gateway and replica; a sleep stands for an accelerator, none was measured"

RUNS: Mapping[str, Group] = {
    "noop": rates.noop,
    "mlp": rates.mlp,
    "overload": overload.overload,
    "flood": overload.flood,
    "scale": deaths.scale,
    "node-death": deaths.node_death,
    "kills": deaths.kills,
    "low-altitude": overload.low_altitude,
}


def run_serving(
    client_of: ClientOf,
    plan: Plan,
    progress: Progress,
    *,
    site_of: Callable[[ClientOf], AbstractContextManager[Site]] = own_site,
    generator: tuple[str, Generate] | None = None,
    runs: Mapping[str, Group] = RUNS,
) -> ServingAnswer:
    """Ctrl-C keeps the cases that are done. A group that fails is named with its reason, and the next one is run.
    Raises SuanliError where the instance cannot be brought up."""
    name, generate = generator or choose_generator()
    about = _provenance(plan, name)
    measured = Measured()
    partial = False
    try:
        progress("bringing up an instance", 0.0)
        with site_of(client_of) as site:
            bench = Bench(site, plan, measured, generate, progress)
            for group in GROUPS:
                if group in plan.groups:
                    try:
                        runs[group](bench)
                    except (SuanliError, GeneratorFailed) as error:
                        measured.missing[group] = str(error)
    except KeyboardInterrupt:
        partial = True
    about["load_1m_after"] = load_1m()
    peers = tuple(measured.peers)
    return ServingAnswer(
        about,
        with_ratios(measured.values, peers),
        measured.details,
        peers,
        measured.proportions,
        measured.missing,
        partial,
    )


def _provenance(plan: Plan, generator: str) -> dict[str, Any]:
    return of_our_own_code(OF) | {
        "label": "nightly" if plan.nightly else "short",
        "duration_s": plan.duration_s,
        "open_loop_s": plan.open_loop_s,
        "clients": list(plan.clients),
        "groups": list(plan.groups),
        "generator": generator,
        "open_loop_generator": "suanli http_load (open loop, Poisson, a Python process of its own)",
        "seed": plan.seed,
        "clock": "monotonic; generators, gateway, replicas and peers share this machine's cores",
    }
