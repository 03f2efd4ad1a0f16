"""Who notices when something dies, or when more is needed? Replicas, agents, the service and a node are really killed.

Requests go out at a steady open-loop rate that half of the replicas could bear. A request failed if it was not answered
with 200. Of a killed replica's requests those may fail that were in flight on it: sent before it died, not answered by
then. Nothing else may.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable

from benchmarks.system.serving.bench import MODELS, ONE, Bench, in_words
from benchmarks.system.serving.site import NODE, Asking, Service, until
from benchmarks.workloads.http_load import Record
from benchmarks.workloads.http_mix import Mix, RequestClass, mix_running
from scheduler.errors import BadInput, SuanliError, Unavailable

PER_S = 60.0
QUIET_S = 2.0  # before a kill
AFTER_S = 4.0  # at least, after it
SILENT_S = 12.0  # at least, after a node fell silent
FELT_MS = 100.0  # a request that took longer than this after a node's end had been sent to it

SCALE_REPEATS = 3
STEP_WITHIN_S = 20.0
STEP_PER_S = 150.0


def kills(bench: Bench) -> None:
    service, _ = _two_replicas(bench, "bench-kills")
    try:
        for what, kill in (
            ("replica", lambda: _kill(service.wait_until_it_answers(ONE, replicas=2).pop())),
            ("agent", lambda: _kill(bench.site.agent_pid(NODE))),
            ("service", lambda: _kill(bench.site.service_pid())),
        ):
            bench.progress(f"the {what} is killed", 0.0)
            after_s = max(AFTER_S, bench.plan.duration_s)
            kill_s, records, told = _load_around(bench, service, kill, after_s)
            allowed = what == "replica"
            bench.measured.values[f"kill_{what}_failed"] = float(sum(_failed(records, kill_s, allowed)))
            in_flight = sum(failed(each) for each in records) - sum(_failed(records, kill_s, allowed))
            bench.measured.details[f"kill_{what}"] = told | {"failed_in_flight": in_flight}
            until(bench.site.whole, within_s=60, what=f"all is well again after the {what} was killed")
            service.wait_until_it_answers(ONE, replicas=2)
    finally:
        service.cancel()


def node_death(bench: Bench) -> None:
    """Two replicas on two nodes, and one node is gone at once: its processes are killed, which breaks its connections,
    or they are stopped where they are, which nobody is told by any connection, as when the power fails."""
    _node_goes(bench, "node_death", signal.SIGKILL, max(AFTER_S, bench.plan.duration_s))
    _node_goes(bench, "node_silent", signal.SIGSTOP, max(SILENT_S, bench.plan.duration_s))


def _node_goes(bench: Bench, case: str, number: int, after_s: float) -> None:
    bench.progress("a second node joins", 0.0)
    name = f"bench-{case.replace('_', '-')}"
    bench.site.join_second(name)
    went: set[int] = set()

    def go() -> float:
        at_s, pids = bench.site.signal_second(number)
        went.update(pids)
        return at_s

    try:
        service, replicas = _two_replicas(bench, name, one_per="node")
        try:
            bench.progress("a node dies", 0.5)
            kill_s, records, told = _load_around(bench, service, go, after_s)
        finally:
            bench.site.end_second()
            with contextlib.suppress(SuanliError):  # the lost replica's end is told when its node's lease is over
                service.cancel(wait=False)
    finally:
        bench.site.end_second()
    if len(went & replicas) != 1:
        raise Unavailable(f"{len(went & replicas)} replicas ran on the node that died; one was meant to")
    felt = [each for each in records if each.sent_s is not None and each.sent_s >= kill_s and _felt(each)]
    stop_s = max((each.sent_s - kill_s for each in felt if each.sent_s is not None), default=0.0)
    bench.measured.values[f"{case}_stop_s"] = round(stop_s, 4)
    bench.measured.values[f"{case}_failed"] = float(sum(failed(each) for each in records))
    bench.measured.details[case] = told | {"felt_it": len(felt), "felt_is_over_ms": FELT_MS}


def scale(bench: Bench) -> None:
    service = _scaled(bench, "bench-scale")
    try:
        _start_with_one(service)
        took = [_scale_once(bench, service, number) for number in range(SCALE_REPEATS)]
    finally:
        service.cancel()
    bench.measured.values["scale_command_to_new_replica_s"] = round(max(took), 3)
    bench.measured.details["scale"] = {"each_s": [round(each, 3) for each in took]}
    try:
        service = _scaled(bench, "bench-step", autoscale=True)
    except BadInput as error:
        bench.measured.missing["load_step_to_new_replica_s"] = f"services are not scaled by their load: {error}"
        return
    try:
        service.wait_until_it_answers(ONE)
        _until_alone(service)
        _load_step(bench, service)
    finally:
        service.cancel()


def _scaled(bench: Bench, name: str, **fields: object) -> Service:
    told = {"replicas": {"min": 1, "max": 2}, "slo": {"p99_ms": 100.0}, "resources": {"cpus": 0.25}, **fields}
    return bench.site.serve(name, MODELS / "ten_ms.py", "TenMilliseconds", **told)


def _start_with_one(service: Service) -> None:
    """Where there is room a service may begin with more than its least."""
    service.wait_until_it_answers(ONE)
    service.scale(1)
    _until_alone(service)


def _scale_once(bench: Bench, service: Service, number: int) -> float:
    (before,) = service.wait_until_it_answers(ONE, replicas=1, pids=True)
    bench.progress("a scale command", number / SCALE_REPEATS)
    began_s = time.monotonic()
    service.scale(2)
    took_s = _until_another_answers(service, {before}, within_s=60) - began_s
    service.scale(1)
    _until_alone(service)
    return took_s


def _load_step(bench: Bench, service: Service) -> None:
    """From idle to one and a half times what one replica can do."""
    bench.progress("a step in load", 0.0)
    (before,) = service.wait_until_it_answers(ONE, replicas=1, pids=True)
    call = service.call(ONE)
    step = RequestClass("step", call.url, call.body, STEP_PER_S, 8, call.headers, 100.0)
    with mix_running(Mix((step,), STEP_WITHIN_S, bench.site.token, bench.plan.seed)):
        began_s = time.monotonic()
        try:
            took_s = _until_another_answers(service, {before}, within_s=STEP_WITHIN_S) - began_s
        except SuanliError:
            bench.measured.missing["load_step_to_new_replica_s"] = (
                f"no new replica served within {STEP_WITHIN_S:g} s of 1.5 times the load that one can bear"
            )
            return
    bench.measured.values["load_step_to_new_replica_s"] = round(took_s, 3)


def _until_another_answers(service: Service, known: set[int], *, within_s: float) -> float:
    """When, on the monotonic clock."""
    caller = Asking(service.call(ONE), timeout_s=1.0)
    found_s = 0.0

    def another() -> bool:
        nonlocal found_s
        answer = caller.ask()
        found_s = time.monotonic()
        return answer is not None and answer.status == 200 and int(answer.outputs[0]) not in known

    try:
        until(another, within_s=within_s, what=f"another replica of {service.name} answers", pause_s=0.001)
    finally:
        caller.close()
    return found_s


def _until_alone(service: Service) -> None:
    """Until the replica that was told to go has gone: a number of answers in a row come from one."""
    caller = Asking(service.call(ONE))

    def alone() -> bool:
        answers = [caller.ask() for _ in range(12)]
        return len({answer.outputs[0] for answer in answers if answer is not None and answer.status == 200}) == 1

    try:
        until(alone, within_s=60, what="one replica is left")
    finally:
        caller.close()


# ---- a steady load around an event ---------------------------------------------------------------------------------


def _two_replicas(bench: Bench, name: str, **fields: object) -> tuple[Service, set[int]]:
    """With their pids. A quarter of a core each: they sleep. Without retries the first death would end the service."""
    told = {"replicas": 2, "retries": 20, "resources": {"cpus": 0.25}, **fields}
    service = bench.site.serve(name, MODELS / "ten_ms.py", "TenMilliseconds", **told)
    return service, service.wait_until_it_answers(ONE, replicas=2)


def _load_around(
    bench: Bench, service: Service, kill: Callable[[], float], after_s: float
) -> tuple[float, tuple[Record, ...], dict[str, object]]:
    """When it was killed, all requests, and the load in words."""
    call = service.call(ONE)
    steady = RequestClass("steady", call.url, call.body, PER_S, 8, call.headers)
    mix = Mix((steady,), QUIET_S + after_s, bench.site.token, bench.plan.seed, keep_records=True)
    with mix_running(mix) as running:
        time.sleep(QUIET_S)  # load before the event; nothing is waited for
        kill_s = kill()
        found = running.result()["steady"]
    return kill_s, found.records, in_words(found)


def failed(record: Record) -> bool:
    return record.outcome != "ok"


def _failed(records: Iterable[Record], kill_s: float, in_flight_may: bool) -> list[bool]:
    """Of each request, whether it failed and must not have."""
    return [failed(each) and not (in_flight_may and was_in_flight(each, kill_s)) for each in records]


def was_in_flight(record: Record, at_s: float) -> bool:
    """Sent by then, and not answered yet."""
    return record.sent_s is not None and record.sent_s <= at_s <= record.done_s


def _felt(record: Record) -> bool:
    return failed(record) or record.latency_s * 1e3 > FELT_MS


def _kill(pid: int) -> float:
    at_s = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return at_s
