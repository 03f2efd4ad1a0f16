"""How fast, and how many? Closed loops against a model that does nothing, and against a small network that is batched:
through the gateway, at the replica alone, and of each peer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.system.serving.answer import ClosedLoop, PeerFigures, rate_case
from benchmarks.system.serving.bench import EXAMPLES, Bench
from benchmarks.system.serving.bench import MODELS as OWN
from benchmarks.system.serving.generators import Call
from benchmarks.system.serving.peers import MODELS, PEERS, body_of, installed, peer_serving, version_of
from benchmarks.workloads.http_mix import GeneratorFailed
from scheduler.errors import SuanliError


def noop(bench: Bench) -> None:
    _through_the_gateway(bench, "noop")
    _direct(bench, "noop")
    _peers(bench, "noop")


def mlp(bench: Bench) -> None:
    _through_the_gateway(bench, "mlp")
    batched_ms = bench.measured.values.get("mlp_1_client_p50_ms")
    if batched_ms is not None and (alone_ms := _unbatched_p50_ms(bench)) is not None:
        bench.measured.values["mlp_1_client_against_unbatched"] = round(batched_ms / alone_ms, 3)
    _direct(bench, "mlp")
    _peers(bench, "mlp")


def _through_the_gateway(bench: Bench, model: str) -> None:
    module, name = MODELS[model]
    service = bench.site.serve(f"bench-{model}", EXAMPLES / f"{module}.py", name, resources={"cpus": 1})
    try:
        call = service.call(body_of(model))
        service.wait_until_it_answers(call.body)
        loops = _loops(bench, call, f"{model} through the gateway")
    finally:
        service.cancel()
    _keep(bench, model, loops, direct=False)


def _unbatched_p50_ms(bench: Bench) -> float | None:
    """One caller's p50 with batches of one."""
    service = bench.site.serve("bench-mlp-alone", OWN / "mlp_alone.py", "MlpAlone", resources={"cpus": 1})
    try:
        call = service.call(body_of("mlp"))
        service.wait_until_it_answers(call.body)
        bench.progress("mlp with batches of one", 0.0)
        loop = bench.generate(call, 1, bench.plan.duration_s)
    finally:
        service.cancel()
    bench.measured.details["mlp_unbatched"] = loop.to_json()
    return loop.p50_ms


def _direct(bench: Bench, model: str) -> None:
    try:
        with peer_serving("replica-alone", model) as call:
            loops = _loops(bench, replace(call, body=body_of(model)), f"{model} at the replica alone")
    except (SuanliError, GeneratorFailed) as error:
        bench.measured.missing[f"{model}_direct"] = str(error)
        return
    _keep(bench, model, loops, direct=True)


def _loops(bench: Bench, call: Call, what: str) -> list[ClosedLoop]:
    found = []
    for number, clients in enumerate(bench.plan.clients):
        bench.progress(f"{what}, {clients} clients", number / len(bench.plan.clients))
        found.append(bench.generate(call, clients, bench.plan.duration_s))
    return found


def _keep(bench: Bench, model: str, loops: Sequence[ClosedLoop], *, direct: bool) -> None:
    for loop in loops:
        if loop.p50_ms is not None:
            bench.measured.values[rate_case(model, loop.clients, "p50_ms", direct=direct)] = loop.p50_ms
        bench.measured.values[rate_case(model, loop.clients, "per_s", direct=direct)] = loop.per_s
    bench.measured.details[f"{model}_direct" if direct else model] = {"loops": [loop.to_json() for loop in loops]}


def _peers(bench: Bench, model: str) -> None:
    for name in bench.plan.peers:
        bench.progress(f"{model} by {name}", 0.0)
        _add(bench.measured.peers, _peer(bench, name, model), model)


def _peer(bench: Bench, name: str, model: str) -> PeerFigures:
    if not installed(name):
        return PeerFigures(name, skipped=f"{PEERS[name].package} is not installed: pip install 'suanli[peers]'")
    try:
        with peer_serving(name, model) as call:
            loops = _loops(bench, replace(call, body=body_of(model)), f"{model} by {name}")
    except (SuanliError, GeneratorFailed) as error:
        return PeerFigures(name, version_of(name), notes=PEERS[name].notes, skipped=f"{model}: {error}")
    return PeerFigures(name, version_of(name), {model: tuple(loops)}, PEERS[name].notes)


def _add(peers: list[PeerFigures], found: PeerFigures, model: str) -> None:
    """To what is known of that peer from another model."""
    at = next((number for number, peer in enumerate(peers) if peer.name == found.name), None)
    if at is None:
        peers.append(found)
        return
    known = peers[at]
    skipped = "; ".join(dict.fromkeys(each for each in (known.skipped, found.skipped) if each))
    peers[at] = replace(known, loops={**known.loops, **found.loops}, skipped=skipped)
