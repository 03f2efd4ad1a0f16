"""`suanli bench run` and `suanli report capacity` against a fake cluster: what is recorded, shown and returned."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.history.store import HistoryStore
from benchmarks.protocol import Verdict
from benchmarks.system.run_plan import RunPlan
from scheduler.cli import bench as bench_module
from scheduler.cli import report_capacity
from scheduler.cli.root import root
from scheduler.errors import Unavailable
from tests.fakes.bench_records import GOALS, SITES, cpu, failed, record
from tests.fakes.fake_cluster import FakeCluster, Worker, as_result, device, node, simulated_worker

CONFIG = {
    "sites": [{"name": s.name, "title_en": s.title_en, "title_zh": s.title_zh} for s in SITES.values()],
    "goals": [
        {
            "name": g.name,
            "title_en": g.title_en,
            "title_zh": g.title_zh,
            "sites": list(g.sites),
            "goal_pflops": g.goal_pflops,
            "precision": g.precision,
            "due": g.due,
            "source": g.source,
            "is_context": g.is_context,
        }
        for g in GOALS
    ],
    "catalogue": [
        {
            "model": "H100 SXM",
            "vendor": "nvidia",
            "peak_tflops": {"fp16_bf16": 1000.0},
            "achieved_tflops": {"bf16": 800.0},
        }
    ],
}
HOST = node("host", device("c0", "EPYC", "cpu"), device("c1", "EPYC", "cpu"), cpus_free_milli=2000)
SIM = node("sim-0", device("s0"), device("s1"), simulated=True)
GPU = node("edge-0", device("gpu-0"), device("gpu-1"))
SOUND: dict[str, Worker | None] = {
    "host": as_result(cpu("c0", "c1", gflops=120.0)),
    "sim-0": simulated_worker,
    "edge-0": as_result(record("gpu-0"), record("gpu-1")),
}


class Site:
    """The verbs in this process, on a cluster whose time only the run's own waiting moves."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self._monkeypatch = monkeypatch
        self.client: FakeCluster | None = None
        monkeypatch.setenv("SUANLI_HOME", str(home))

    def serve(
        self, *nodes: dict[str, Any], workers: dict[str, Worker | None] | None = None, **more: Any
    ) -> FakeCluster:
        cluster = FakeCluster(*nodes, workers=SOUND if workers is None else workers, config=CONFIG, **more)
        self._monkeypatch.setattr("scheduler.cli.client.Client.from_env", classmethod(lambda cls: cluster))
        self._monkeypatch.setattr("benchmarks.system.cluster_run.WallTimer", lambda: cluster.timer)
        self._monkeypatch.setattr("time.time", lambda: cluster.timer.time_s)
        self.client = cluster
        return cluster

    def silence(self) -> None:
        def nobody(cls: type) -> None:
            raise Unavailable("no Suanli service is known here")

        self._monkeypatch.setattr("scheduler.cli.client.Client.from_env", classmethod(nobody))

    def run(self, *argv: str) -> Result:
        return CliRunner().invoke(root, argv, prog_name="suanli")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path / "home", monkeypatch)


