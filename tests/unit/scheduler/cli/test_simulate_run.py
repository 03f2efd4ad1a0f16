"""`suanli simulate run`: its document, the tables, what-if nodes, and how it refuses."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scheduler.cli.root import root
from scheduler.schema.cluster_file import load_cluster
from scheduler.schema.load import shipped_config
from scheduler.schema.workload_file import load_workload
from scheduler.simulation.simulated_cluster import added_nodes

SMALL = ("--cluster", str(shipped_config("local.yaml")), "--workload", str(shipped_config("workloads/small.yaml")))
TENK = ("--cluster", str(shipped_config("dongyang-10k.yaml")))
MORNING = (*SMALL, "--until", "36000")  # as much as shows a difference: the whole day takes half a second
JOBS = "name,submit_s,duration_s,tenant,devices,model,priority_class\n"


def simulate(*argv: str) -> Result:
    return CliRunner().invoke(root, ["simulate", "run", *argv], prog_name="suanli")


def answer(*argv: str) -> dict[str, Any]:
    done = simulate(*argv, "-o", "json")
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_the_document_has_its_shape() -> None:
    told = answer(*SMALL)
    assert (told["schema"], told["evidence"]) == ("suanli/simulate-run/1", "simulated")
    about, (run,) = told["about"], told["runs"]
    assert (about["nodes"], about["devices"], about["partial"]) == (6, 48, False)
    assert about["devices_by_site"] == {"dongyang-subnode": 32, "edge-cloud": 16}
    assert {"title", "version", "commit", "generated_at", "elapsed_s", "command", "notes", "span_s"} <= about.keys()
    figures = "name policy added nodes devices partial simulated_s elapsed_s jobs makespan_s utilisation wait_s"
    figures += " completion_s slowdown services preemptions fragmentation fairness energy"
    assert set(figures.split()) <= run.keys()
    series = run["utilisation"]["series"]
    assert len({len(each) for each in series.values()}) == 1
    assert 100 < len(series["t_s"]) <= 500
    assert all(0 <= share <= 1 for share in series["used"])
    assert list(run["wait_s"]["by_class"]) == ["production", "normal", "best-effort"]
    assert run["jobs"]["succeeded"] == run["jobs"]["submitted"] == about["jobs"]
    (service,) = run["services"]
    assert 0.9 < service["attained"] <= 1
    assert run["energy"]["kwh"] is None
    assert run["energy"]["unknown_devices"] == 48
    assert told["titles"]["classes"]["normal"] == {"en": "Normal", "zh": "普通任务"}


def test_the_same_twice_but_for_the_clock() -> None:
    first, second = answer(*MORNING, "--seed", "3"), answer(*MORNING, "--seed", "3")
    for told in (first, second):
        del told["about"]["generated_at"], told["about"]["elapsed_s"]
        for run in told["runs"]:
            del run["elapsed_s"], run["planning"]["elapsed_s"]
    assert first == second
    assert first["runs"][0]["wait_s"] != answer(*MORNING)["runs"][0]["wait_s"]


def test_policies_beside_one_another() -> None:
    told = answer(*MORNING, "--compare", "default,best-fit", "--backfill", "none")
    assert [run["name"] for run in told["runs"]] == ["default", "best-fit"]
    assert {run["policy"]["backfill"] for run in told["runs"]} == {"none"}


def test_more_nodes_stand_beside_the_baseline_and_waits_shrink() -> None:
    base, more = answer(*SMALL, "--until", "57600", "--add-nodes", "4xh100@dongyang-subnode")["runs"]
    assert (base["name"], more["name"]) == ("baseline", "with 4xh100@dongyang-subnode")
    assert (base["devices"], more["devices"]) == (48, 80)
    assert more["wait_s"]["all"]["mean"] < base["wait_s"]["all"]["mean"]
    (alone,) = answer(*SMALL, "--until", "57600", "--add-nodes", "4xh100@dongyang-subnode", "--no-baseline")["runs"]
    assert alone["wait_s"] == more["wait_s"]


def test_tables_for_people() -> None:
    done = simulate(*SMALL)
    assert done.exit_code == 0
    assert done.stdout.startswith("simulated: small (234 jobs, 1 services, seed 0) on local (6 nodes, 48 devices)\n")
    for word in ("used while work arrives", "CLASS", "TENANT", "drone-detection", "note: Simulated:"):
        assert word in done.stdout


def test_the_page_is_written_where_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    double = types.ModuleType("scheduler.simulation.page")
    double.render = lambda document: f"<p>{document['schema']}</p>"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "scheduler.simulation.page", double)
    page = tmp_path / "a.html"
    done = simulate(*MORNING, "-o", "html", "--out", str(page))
    assert (done.exit_code, done.stdout) == (0, f"simulated: wrote {page}\n")
    assert page.read_text() == "<p>suanli/simulate-run/1</p>"
    nowhere = simulate(*SMALL, "-o", "html", "--out", str(tmp_path / "no" / "a.html"))
    assert nowhere.exit_code == 2
    assert "--out: there is no directory" in nowhere.output


@pytest.mark.parametrize(
    ("said", "model", "count"),
    [
        ("100xh200@dongyang-subnode", "H200 SXM", 100),
        ("2xH100 SXM@edge-cloud", "H100 SXM", 2),
        ("1x910b@edge-cloud", "Ascend 910B (Atlas 800T A2)", 1),
        ("3xb200@edge-cloud", "B200 SXM", 3),
    ],
)
def test_added_nodes_are_understood(said: str, model: str, count: int) -> None:
    added = added_nodes(said, load_cluster(shipped_config("dongyang-10k.yaml")), 0)
    assert (added.group.nodes.model, added.group.nodes.count, added.group.nodes.devices) == (model, count, 8)
    assert bool(added.assumed) == (model == "B200 SXM")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("h200", "expected COUNTxMODEL@SITE"),
        ("0xh200@edge-cloud", "expected COUNTxMODEL@SITE"),
        ("5xh200@nowhere", "expected one of the sites dongyang-subnode, edge-cloud; got 'nowhere'"),
        ("5xh@edge-cloud", "may be any of H100 SXM, H200 SXM"),
        ("5xh300@edge-cloud", "expected a model of the hardware catalogue; got 'h300' (did you mean"),
        ("19999xh200@edge-cloud", "at most 20000 in all"),
    ],
)
def test_added_nodes_are_refused(said: str, words: str) -> None:
    done = simulate(*TENK, "--workload", str(shipped_config("workloads/small.yaml")), "--add-nodes", said)
    assert done.exit_code == 2
    assert words in done.output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (JOBS + "a,0,10,hospital,1,H100 SXM,\n", None),
        (JOBS + "a,0,ten,hospital,1,,\n", "line 2, column duration_s: expected a number"),
        (JOBS + "a,0,10,hospitel,1,,\n", "column tenant: expected one of"),
        (JOBS + "a,0,10,hospital,1,H1000,\n", "column model: expected a model of the hardware catalogue; got 'H1000'"),
        (JOBS + "a,0,10,hospital,1,,sooner\n", "column priority_class: expected one of emergency"),
        (JOBS, "there is no line of data"),
        ("name,submit_s,duration_s,tenant,gpus\n", "line 1, column gpus: expected one of"),
        ("who,what\n", "line 1: expected columns of jobs"),
        ("time_s,requests_per_s\n0,5\n60,10\n", None),
        ("time_s,requests_per_s\n60,5\n0,10\n", "line 3, column time_s: 0 does not come after 60"),
    ],
)
def test_csv_workloads(tmp_path: Path, text: str, words: str | None) -> None:
    file = tmp_path / "work.csv"
    file.write_text(text)
    done = simulate(*SMALL[:2], "--workload", str(file), "-o", "json")
    if words is None:
        assert done.exit_code == 0, done.output
    else:
        assert done.exit_code == 2
        assert f"{file}" in done.output
        assert words in done.output


def test_openb_pods_keep_their_times(tmp_path: Path) -> None:
    file = tmp_path / "pods.csv"
    file.write_text(
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n"
        "p0,1000,1024,1,500,V100,LS,Running,1000,1600,1100\n"
        "p1,1000,1024,2,1000,,BE,Running,1050,1150,\n"
        "p2,1000,1024,1,1000,,BE,Pending,1060,,\n"
    )
    told = answer(*SMALL[:2], "--workload", str(file))
    run = told["runs"][0]
    assert (told["about"]["jobs"], told["about"]["span_s"], run["makespan_s"]) == (2, 50.0, 500.0)
    assert list(run["wait_s"]["by_class"]) == ["production", "best-effort"]
    assert any("1 pods without a duration" in note for note in told["about"]["notes"])
    assert any("1 pods name models" in note for note in told["about"]["notes"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("tenant: hospital", "tenant: hospitel"), ":8: jobs[0].tenant: expected one of"),
        (("device: H100 SXM, count: 1", "device: H1000, count: 1"), "jobs[0].asks[0].device: expected a model"),
        (
            ("{lognormal: {median: 20m, sigma: 1.0}, most: 4h}", "{most: 4h}"),
            "expected one of lognormal, pareto, fixed",
        ),
        (("per_day: 120", "per_day: -1"), "jobs[0].per_day: expected jobs a day"),
        (("service_time_ms: 20", "service_time_ms: 2000"), "services[0].service_time_ms: expected at most slo_p99_ms"),
        (("mean_per_s: 120, ", ""), "services[0].requests: expected either trace"),
        (("name: sweeps", "name: imaging"), "jobs[2].name: 'imaging' is the name of jobs[0]"),
    ],
)
def test_yaml_workloads_are_refused_line_by_line(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    text = shipped_config("workloads/small.yaml").read_text()
    assert change[0] in text
    file = tmp_path / "work.yaml"
    file.write_text(text.replace(*change))
    done = simulate(*SMALL[:2], "--workload", str(file))
    assert done.exit_code == 2
    assert f"{file}:" in done.output
    assert words in done.output


def test_cluster_files_are_refused_line_by_line(tmp_path: Path) -> None:
    text = shipped_config("dongyang-10k.yaml").read_text()
    for name in ("sites.yaml", "priority_classes.yaml", "tenants.yaml", "hardware_catalogue.csv", "policy.yaml"):
        (tmp_path / name).write_text(shipped_config(name).read_text())
    file = tmp_path / "cluster.yaml"
    file.write_text(text.replace("model: H20\n", "model: H2O\n").replace("busy: 150", "busy: 150, idle: 200"))
    done = simulate("--cluster", str(file), *SMALL[2:])
    assert done.exit_code == 2
    assert "nodes[3].model: expected a model of the hardware catalogue; got 'H2O'" in done.output
    assert "nodes[8].power.idle: expected at most busy, which is 150; got 200" in done.output


def test_the_shipped_ones_are_good() -> None:
    cluster = load_cluster(shipped_config("dongyang-10k.yaml"))
    assert sum(group.nodes.count for group in cluster.groups) == 1250
    assert sum(group.devices for group in cluster.groups) == 10_000
    assert len(load_workload(shipped_config("workloads/thirty-days.yaml"), cluster).streams) == 13
