"""One run over a cluster: what is submitted, what is believed, and what counts."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.protocol import Verdict
from benchmarks.record import DeviceRecord
from benchmarks.system.cluster_run import ClusterAnswer, UnknownNode, UnknownReservation, run_cluster
from benchmarks.system.meeting_place import Announced, ClockOffset
from benchmarks.system.run_plan import RunPlan
from benchmarks.workloads.simulated import CardFigures
from scheduler.errors import Unavailable
from tests.fakes.bench_records import cpu, failed, record
from tests.fakes.fake_cluster import FakeCluster, FakeTimer, Worker, as_result, device, flag, node, simulated_worker

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


# ---- where workers meet --------------------------------------------------------------------------------------------


class FakeMeeting:
    """Workers arm at the moments that the test names; the cluster's jobs run when the start was announced."""

    def __init__(self, timer: FakeTimer, arms_at_s: dict[str, float], skew_s: float = 0.0) -> None:
        self.timer = timer
        self.arms_at_s = arms_at_s
        self.skew_s = skew_s
        self.announced: list[Announced] = []

    def environment(self) -> dict[str, str]:
        return {"BENCH_MEETING": "here:1:secret"}

    def now_s(self) -> float:
        return self.timer.time_s

    def armed(self, window: int) -> dict[str, int]:
        return {name: 8 for name, at_s in self.arms_at_s.items() if at_s <= self.timer.time_s}

    def here(self) -> set[str]:
        return set() if self.announced and self.timer.time_s > self.announced[-1].at_s + 4.0 else set(self.armed(0))

    def ended(self, window: int) -> set[str]:
        return set()

    def offset(self, node: str, window: int) -> ClockOffset | None:
        return ClockOffset(self.skew_s, 0.001) if node in self.armed(window) else None

    def take_raw(self) -> list[str]:
        return []

    def announce(self, window: int, announced: Announced) -> None:
        assert window == len(self.announced)
        self.announced.append(announced)


OTHER = node("edge-1", device("gpu-2"), rack="r9")
BOTH: dict[str, Worker | None] = {
    "edge-0": as_result(record("gpu-0"), record("gpu-1")),
    "edge-1": as_result(record("gpu-2")),
}


class Met(FakeCluster):
    """Jobs end when the last announced window is over."""

    meeting: FakeMeeting

    def _view(self, job_id: str) -> dict[str, Any]:
        job = self.jobs[int(job_id) - 1]
        end_s = self.meeting.announced[-1].at_s + 4.0 if self.meeting.announced else 9e9
        job["command"] += [] if flag(job, "--start-at") else ["--start-at", f"{end_s - 4.0:.3f}"]
        if end_s > 8e9:
            job["command"] = job["command"][:-2]
            return {"id": job_id, "state": "running", "attempt": 1, "results": [], "reason": None}
        return super()._view(job_id)


def met(arms_at_s: dict[str, float], *nodes: dict[str, Any], skew_s: float = 0.0, **more: Any) -> tuple[Met, Any]:
    cluster = Met(*nodes, workers=BOTH, **more)
    cluster.meeting = FakeMeeting(cluster.timer, arms_at_s, skew_s)
    plan = RunPlan(window_s=4.0, lead_s=20.0)
    return cluster, run_cluster(cluster, plan, CARDS, timer=cluster.timer, meeting=cluster.meeting)


def test_the_start_is_announced_when_all_have_armed_and_racks_begin_one_after_the_other() -> None:
    cluster, answer = met({"edge-0": 1_003.0, "edge-1": 1_007.0}, GPU, OTHER)
    (announced,) = cluster.meeting.announced
    assert 1_007.0 < announced.at_s < 1_011.0
    assert answer.start_at_s == announced.at_s
    assert announced.ramp_at_s["edge-0"] == announced.ramp_at_s["edge-1"] + 1.0  # r9, then the one in no rack
    assert announced.at_s >= max(announced.ramp_at_s.values()) + 1.0
    assert {r.device: r.verified for r in answer.records} == {"gpu-0": True, "gpu-1": True, "gpu-2": True}
    assert {r.clock_offset_s for r in answer.records} == {0.0}
    assert all(job["env"] == {"BENCH_MEETING": "here:1:secret"} for job in cluster.jobs)


def test_who_has_not_armed_in_time_is_not_waited_for() -> None:
    cluster, _ = met({"edge-0": 1_003.0, "edge-1": 2_000.0}, GPU, OTHER)
    (announced,) = cluster.meeting.announced
    assert 1_020.0 < announced.at_s < 1_025.0


def test_a_skewed_clock_counts_zero_whatever_the_worker_says() -> None:
    _, answer = met({"edge-0": 1_001.0}, GPU, skew_s=0.08)
    assert {r.verdict for r in answer.records} == {Verdict.CLOCK_SKEW}


def test_simulated_nodes_do_not_meet() -> None:
    cluster = FakeCluster(SIM, workers={"sim-0": simulated_worker})
    meeting = FakeMeeting(cluster.timer, {})
    answer = run_cluster(cluster, PLAN, CARDS, timer=cluster.timer, meeting=meeting)
    assert "env" not in cluster.jobs[0]
    assert (len(answer.records), meeting.announced) == (2, [])


def test_a_run_within_a_reservation_is_on_its_nodes_and_says_so_in_its_jobs() -> None:
    reserved = node("edge-1", device("gpu-2"), reservations=[{"name": "night"}])
    cluster = FakeCluster(GPU, reserved, workers=BOTH)
    answer = run_cluster(cluster, RunPlan(4.0, lead_s=5.0, reservation="night"), CARDS, timer=cluster.timer)
    assert [j["reservation"] for j in cluster.jobs] == ["night"]
    assert [r.device for r in answer.records] == ["gpu-2"]
    with pytest.raises(UnknownReservation, match="day; there are night"):
        run_cluster(cluster, RunPlan(4.0, reservation="day"), CARDS, timer=cluster.timer)


def test_each_measurement_that_a_worker_leaves_out_is_a_failure_of_its_own() -> None:
    plan = RunPlan(4.0, lead_s=5.0, workloads=("gemm", "bandwidth:fp32"), precisions=("bf16", "fp8"))
    answer = run(GPU, workers=BOTH, plan=plan)
    assert [(r.device, r.workload, r.precision, r.verified) for r in answer.records] == [
        ("gpu-0", "gemm", "bf16", True),
        ("gpu-1", "gemm", "bf16", True),
        ("gpu-0", "gemm", "fp8", False),
        ("gpu-1", "gemm", "fp8", False),
        ("gpu-0", "bandwidth", "fp32", False),
        ("gpu-1", "bandwidth", "fp32", False),
    ]