def test_bench_run_answers_in_the_shape_of_every_benchmark_and_records_it(site: Site) -> None:
    site.serve(HOST, SIM, GPU)
    result = site.run("bench", "run", "--window", "4", "-o", "json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["schema"] == "suanli/bench/1"
    cases = {c["case"]: c["value"] for c in answer["cases"]}
    assert cases["measured_accelerator_pflops"] == pytest.approx(1.6)
    assert cases["cpu_gflops"] == 120.0
    assert cases["simulated_pflops"] == pytest.approx(1.6, rel=0.1)
    assert (cases["devices_verified"], cases["devices_invalid"], cases["devices_not_covered"]) == (4, 0, 0)
    assert {d["site"] for d in answer["devices"]} == {"dongyang-subnode"}
    history = HistoryStore(site.home / "bench").read().results
    assert len({r.run for r in history}) == 1
    assert sorted(r.record.device for r in history) == ["c0 +1", "gpu-0", "gpu-1", "s0", "s1"]


def test_the_table_keeps_evidence_in_sections(site: Site) -> None:
    site.serve(HOST, SIM, GPU, node("busy", device("gpu-9", used_milli=1000)))
    out = site.run("bench", "run", "--window", "4").stdout
    titles = [line.split("  ")[0] for line in out.splitlines() if line[:1].isupper()]
    assert titles == ["MEASURED ON ACCELERATORS", "MEASURED ON CPU", "SIMULATED", "NOT COVERED"]
    assert "never counted towards a goal" in out
    assert "in use; not disturbed" in out
    simulated = out[out.index("SIMULATED  (") : out.index("NOT COVERED")]
    assert "no product was run" in simulated
    assert "sim-0" in simulated
    assert "edge-0" not in simulated


@pytest.mark.parametrize(
    ("spoilt", "exit_code"),
    [
        ({}, 0),
        ({"edge-0": as_result(failed("gpu-0", Verdict.WRONG_PRODUCT, "residual"), record("gpu-1"))}, 1),
        ({"edge-0": None}, 1),
        ({"host": None}, 0),  # a CPU should not count: told, and no failure
        ({"sim-0": None}, 0),
    ],
)
def test_the_exit_code_says_whether_what_should_count_does(
    site: Site, spoilt: dict[str, Worker | None], exit_code: int
) -> None:
    site.serve(HOST, SIM, GPU, workers=SOUND | spoilt)
    assert site.run("bench", "run", "--window", "4", "-o", "json").exit_code == exit_code


def test_ctrl_c_leaves_a_record_that_says_so(site: Site) -> None:
    partial = failed("gpu-0", Verdict.INTERRUPTED, "stopped after 1.0 s of 4 s; not a full window")
    site.serve(GPU, workers={"edge-0": as_result(partial, record("gpu-1"))}, interrupt_at_s=1_013.0)
    result = site.run("bench", "run", "--window", "4", "-o", "json")
    assert result.exit_code == 130
    answer = json.loads(result.stdout)
    assert answer["provenance"]["interrupted"] is True
    assert answer["devices"][0]["verdict"] == "interrupted"
    assert len(HistoryStore(site.home / "bench").read().results) == 2


@pytest.mark.parametrize(
    ("argv", "exit_code", "told"),
    [
        (("--nodes", "edge-9"), 4, "edge-9"),
        (("--window", "0"), 2, "window"),
        (("--precision", "fp4"), 2, "no precision is called 'fp4'"),
        (("--workloads", "gemm,stream"), 2, "no workload is called 'stream'"),
        (("--window", "5000"), 2, "window"),
        (("--reservation", "night"), 4, "no reservations"),
        (("--raw", "x"), 2, "--raw is for --local"),
        (("--local", "--reservation", "a"), 2, "--reservation"),
        (("--local", "--precision", "fp8"), 2, "fp8"),
        (("--local", "--nodes", "a"), 2, "--local"),
        (("--window", "-1"), 2, "window"),
        (("--window", "nan"), 2, "nan is no number"),
        (("--window", "ten"), 2, "'ten'"),
        (("--nodes", ""), 2, "--nodes names nothing"),
        (("--workloads", ","), 2, "--workloads names nothing"),
        (("--precision", " "), 2, "--precision names nothing"),
        (("--precision", "fp64", "--workloads", "collective"), 2, "collective is measured in fp32, not in fp64"),
        (("--precision", "fp64", "--workloads", "gemm,serving"), 2, "serving is measured in fp32, tf32, bf16, fp16"),
        (("--workloads", "bandwidth:bf16"), 2, "bandwidth is measured in fp64, fp32, not in bf16"),
        (("--local", "--raw", "/dev/null/raw"), 2, "--raw: /dev/null/raw cannot be written"),
    ],
)
def test_bad_input_submits_nothing(site: Site, argv: tuple[str, ...], exit_code: int, told: str) -> None:
    cluster = site.serve(GPU)
    result = site.run("bench", "run", *argv)
    assert (result.exit_code, cluster.jobs) == (exit_code, [])
    assert told in result.stderr


def test_nodes_may_be_repeated_or_listed(site: Site) -> None:
    cluster = site.serve(HOST, SIM, GPU)
    assert site.run("bench", "run", "--nodes", "host,sim-0", "--nodes", "edge-0", "--window", "4").exit_code == 0
    assert [j["resources"]["node"] for j in cluster.jobs] == ["host", "sim-0", "edge-0"]


def test_a_node_that_is_named_twice_runs_once(site: Site) -> None:
    cluster = site.serve(HOST, GPU)
    assert site.run("bench", "run", "--nodes", "edge-0,host", "--nodes", "edge-0", "--window", "4").exit_code == 0
    assert [j["resources"]["node"] for j in cluster.jobs] == ["edge-0", "host"]


def test_simulated_cards_are_not_covered_where_no_products_are_asked_for(site: Site) -> None:
    cluster = site.serve(SIM, GPU)
    out = site.run("bench", "run", "--window", "4", "--workloads", "serving").stdout
    assert [j["resources"]["node"] for j in cluster.jobs] == ["edge-0"]
    assert "GEMM alone is made up of such cards" in out[out.index("NOT COVERED") :]
    cluster = site.serve(SIM)
    assert site.run("bench", "run", "--window", "4", "--workloads", "serving,gemm:fp16").exit_code == 0
    (job,) = cluster.jobs
    assert job["command"][job["command"].index("--precision") + 1] == "fp16"
    assert HistoryStore(site.home / "bench").read().results[-1].record.precision == "fp16"


def test_a_pair_that_is_left_out_is_told_in_table_and_json(site: Site) -> None:
    argv = ("bench", "run", "--window", "4", "--workloads", "gemm,attention", "--precision", "bf16,fp8")
    told = "attention in fp8: it is measured in fp64, fp32, bf16, fp16"
    site.serve(GPU)
    assert f"left out: {told}" in site.run(*argv).stdout
    site.serve(GPU)
    assert json.loads(site.run(*argv, "-o", "json").stdout)["provenance"]["left_out"] == [told]


def test_a_directory_that_cannot_be_written_is_told_before_anything_is_submitted(site: Site) -> None:
    cluster = site.serve(GPU)
    site.home.write_text("a file")
    result = site.run("bench", "run", "--window", "4")
    assert (result.exit_code, cluster.jobs) == (6, [])
    assert "Nothing was submitted" in result.stderr


def test_a_disk_that_fills_loses_the_record_and_not_the_answer(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    site.serve(GPU)
    monkeypatch.setattr(HistoryStore, "append", full)
    result = site.run("bench", "run", "--window", "4", "-o", "json")
    assert result.exit_code == 6
    assert [d["verified"] for d in json.loads(result.stdout)["devices"]] == [True, True]
    assert "could not be recorded" in result.stderr
    assert "No space left on device" in result.stderr


def test_simulated_figures_come_from_the_shipped_catalogue_where_the_service_names_models_only(site: Site) -> None:
    cluster = site.serve(SIM)
    cluster._config["catalogue"] = [{"model": "H100 SXM", "vendor": "nvidia"}]
    bench_module.measure_cluster(cluster, RunPlan(4.0), home=site.home)
    command = cluster.jobs[0]["command"]
    assert command[command.index("--card-peak-tflops") + 1] == "989"


# ---- report --------------------------------------------------------------------------------------------------------


def test_report_after_a_run_writes_three_files_in_each_language(site: Site, tmp_path: Path) -> None:
    site.serve(HOST, SIM)
    assert site.run("bench", "run", "--window", "4").exit_code == 0
    for lang, word, line in (
        ("en", "Achieved compute capacity", "SIMULATED, counts for nothing"),
        ("zh", "算力达成情况报告", "模拟数据，不计入任何目标"),
    ):
        out = tmp_path / lang
        result = site.run("report", "capacity", "--lang", lang, "--out", str(out))
        assert result.exit_code == 0, result.output
        assert line in result.stdout
        assert word in (out / "capacity.html").read_text()
        assert word in (out / "capacity.md").read_text()
        document = json.loads((out / "capacity.json").read_text())
        assert [g["measured"]["pflops"] for g in document["goals"]] == [None, None]  # none is there, which is no 0
        assert document["cpu"]["gflops"] == {"fp32": 120.0}
        assert document["inventory"]["from"] == "service"


def test_report_without_a_service_uses_the_kept_inventory_and_says_so(site: Site, tmp_path: Path) -> None:
    cluster = site.serve(HOST, SIM, GPU)
    assert site.run("bench", "run", "--window", "4").exit_code == 0
    site.silence()
    cluster.timer.time_s += 3600
    result = site.run("report", "capacity", "--out", str(tmp_path), "-o", "json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["inventory"]["from"] == "kept"
    assert document["goals"][0]["measured"] == {"pflops": pytest.approx(1.6), "devices": 2}
    assert "no service answers" in site.run("report", "capacity", "--out", str(tmp_path)).stdout


def test_report_uses_results_of_the_asked_days_only(site: Site, tmp_path: Path) -> None:
    cluster = site.serve(GPU)
    assert site.run("bench", "run", "--window", "4").exit_code == 0
    cluster.timer.time_s += 3 * 86_400
    for days, devices in (("2", 0), ("4", 2)):
        result = site.run("report", "capacity", "--out", str(tmp_path), "--days", days, "-o", "json")
        assert json.loads(result.stdout)["goals"][0]["measured"]["devices"] == devices


def test_report_with_neither_service_nor_inventory_says_what_to_do(site: Site, tmp_path: Path) -> None:
    site.silence()
    result = site.run("report", "capacity", "--out", str(tmp_path / "out"))
    assert result.exit_code == 4
    assert "suanli up" in result.stderr
    assert not (tmp_path / "out").exists()


def test_report_formats(site: Site, tmp_path: Path) -> None:
    site.serve(HOST)
    assert site.run("report", "capacity", "--out", str(tmp_path / "o"), "--format", "md").exit_code == 0
    assert [p.name for p in (tmp_path / "o").iterdir()] == ["capacity.md"]
    result = site.run("report", "capacity", "--out", str(tmp_path / "p"), "--format", "docx")
    assert (result.exit_code, "docx" in result.stderr) == (2, True)


def test_a_directory_that_cannot_be_written_is_told(site: Site, tmp_path: Path) -> None:
    site.serve(HOST)
    (tmp_path / "file").write_text("")
    result = site.run("report", "capacity", "--out", str(tmp_path / "file" / "below"))
    assert result.exit_code == 6
    assert "--out" in result.stderr


def test_a_damaged_inventory_is_told(site: Site, tmp_path: Path) -> None:
    site.silence()
    (site.home / "bench").mkdir(parents=True)
    (site.home / "bench" / "inventory.json").write_text("{")
    result = site.run("report", "capacity", "--out", str(tmp_path))
    assert (result.exit_code, "inventory.json" in result.stderr) == (6, True)


def test_the_verbs_do_not_load_what_they_do_not_need() -> None:
    import subprocess
    import sys

    code = (
        "import sys, scheduler.cli.bench, scheduler.cli.report; "
        "print([m for m in ('torch', 'numpy', 'jinja2', 'pydantic', 'benchmarks') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == "[]"
    assert report_capacity.DEFAULT_DAYS == 30.0
