"""One run over a cluster: what is submitted, what is believed, and what counts."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.protocol import Verdict
from benchmarks.record import DeviceRecord
from benchmarks.system.cluster_run import ClusterAnswer, RunPlan, UnknownNode, run_cluster
from benchmarks.workloads.simulated import CardFigures
from scheduler.errors import Unavailable
from tests.fakes.bench_records import cpu, failed, record
from tests.fakes.fake_cluster import FakeCluster, Worker, as_result, device, flag, node, simulated_worker

PLAN = RunPlan(window_s=4.0, lead_s=5.0)
CARDS = {"H100 SXM": CardFigures(1000.0, 800.0)}
SIM = node("sim-0", device("s0"), device("s1"), simulated=True)
CPU = node("host", device("c0", "EPYC", "cpu"), device("c1", "EPYC", "cpu"), cpus_free_milli=2000)
GPU = node("edge-0", device("gpu-0"), device("gpu-1"))


def run(*nodes: dict[str, Any], workers: dict[str, Worker | None], plan: RunPlan = PLAN, **more: Any) -> ClusterAnswer:
    cluster = FakeCluster(*nodes, workers=workers, **more)
    return run_cluster(cluster, plan, CARDS, timer=cluster.timer)


def by_device(answer: ClusterAnswer) -> dict[str, DeviceRecord]:
    return {r.device: r for r in answer.records}


def test_one_job_a_node_pinned_to_it_with_one_start_for_all() -> None:
    cluster = FakeCluster(
        SIM,
        CPU,
        GPU,
        workers={
            "sim-0": simulated_worker,
            "host": as_result(cpu("c0", "c1")),
            "edge-0": as_result(record("gpu-0"), record("gpu-1")),
        },
    )
    answer = run_cluster(cluster, PLAN, CARDS, timer=cluster.timer)
    assert [j["resources"] for j in cluster.jobs] == [
        {"device": "any", "count": 2, "cpus": 2, "node": "sim-0", "simulated": True},
        {"device": "any", "count": 2, "cpus": 2, "node": "host", "simulated": False},
        {"device": "any", "count": 2, "cpus": 2, "node": "edge-0", "simulated": False},
    ]
    assert {(j["kind"], flag(j, "--start-at"), flag(j, "--window")) for j in cluster.jobs} == {
        ("benchmark", "1005.000", "4")
    }
    assert [flag(j, "--card-peak-tflops") for j in cluster.jobs] == ["1000", None, None]
    assert all(j["time_limit"] > 9 and j["working_dir"] for j in cluster.jobs)
    assert {(r.evidence, r.on) for r in answer.records} == {
        ("simulated", "nothing"),
        ("measured", "cpu"),
        ("measured", "accelerator"),
    }
    assert {d.device: d.verified for d in answer.records if d.evidence == "measured"} == {
        "c0 +1": True,
        "gpu-0": True,
        "gpu-1": True,
    }
    assert not answer.interrupted


@pytest.mark.parametrize(
    ("busy", "reason"),
    [
        (node("edge-0", device("gpu-0"), device("gpu-1", used_milli=250)), "in use"),
        (node("edge-0", device("gpu-1"), state="draining"), "draining"),
        (node("edge-0", device("gpu-1"), state="down"), "down"),
    ],
)
def test_what_is_in_use_or_not_ready_is_left_alone_and_not_covered(busy: dict[str, Any], reason: str) -> None:
    answer = run(busy, workers={"edge-0": as_result(record("gpu-0"))})
    (left,) = answer.not_covered
    assert (left.devices, reason in left.reason) == (("gpu-1",), True)
    assert "gpu-1" not in by_device(answer)


def test_a_job_that_never_starts_is_cancelled_and_not_covered() -> None:
    cluster = FakeCluster(GPU, workers={}, never_start=("edge-0",))
    answer = run_cluster(cluster, PLAN, CARDS, timer=cluster.timer)
    assert cluster.cancelled == ["1"]
    assert answer.records == ()
    assert answer.not_covered[0].devices == ("gpu-0", "gpu-1")
    assert "no device is free" in answer.not_covered[0].reason


@pytest.mark.parametrize(
    ("worker", "told"),
    [
        (None, "failed: worker 0 ended with 137"),
        (lambda n, j: "not json", "cannot be read"),
        (lambda n, j: {"devices": [{"device": "gpu-0"}]}, "cannot be read"),
        (lambda n, j: {"other": 1}, "cannot be read"),
        (lambda n, j: {"devices": []}, "leaves this device out"),
        (as_result(record("stranger"), record("other")), "leaves this device out"),
    ],
)
def test_a_worker_without_a_usable_result_counts_zero_with_the_reason(worker: Worker | None, told: str) -> None:
    answer = run(GPU, workers={"edge-0": worker})
    assert {r.device for r in answer.records} == {"gpu-0", "gpu-1"}
    for r in answer.records:
        assert (r.verdict, r.gflops, r.verified, r.should_count()) == (Verdict.NO_RESULT, 0.0, False, True)
        assert told in (r.reason or "")


def test_a_device_that_is_left_out_counts_zero_beside_its_sound_neighbour() -> None:
    found = by_device(run(GPU, workers={"edge-0": as_result(record("gpu-1"))}))
    assert (found["gpu-1"].verified, found["gpu-0"].verdict) == (True, Verdict.NO_RESULT)


def test_the_services_word_stands_above_the_workers() -> None:
    """A worker cannot make a CPU an accelerator, a simulated card a measured one, or its card another model."""
    lies = record("c0", covers=("c0", "c1"), model="B200", site="elsewhere", node="other")
    (told,) = run(CPU, workers={"host": as_result(lies)}).records
    assert (told.on, told.model, told.node, told.site, told.should_count()) == (
        "cpu",
        "EPYC",
        "host",
        "dongyang-subnode",
        False,
    )

    made_up = run(SIM, workers={"sim-0": as_result(record("s0"), record("s1"))}).records
    assert {(r.evidence, r.gflops, r.verdict) for r in made_up} == {("simulated", None, Verdict.NO_RESULT)}

    one_for_two = run(GPU, workers={"edge-0": as_result(record("gpu-0", covers=("gpu-0", "gpu-1")))}).records
    assert not any(r.verified for r in one_for_two)

    (short, _) = run(GPU, workers={"edge-0": as_result(record("gpu-0", window_s=1.0), record("gpu-1"))}).records
    assert (short.verified, "window of 1.0 s" in (short.reason or "")) == (False, True)


def test_a_failure_that_the_worker_tells_is_kept_as_told() -> None:
    bad = failed("gpu-0", Verdict.WRONG_PRODUCT, "residual 3 is over the tolerance")
    found = by_device(run(GPU, workers={"edge-0": as_result(bad, record("gpu-1"))}))
    assert (found["gpu-0"].verdict, found["gpu-0"].reason) == (
        Verdict.WRONG_PRODUCT,
        "residual 3 is over the tolerance",
    )


def test_only_named_nodes_are_run_and_an_unknown_name_is_told_before_anything_is_submitted() -> None:
    cluster = FakeCluster(SIM, GPU, workers={"sim-0": simulated_worker})
    run_cluster(cluster, RunPlan(4.0, nodes=("sim-0",)), CARDS, timer=cluster.timer)
    assert [j["resources"]["node"] for j in cluster.jobs] == ["sim-0"]
    with pytest.raises(UnknownNode, match=r"edge-9.*edge-0, sim-0"):
        run_cluster(cluster, RunPlan(4.0, nodes=("sim-0", "edge-9")), CARDS, timer=cluster.timer)
    assert len(cluster.jobs) == 1


def test_an_interrupted_run_cancels_and_keeps_what_was_left() -> None:
    partial = failed("gpu-0", Verdict.INTERRUPTED, "stopped after 1.0 s of 4 s; not a full window")
    cluster = FakeCluster(GPU, workers={"edge-0": as_result(partial, record("gpu-1"))}, interrupt_at_s=1_006.0)
    answer = run_cluster(cluster, PLAN, CARDS, timer=cluster.timer)
    assert (answer.interrupted, cluster.cancelled) == (True, ["1"])
    assert by_device(answer)["gpu-0"].verdict is Verdict.INTERRUPTED


def test_a_service_that_restarts_meanwhile_does_not_end_the_run() -> None:
    class Restarting(FakeCluster):
        silent = 3

        def get(self, path: str, /, **query: Any) -> dict[str, Any]:
            if path.startswith("/v1/jobs/") and self.silent:
                self.silent -= 1
                raise Unavailable("no service answers")
            return super().get(path, **query)

    cluster = Restarting(GPU, workers={"edge-0": as_result(record("gpu-0"), record("gpu-1"))})
    answer = run_cluster(cluster, PLAN, CARDS, timer=cluster.timer)
    assert [r.verified for r in answer.records] == [True, True]


def test_results_by_attempt_and_worker_as_texts_are_read_too() -> None:
    class Keyed(FakeCluster):
        def get(self, path: str, /, **query: Any) -> dict[str, Any]:
            view = super().get(path, **query)
            if path.startswith("/v1/jobs/") and view["results"]:
                import json

                view["results"] = {"1/0": "{}", "2/0": json.dumps(view["results"][0]["result"]), "2/1": "{}"}
            return view

    cluster = Keyed(GPU, workers={"edge-0": as_result(record("gpu-0"), record("gpu-1"))})
    assert [r.verified for r in run_cluster(cluster, PLAN, CARDS, timer=cluster.timer).records] == [True, True]
