"""Three times what a replica can do, for real: nobody is left without an answer, and who is urgent gets one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from benchmarks.workloads.http_load import LoadResult, run_load
from tests.fakes.fake_replica import FakeReplica, Request
from tests.unit.scheduler.gateway.conftest import StartGateway, route

MakeReplica = Callable[..., FakeReplica]


def test_every_refusal_is_explicit_and_the_urgent_go_first(start_gateway: StartGateway, replica: MakeReplica) -> None:
    turn = threading.Lock()

    def in_turn(request: Request) -> None:
        with turn:
            time.sleep(0.01)  # what the model takes
        request.answer()

    gateway = start_gateway()
    gateway.put(route(replica(in_turn), priority=800))
    url = f"{gateway.url}/v1/services/chat/predict"
    results: dict[str, LoadResult] = {}

    def load(name: str, rate_per_s: float, *headers: tuple[str, str]) -> None:
        results[name] = run_load(
            url, "film", b"{}", duration_s=1.5, rate_per_s=rate_per_s, clients=200, headers=headers, timeout_s=20
        )

    threads = [
        threading.Thread(target=load, args=("urgent", 30.0, ("X-Suanli-Timeout-Ms", "1000"))),
        threading.Thread(
            target=load, args=("ordinary", 270.0, ("X-Suanli-Timeout-Ms", "500"), ("X-Suanli-Priority", "300"))
        ),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    urgent, ordinary = results["urgent"], results["ordinary"]
    assert set(urgent.errors) | set(ordinary.errors) <= {"429", "503", "504"}
    for result in (urgent, ordinary):
        assert result.ok + sum(result.errors.values()) == result.sent
    assert ordinary.errors
    assert urgent.ok / urgent.sent > ordinary.ok / ordinary.sent
    told = gateway.service()
    assert told["requests"] == urgent.sent + ordinary.sent
    assert sum(told["answers"].values()) == told["requests"]
    assert {one["priority"] for one in told["versions"][0]["classes"]} == {800, 300}
