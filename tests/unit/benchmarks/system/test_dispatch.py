"""What `suanli bench dispatch` makes of a service's answers: times, ratios, and what it says where it cannot."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from benchmarks.system.dispatch import cases, peers
from benchmarks.system.dispatch.answer import DEMANDS, DispatchAnswer, PeerFigures, percentile, with_ratios
from benchmarks.system.dispatch.run import run_dispatch
from scheduler.errors import Conflict, Unavailable

START_S, LIFE_S = 0.010, 0.002


@dataclass(frozen=True)
class Text:
    data: bytes


class FakeService:
    """Starts each job START_S after it came, one after the other where they take whole devices."""

    def __init__(self, **node: Any) -> None:
        device = {"jobs": []}
        facts = {"name": "n1", "simulated": False, "state": "ready", "address": "127.0.0.1", "devices": [device] * 2}
        self.nodes = [facts | node]
        self.jobs: dict[str, dict[str, Any]] = {}
        self.last_end_s = 0.0
        self.runs_each = 1
        self.interrupt_at = ""
        self.fail = ""

    def post(self, path: str, body: Mapping[str, Any], /) -> dict[str, Any]:
        assert path == "/v1/jobs"
        specs = body.get("jobs") or [body["job"]] * max(1, body["job"].get("array", 0))
        ids = []
        for spec in specs:
            assert spec["resources"]["node"] == "n1"
            if self.interrupt_at and self.interrupt_at in (spec["command"][0], "array" * ("array" in spec)):
                raise KeyboardInterrupt
            from_s = time.time() + START_S
            if spec["resources"].get("count") == 2:
                from_s = max(from_s, self.last_end_s + 0.005)
            job_id = str(len(self.jobs) + 1)
            self.last_end_s = from_s + LIFE_S
            usage = [{"from_s": from_s, "to_s": from_s + LIFE_S}] * self.runs_each
            self.jobs[job_id] = {"id": job_id, "state": self.fail or "succeeded", "detail": "why", "usage": usage}
            ids.append({"id": job_id})
        return {"jobs": ids}

    def get(self, path: str, /, **query: Any) -> dict[str, Any]:
        if path == "/v1/nodes":
            return {"nodes": self.nodes}
        if path == "/v1/jobs":
            return {"jobs": []}
        return self.jobs[path.rsplit("/", 1)[1]]

    def wait_for_job(self, job_id: str, *, timeout_s: float | None = None) -> dict[str, Any]:
        return self.jobs[job_id]

    def read_log(self, job_id: str, /) -> Text:
        return Text(f"{self.jobs[job_id]['usage'][0]['from_s']:.9f}\n".encode())


def run(service: FakeService, *against: str, peer: PeerFigures | None = None) -> DispatchAnswer:
    return run_dispatch(
        service,
        jobs=20,
        peers=against,
        progress=lambda what, share: None,
        run_a_peer=lambda name, tasks: peer or PeerFigures(name, "1", (2_000.0,), 100.0),
    )


def test_times_run_from_before_the_submission_to_the_launchers_stamp() -> None:
    answer = run(FakeService())
    assert answer.values["start_p50_ms"] == pytest.approx(1e3 * START_S, abs=0.5)
    assert answer.values["next_start_p50_ms"] == pytest.approx(5.0, abs=0.01)
    assert answer.values["array_not_once"] == 0
    assert not answer.partial
    document = answer.to_json()
    assert [case["case"] for case in document["cases"]] == [case for case in DEMANDS if case in answer.values]
    assert document["provenance"]["measures"]["acknowledged_p50_ms"] == "durable"
    assert document["provenance"]["measures"]["array_per_s"] == "end to end"
    assert document["provenance"]["devices_measured"] == 0


def test_a_task_that_ran_twice_is_told_and_fails_the_run() -> None:
    service = FakeService()
    measured = cases.Measured()
    service.runs_each = 2
    cases.array(service, cases.Here("n1", 2), 20, measured, lambda what, share: None)
    assert measured.values["array_not_once"] == 20
    assert DispatchAnswer({}, measured.values).exit_code == 1


def test_peers_are_set_against_ours_of_the_same_run() -> None:
    answer = run(FakeService(), "ray-job-submit", "hyperqueue")
    assert answer.values["start_against_ray_job_submit"] == pytest.approx(
        2_000 / answer.values["start_p50_ms"], rel=0.01
    )
    ours = answer.values["array_stamped_per_s"]
    assert answer.values["array_against_hyperqueue"] == pytest.approx(ours / 100, rel=0.01)


def test_a_peer_that_is_not_there_is_named_and_no_ratio_is_made() -> None:
    skipped = PeerFigures("hyperqueue", skipped="hyperqueue is not installed: pip install 'suanli[peers]'")
    answer = run(FakeService(), "hyperqueue", peer=skipped)
    assert "array_against_hyperqueue" not in answer.values
    assert answer.to_json()["peers"] == {"hyperqueue": {"skipped": skipped.skipped}}


def test_a_peer_whose_package_is_missing_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers.PACKAGES, "dask", "no_such_package_here")
    assert peers.run_peer("dask", 1).skipped.startswith("no_such_package_here is not installed")


def test_a_peer_that_fails_is_skipped_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers.PACKAGES, "nobody", "json")
    assert peers.run_peer("nobody", 1).skipped == "it failed: KeyError: 'nobody'"


def test_ctrl_c_keeps_what_was_measured() -> None:
    service = FakeService()
    service.interrupt_at = "array"
    answer = run(service)
    assert answer.partial
    assert answer.exit_code == 130
    assert "start_p50_ms" in answer.values
    assert "array_per_s" not in answer.values
    assert answer.to_json()["partial"] is True


@pytest.mark.parametrize("node", [{"simulated": True}, {"state": "down"}, {"address": "203.0.113.7"}, {"devices": []}])
def test_without_a_node_on_this_machine_nothing_is_measured(node: Mapping[str, Any]) -> None:
    with pytest.raises(Unavailable, match="no ready node of the service is this machine"):
        run(FakeService(**node))


def test_other_work_would_be_timed_too() -> None:
    with pytest.raises(Conflict, match="node n1 has work"):
        run(FakeService(devices=[{"jobs": ["7"]}]))


def test_a_job_that_fails_ends_the_run() -> None:
    service = FakeService()
    service.fail = "failed"
    with pytest.raises(Unavailable, match="job 1 of the benchmark failed: why"):
        run(service)


def test_bounds() -> None:
    values = {"start_p50_ms": 10.1, "array_per_s": 449.0, "bulk_per_s": 301.0}
    answer = DispatchAnswer({}, values)
    assert [answer.ok(case) for case in values] == [False, False, True]
    assert answer.exit_code == 1
    assert with_ratios({"start_p50_ms": 10.0}, ()) == {"start_p50_ms": 10.0}


def test_percentiles_are_values_that_were_seen() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([float(number) for number in range(1, 101)], 99) == 99.0
    assert percentile([5.0], 99) == 5.0
