"""Each verb against a served API: what it prints in a pipe, what as JSON, and its exit code."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.fake_control import job_view, node_view, tenant_view, worker_view

if TYPE_CHECKING:
    from tests.unit.scheduler.cli.conftest import Shell


def rows(text: str) -> list[list[str]]:
    """Cells of a plain table: columns are two or more spaces apart."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()]


# ---- queue, show, why --------------------------------------------------------------------------------------------


def test_queue_says_where_jobs_run_and_why_the_others_wait(shell: Shell) -> None:
    now_s = time.time()
    shell.control.put(
        job_view(
            "1",
            name="train",
            kind="training",
            state="running",
            reason=None,
            workers_min=2,
            workers_max=2,
            submitted_s=now_s - 3700,
            workers=[
                worker_view(0, "h100-0", [0, 1], simulated=True),
                worker_view(1, "h100-0", [2, 3], simulated=True),
            ],
        )
    )
    shell.control.put(
        job_view(
            "2",
            name="wait",
            submitted_s=now_s - 130,
            est_start_s=now_s + 765,
            reason={"kind": "no_fit", "text": "0 of 1 workers fit (2 nodes: 0 of 8 devices free)"},
        )
    )
    shell.control.put(job_view("3", state="succeeded", reason=None))
    header, first, second = rows(shell.out("queue"))
    assert header == ["ID", "NAME", "TENANT", "CLASS", "KIND", "STATE", "WORKERS", "ON", "REASON", "EST-START", "AGE"]
    assert first == [
        *("1", "train", "film-studio", "normal", "training", "running", "2/2"),
        *("h100-0:0-3 (simulated)", "-", "-", "1h01m"),
    ]
    assert second == [
        *("2", "wait", "film-studio", "normal", "batch", "pending", "0/1", "-"),
        *("0 of 1 workers fit (2 nodes: 0 of 8 devices free)", "in 12m", "2m"),
    ]


@pytest.mark.parametrize(
    ("argv", "ids"),
    [
        ([], ["1", "2"]),
        (["-a"], ["1", "2", "4", "3"]),
        (["--state", "failed"], ["3"]),
        (["--state", "failed", "--state", "running"], ["2", "3"]),
        (["--tenant", "nobody"], []),
        (["-a", "--limit", "2"], ["1", "2"]),
    ],
)
def test_queue_shows_what_is_asked_for(shell: Shell, argv: list[str], ids: list[str]) -> None:
    for job_id, state in (("2", "running"), ("3", "failed"), ("4", "succeeded")):
        shell.control.put(job_view(job_id, state=state, reason=None))
    listed = [row[0] for row in rows(shell.out("queue", *argv))[1:]]
    assert listed[: len(ids)] == ids
    assert len(listed) == len(ids) + ("--limit" in argv)  # and a line that says it is cut


def test_a_job_cannot_steer_the_terminal(shell: Shell) -> None:
    shell.control.put(job_view("1", name="\x1b[2J\x1b]0;x\x07evil\nline\u202e"))
    text = shell.out("queue") + shell.out("show", "1") + shell.out("why", "1")
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert len(shell.out("queue").splitlines()) == 2


def test_columns_of_chinese_names_stay_aligned(shell: Shell) -> None:
    from scheduler.cli.layout import width_of

    shell.control.put(job_view("1", name="磁材仿真"))
    shell.control.put(job_view("2", name="plain"))
    lines = shell.out("queue").splitlines()
    starts = {width_of(line[: line.index("film-studio")]) for line in lines[1:]}
    assert len(starts) == 1


def test_show_tells_all(shell: Shell) -> None:
    shell.control.put(
        job_view(
            "1",
            state="failed",
            reason=None,
            cause="exit code",
            detail="worker 0 on edge-0 ended with 3",
            attempt=2,
            failures=1,
            workers=[worker_view(phase="exited", exit_code=3)],
        )
    )
    text = shell.out("show", "last")
    assert "reason:     exit code: worker 0 on edge-0 ended with 3" in text
    assert "attempt:    2 (1 failed)" in text
    assert ["0", "1", "edge-0", "0", "exited", "3", "-"] in rows(text)
    assert "submitted" in text


def test_show_says_what_its_runs_used(shell: Shell) -> None:
    run = {
        "attempt": 1,
        "worker": 0,
        "node": "edge-0",
        "devices": [0, 1, 2],
        "share_milli": 0,
        "simulated": False,
        "from_s": 100.0,
        "to_s": 112.5,
        "seconds": 12.5,
        "device_seconds": 37.5,
        "end": "seen",
        "cause": "preempted",
    }
    share = run | {"attempt": 2, "devices": [3], "share_milli": 250, "simulated": True, "device_seconds": 3.125}
    shell.control.used["1"] = [run, share | {"end": "unseen", "cause": "node lost"}]
    text = shell.out("show", "1")
    header = ["WORKER", "ATTEMPT", "NODE", "DEVICES", "SECONDS", "DEVICE-S", "END", "CAUSE"]
    assert header in rows(text)
    assert ["0", "1", "edge-0", "0-2", "12.5", "37.5", "seen", "preempted"] in rows(text)
    assert ["0", "2", "edge-0 (simulated)", "3 (0.25 of it)", "12.5", "3.1", "unseen", "node lost"] in rows(text)
    assert json.loads(shell.out("show", "1", "-o", "json"))["usage"][0] == run


def test_show_says_what_its_runs_made_their_devices_do(shell: Shell) -> None:
    use = {
        "devices": 3,
        "metered_s": 95.0,
        "joules": 123_456.75,
        "joules_at_least": False,
        "mean_watts": 1_299.54,
        "peak_memory_bytes": 64.5 * 2**30,
        "mean_utilisation_percent": 93.25,
        "simulated": False,
    }
    base = {"attempt": 1, "worker": 0, "node": "edge-0", "devices": [0, 1, 2], "share_milli": 0, "simulated": False}
    base |= {"from_s": 100.0, "to_s": 200.0, "seconds": 100.0, "device_seconds": 300.0, "end": "seen", "cause": "x"}
    did = {"workload": "gemm", "precision": "bf16", "on": "accelerator", "gflops": 1_853_000.0}
    whole = base | {"use": use, "unmetered_s": 5.0, "achieved": [did | {"devices": 3, "verified": 3}]}
    gap = use | {"metered_s": 40.0, "joules_at_least": True, "simulated": True}
    unread = use | {"joules": None, "mean_watts": None, "peak_memory_bytes": None, "mean_utilisation_percent": None}
    cpu = did | {"on": "cpu", "precision": "fp32", "gflops": None, "devices": 2, "verified": 0}
    shell.control.used["1"] = [
        whole,
        base | {"attempt": 2, "use": gap, "unmetered_s": 60.0, "achieved": []},
        base | {"attempt": 3, "use": unread, "unmetered_s": 100.0, "achieved": [cpu]},
        base | {"attempt": 4, "use": None, "unmetered_s": 100.0, "achieved": []},
        base | {"attempt": 5, "use": use | {"metered_s": 100.6}, "unmetered_s": 0.0, "achieved": []},
    ]
    found = rows(shell.out("show", "1"))
    assert ["0", "1", "123,456.8", "1299.5", "64.5 GiB", "93.2%", "95.0 of 100.0 s", "measured"] in found
    restarted = "40.0 of 100.0 s (the agent was restarted, or its readings were missing)"
    assert ["0", "2", ">= 123,456.8", "1299.5", "64.5 GiB", "93.2%", restarted, "simulated"] in found
    assert ["0", "3", "not read", "not read", "not read", "not read", "energy not read", "measured"] in found
    assert not any(row[:2] == ["0", "4"] and "measured" in row for row in found)
    assert ["0", "5", "123,456.8", "1299.5", "64.5 GiB", "93.2%", "100.0 of 100.0 s", "measured"] in found
    assert ["0", "1", "gemm", "bf16", "1.853", "measured", "3/3"] in found
    assert ["0", "3", "gemm", "fp32", "not run", "measured on a CPU: counts towards no goal", "0/2"] in found
    assert json.loads(shell.out("show", "1", "-o", "json"))["usage"][0] == whole


def test_show_says_that_no_energy_was_measured_and_why(shell: Shell) -> None:
    base = {"attempt": 1, "worker": 0, "node": "edge-0", "devices": [0], "share_milli": 0, "simulated": False}
    base |= {"from_s": 0.0, "to_s": 9.0, "seconds": 9.0, "device_seconds": 9.0, "end": "seen", "cause": "x"}
    base |= {"use": None, "unmetered_s": 9.0, "achieved": [], "no_energy": "CPU devices have no power meter"}
    shell.control.used["1"] = [base, base | {"worker": 1}]
    assert ["energy:", "not measured (CPU devices have no power meter)"] in rows(shell.out("show", "1"))
    assert json.loads(shell.out("show", "1", "-o", "json"))["usage"][0]["no_energy"] == base["no_energy"]
    use = {"joules": 5.0, "joules_at_least": False, "mean_watts": 1.0, "peak_memory_bytes": None}
    use |= {"mean_utilisation_percent": None, "metered_s": 9.0, "simulated": False}
    shell.control.used["1"].append(base | {"worker": 2, "use": use, "no_energy": None})
    assert "energy:" not in shell.out("show", "1")


def test_why_prints_the_services_words(shell: Shell) -> None:
    assert shell.out("why") == "job 1 (a-job) is pending\n  1 node: 0 of 2 devices free\n"


def test_a_share_that_nothing_holds_a_job_to_is_shown_as_advisory(shell: Shell) -> None:
    for job_id, by in (("1", "advisory"), ("2", "mps"), ("3", None)):
        worker = worker_view(0, "edge-0", [3], share_milli=250, share_by=by)
        shell.control.put(job_view(job_id, state="running", workers=[worker]))
    shown = {job_id: shell.out("show", job_id) for job_id in ("1", "2", "3")}
    assert "3 (0.25 of it, advisory)" in shown["1"]
    assert "3 (0.25 of it)" in shown["2"]
    assert "3 (0.25 of it)" in shown["3"]


# ---- nodes -------------------------------------------------------------------------------------------------------


def simulated_node(**more: Any) -> dict[str, Any]:
    node = node_view("h100-0", devices=8, simulated=True, **more)
    for index in (0, 1):
        node["devices"][index] |= {"used_milli": 1000, "jobs": ["7"]}
    node["devices"][2] |= {"used_milli": 250, "jobs": ["8"]}
    return node


def test_nodes_says_what_stands_there_and_never_passes_off_a_simulated_card(shell: Shell) -> None:
    shell.control.node_views["h100-0"] = simulated_node(notes=["runs as one user"])
    header, real, simulated = rows(shell.out("nodes"))
    assert header == ["NODE", "SITE", "STATE", "DEVICES", "USED", "CPUS-FREE", "MEMORY-FREE", "JOBS", "REASON"]
    assert real == ["edge-0", "dongyang-subnode", "ready", "2 x H100 SXM", "0/2", "12/16", "100 GiB", "-", "-"]
    assert simulated[3:5] == ["8 x H100 SXM (simulated)", "2.25/8"]
    assert simulated[7:] == ["7 8", "-"]
    assert ["h100-0", "note", "runs as one user", "-", "-"] in rows(shell.out("nodes", "--reasons"))


def test_what_health_found_is_told_with_what_to_do_and_what_is_not_done(shell: Shell) -> None:
    found = {
        "device": 3,
        "uuid": "GPU-3",
        "rule": "fallen-off-bus",
        "use": "cordoned",
        "jobs": "move",
        "lifts": "reset",
        "reason": "XID 79",
        "advice": "restart the node",
        "since_s": 0.0,
        "undone": "",
    }
    budget = {**found, "device": None, "uuid": None, "rule": "too-few-devices", "undone": "the budget is spent"}
    shell.control.node_views["h100-0"] = simulated_node(health=[found, budget])
    text = shell.out("nodes", "--reasons")
    told = [row[:4] for row in rows(text) if row[0] == "h100-0"]
    assert told[0] == ["h100-0", "cordoned", "device 3: XID 79; restart the node (fallen-off-bus)", "health"]
    assert told[1][1] == "found"
    assert "nothing is done: the budget is spent" in " ".join(text.split())
    assert "device 3: XID 79" in " ".join(shell.out("nodes", "h100-0").split())


def test_one_node_shows_readings_and_why_one_is_missing(shell: Shell) -> None:
    readings = {
        "power_watts": {"value": 412.3, "unit": "watts", "at_s": 1.0, "quality": "simulated"},
        "memory_used_bytes": {"value": 2**30, "unit": "bytes", "at_s": 1.0, "quality": "measured"},
        "clock_megahertz": {"unavailable": "not supported by this device"},
    }
    shell.control.node_views["h100-0"] = simulated_node(readings={"h100-0-0": readings})
    text = shell.out("nodes", "h100-0")
    assert "node:    h100-0 (simulated)" in text
    assert "shares:  advisory: nothing holds a job to its share of a card" in text
    assert "power 412.3 watts (simulated); memory used 1 GiB; no clock: not supported by this device" in text
    assert shell.run("nodes", "nowhere").exit_code == 4


def test_reservations_are_made_listed_and_cancelled(shell: Shell) -> None:
    said = shell.out("reserve", "fans", "--nodes", "edge-0", "--start", "in 2h", "--for", "90m", "--reason", "new fans")
    assert said.startswith("reserved edge-0 for fans: ")
    assert said.endswith("\n  for jobs of operators alone\n")
    (made,) = shell.control.reserved.values()
    assert made["end_s"] - made["start_s"] == 5400
    assert abs(made["start_s"] - time.time() - 7200) < 60
    night = (
        "--count",
        "1",
        "--start",
        "2036-12-01T02:00+08:00",
        "--for",
        "3600",
        "--every",
        "day",
        "--reason",
        "bench",
        "--tenant",
        "film-studio",
        "--tenant",
        "hospital",
    )
    assert shell.out("reserve", "night", *night).endswith(", again every 1d0h\n  for jobs of film-studio, hospital\n")
    assert shell.control.reserved["night"]["start_s"] == 2_111_680_800
    header, first, second = rows(shell.out("reserve", "list"))
    assert header == ["NAME", "STATE", "START", "END", "EVERY", "NODES", "TENANTS", "JOBS", "BY", "REASON"]
    assert (first[0], first[1], first[6], first[-1]) == ("fans", "upcoming", "operators alone", "new fans")
    assert (second[0], *second[4:7]) == ("night", "1d0h", "edge-0", "film-studio, hospital")
    assert (
        shell.run("reserve", "fans", "--nodes", "edge-0", "--start", "now", "--for", "1h", "--reason", "x").exit_code
        == 5
    )
    assert shell.run("reserve", "cancel", "fans").exit_code == 0
    assert shell.run("reserve", "cancel", "fans").exit_code == 4


@pytest.mark.parametrize(
    ("nodes", "waiting", "said"),
    [
        ("edge-0", [], "edge-0 takes any job again\n"),
        (
            "edge-0",
            ["7"],
            "edge-0 takes any job again\n  job 7 still waits for it: cancel it, or reserve anew under that name\n",
        ),
        (
            "edge-0,edge-1",
            ["7", "9"],
            "edge-0, edge-1 take any job again\n"
            "  jobs 7, 9 still wait for it: cancel them, or reserve anew under that name\n",
        ),
    ],
)
def test_cancelling_a_reservation_names_the_jobs_that_wait_for_it(
    shell: Shell, nodes: str, waiting: list[str], said: str
) -> None:
    """A job that runs was once said to wait."""
    shell.control.node_views["edge-1"] = node_view("edge-1")
    shell.out("reserve", "fans", "--nodes", nodes, "--start", "now", "--for", "1h", "--reason", "x")
    shell.control.reserved["fans"] |= {"jobs": ["3", *waiting], "waiting": waiting}
    assert shell.out("reserve", "cancel", "fans") == f"reservation fans is cancelled: {said}"


def test_what_may_be_in_the_way_of_a_reservation_is_said(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    make = shell.control.reserve
    monkeypatch.setattr(
        shell.control,
        "reserve",
        lambda wanted, by: make(wanted, by) | {"running_past_start": ["7", "9"], "waiting": ["4"]},
    )
    said = shell.out("reserve", "fans", "--nodes", "edge-0", "--start", "in 2h", "--for", "1h", "--reason", "x")
    assert "jobs 7, 9 may still run there when it starts: their time limits allow it" in said
    assert "job 4 names it already, and may run there" in said


@pytest.mark.parametrize(
    ("start", "lasts", "said"),
    [
        ("2026-12-01T02:00", "1h", '--start: expected a time with its zone such as "2026-12-01T02:00+08:00", "in 2h"'),
        ("in 2 weeks", "1h", "--start in: expected a duration"),
        ("now", "long", "--for: expected a duration: seconds (90) or text such as"),
    ],
)
def test_times_of_a_reservation_that_are_none(shell: Shell, start: str, lasts: str, said: str) -> None:
    argv = ("reserve", "x", "--nodes", "edge-0", "--start", start, "--for", lasts, "--reason", "r")
    result = shell.run(*argv)
    assert result.exit_code == 2
    assert said in result.stderr


def test_nodes_show_their_reservations_labels_and_partitions(shell: Shell) -> None:
    night = {"name": "night", "start_s": 2e9, "end_s": 2e9 + 3600, "reason": "bench"}
    view = node_view("edge-0", simulated=True, rack="r1", labels={"tier": "gold"}, reservations=[night])
    view["devices"][1] |= {"mig_profile": "1g.10gb", "labels": {"nvlink": "yes"}}
    shell.control.node_views |= {"edge-0": view, "edge-1": node_view("edge-1")}
    header, row, other = rows(shell.out("nodes"))
    assert (header[2], row[2], other[2]) == ("RACK", "r1", "-")
    assert row[4] == "1 x H100 SXM (simulated), 1 x MIG 1g.10gb of H100 SXM (simulated)"
    assert row[-1].startswith("reserved for night, 2033-05-1")
    assert row[-1].endswith(": bench")
    one = shell.out("nodes", "edge-0")
    assert "rack:    r1" in one
    assert "labels:  tier=gold" in one
    (header, *devices) = rows(one)[-3:]
    assert [line[header.index("LABELS")] for line in devices] == ["-", "nvlink=yes"]
    assert "LABELS" not in shell.out("nodes", "edge-1")
    assert rows(shell.out("nodes", "--reasons"))[1][:2] == ["edge-0", "reserved"]


def test_a_service_is_scaled_within_its_bounds(shell: Shell) -> None:
    shell.control.put(job_view("2", name="svc", kind="inference", state="running", workers_min=0, workers_max=4))
    shell.control.views["2"]["workers"] = [worker_view(phase="ready")]
    assert shell.out("scale", "2", "--replicas", "3") == "job 2 (svc) is to have 3: 1/3 placed now\n"
    assert rows(shell.out("queue"))[2][6] == "1/3"
    assert "scaled to:" in shell.out("show", "2")
    assert shell.run("scale", "2", "--replicas", "5").exit_code == 2
    assert shell.run("scale", "2", "--replicas", "-1").exit_code == 2
    assert shell.run("scale", "1", "--replicas", "1").exit_code == 5


def test_show_says_where_and_when(shell: Shell) -> None:
    near = {"within": "rack", "spread": "node", "one_per": None, "apart_from": ["db"]}
    shell.control.put(job_view("1", constraints=near, reservation="night", deadline_s=2e9, preemptions=2))
    text = shell.out("show", "1")
    assert re.search(r"placed: +within one rack, spread over nodes, on no node with db\n", text)
    assert re.search(r"reservation: +night\n", text)
    assert re.search(r"deadline: +2033-05-1", text)
    assert re.search(r"preempted: +2 times\n", text)


# ---- submit ------------------------------------------------------------------------------------------------------


FLAGS = ("--name", "x", "--time-limit", "60", "--", "true", "-q", "--wait")


def test_submit_from_flags(shell: Shell) -> None:
    assert shell.out("submit", *FLAGS) == "submitted job 2 (x)\n"
    assert shell.control.specs["2"].command == ("true", "-q", "--wait")
    assert shell.out("submit", "-q", *FLAGS) == "3\n"


def test_submit_from_a_file_with_flags_laid_over_it(shell: Shell) -> None:
    file = shell.directory / "job.yaml"
    file.write_text("name: from-file\nkind: training\ntime_limit: 2h\ncommand: [python, train.py]\nworkers: 2\n")
    assert shell.out("submit", "job.yaml") == "submitted job 2 (from-file)\n"
    assert shell.out("submit", str(file), "--name", "over", "--workers", "4") == "submitted job 3 (over)\n"
    spec = shell.control.specs["3"]
    assert (spec.name, spec.workers_min, spec.command) == ("over", 4, ("python", "train.py"))


@pytest.mark.parametrize(
    ("text", "argv", "said"),
    [
        ("name: x\ntime_limt: 60\ncommand: [a]\nkind: batch\n", ["job.yaml"], "job.yaml:2: time_limt"),
        ("name: x\nkind: batch\ncommand: [a]\n", ["job.yaml"], "time_limit"),
        ("name: [\n", ["job.yaml"], "job.yaml"),
        (None, ["job.yaml"], "job.yaml"),
        (None, [], "what is to run?"),
        (None, ["--name", "x"], "what is to run?"),
        (None, ["--time-limit", "60", "--env", "NO_VALUE", "--", "a"], "NAME=VALUE"),
        (None, ["--time-limit", "60", "--workers", "0", "--", "a"], "workers"),
        (None, ["--time-limit", "60", "--"], "a command is expected after --"),
        (None, ["--no-such-flag"], "no-such-flag"),
        (None, ["-q", "-o", "json", *FLAGS], "-q prints"),
    ],
)
def test_bad_submissions_never_reach_the_service(shell: Shell, text: str | None, argv: list[str], said: str) -> None:
    if text is not None:
        (shell.directory / "job.yaml").write_text(text)
    result = shell.run("submit", *argv)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert list(shell.control.views) == ["1"]


def test_submit_after_last_names_the_job_that_is_last_now(shell: Shell) -> None:
    shell.out("submit", "--after", "last", *FLAGS)
    assert shell.control.specs["2"].after == ("1",)


def test_dry_run_says_where_or_why_not_and_submits_nothing(shell: Shell) -> None:
    assert shell.out("submit", "--dry-run", "--workers", "2", *FLAGS) == (
        "would start now:\n  worker 0 on edge-0:0\n  worker 1 on edge-0:1\n"
    )
    assert shell.out("submit", "--dry-run", "--workers", "3", *FLAGS) == (
        "would wait: 2 of 3 workers fit (1 node: 0 devices free)\n  could start in 10m, by time limits\n"
        "  try: ask for 2 workers\n"
    )
    assert json.loads(shell.out("submit", "--dry-run", "-o", "json", *FLAGS))["would_start"] is True
    assert list(shell.control.views) == ["1"]


@pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 1)])
def test_submit_and_wait(shell: Shell, monkeypatch: pytest.MonkeyPatch, state: str, code: int) -> None:
    submit = shell.control.submit

    def ends_at_once(*args: Any) -> dict[str, Any]:
        answer = submit(*args)
        shell.control.set_state(answer["jobs"][0]["id"], state)
        return answer

    monkeypatch.setattr(shell.control, "submit", ends_at_once)
    result = shell.run("submit", "--wait", *FLAGS)
    assert result.exit_code == code
    assert result.stdout.endswith(f"job 2 (x): {state}\n")


# ---- schedules ---------------------------------------------------------------------------------------------------

NIGHTLY = ("submit", "--name", "nightly", "--schedule", "0 2 * * *", *FLAGS[2:5], "true")


def test_a_recurring_job_is_scheduled_listed_shown_paused_and_deleted(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    said = shell.out(*NIGHTLY)
    assert said == "scheduled nightly: 0 2 * * * in UTC; next 2027-01-15 16:00:00, this machine's time\n"
    header, row = rows(shell.out("schedules"))
    assert header == ["NAME", "TENANT", "STATE", "CRON", "ZONE", "NEXT", "LAST", "RUNS", "LEFT-OUT", "NOTE"]
    assert row == [*("nightly", "site", "active", "0 2 * * *", "UTC", "2027-01-15 16:00:00", "-", "0", "-", "-")]
    view = shell.control.scheduled["site", "nightly"]
    view |= {"runs": 2, "last_job": "7", "last_s": 1_799_913_600.0, "last_is_live": True}
    view |= {"skips": 1, "skipped_s": 1_799_913_600.0, "skipped_why": "job 7, the last one, had not ended"}
    assert "job 7 (live)" in shell.out("schedules", "list")
    shown = shell.out("schedules", "show", "nightly")
    for line in (
        r"times: +0 2 \* \* \* in UTC; a missed time is made up for, once\n",
        r"last run: +job 7 for 2027-01-14 16:00:00 \(live\)\n",
        r"last of these: +2027-01-14 16:00:00 left out: job 7, the last one, had not ended\n",
        r"next: +2027-01-15 16:00:00\n +2027-01-16 16:00:00\n",
        r"command: +true\n",
    ):
        assert re.search(line, shown), shown
    assert shell.out("schedules", "pause", "nightly", "--reason", "new fans") == (
        "schedule nightly of tenant site is paused\n"
    )
    assert "paused since 2025-06-15 23:06:40 by olga: new fans" in shell.out("schedules")
    assert "if resumed:" in shell.out("schedules", "show", "site/nightly")
    assert shell.out("schedules", "resume", "site/nightly") == (
        "schedule nightly of tenant site is resumed; next 2027-01-15 16:00:00\n"
    )
    assert shell.run("schedules", "resume", "nightly").exit_code == 5
    assert shell.run("schedules", "show", "other/nightly").exit_code == 4
    assert shell.run("schedules", "pause", "nightly").exit_code == 2
    assert shell.run("schedules", "pause", "nightly", "--reason", "r", who="viewer").exit_code == 3
    assert shell.out("schedules", "delete", "nightly") == (
        "schedule nightly of tenant site is deleted\n  job 7, its last one, goes on (`suanli cancel 7` ends it)\n"
    )
    assert shell.run("schedules", "delete", "nightly").exit_code == 4
    assert len(shell.out("schedules").splitlines()) == 1


def test_a_recurring_job_is_not_waited_for(shell: Shell) -> None:
    refused = shell.run("submit", "--wait", *NIGHTLY[1:])
    assert (refused.exit_code, "leave out --wait" in refused.stderr) == (2, True)
    assert shell.out("submit", "-q", *NIGHTLY[1:]) == "nightly\n"
    again = shell.run(*NIGHTLY)
    assert (again.exit_code, again.stderr) == (5, "suanli: tenant site has a schedule nightly already\n")


# ---- wait, cancel ------------------------------------------------------------------------------------------------


def test_wait_tells_by_its_code_whether_all_succeeded(shell: Shell) -> None:
    for job_id, state in (("1", "succeeded"), ("2", "succeeded"), ("3", "failed")):
        shell.control.put(job_view(job_id, state=state, reason=None, cause="exit code" if state == "failed" else None))
    assert shell.out("wait", "1", "2") == "job 1 (a-job): succeeded\njob 2 (a-job): succeeded\n"
    assert shell.run("wait", "1", "3").exit_code == 1
    assert shell.run("wait").exit_code == 1  # last is 3
    assert shell.run("wait", "9").exit_code == 4


def test_wait_gives_up_in_time(shell: Shell) -> None:
    result = shell.run("wait", "1", "--timeout", "0.1")
    assert result.exit_code == 7  # not 1: nothing failed
    assert result.stdout == "job 1 (a-job): pending: not looked at yet (still so after 0.1 s)\n"


def test_cancel(shell: Shell) -> None:
    assert shell.out("cancel", "1", "--reason", "a mistake") == ("job 1 (a-job): cancelled: by olga: a mistake\n")
    again = shell.run("cancel", "1")
    assert (again.exit_code, again.stderr) == (5, "suanli: job 1 has ended already (cancelled)\n")


def test_cancel_tries_every_id_and_says_the_worst(shell: Shell) -> None:
    other = shell.out("submit", "-q", "--name", "x", "--kind", "batch", "--time-limit", "60", "--", "true").strip()
    shell.out("cancel", "1")
    result = shell.run("cancel", "999", "1", other)
    assert result.exit_code == 5
    assert f"job {other}" in result.stdout
    assert "999" in result.stderr
    assert "job 1 has ended already" in result.stderr


def test_an_array_is_cancelled_by_one_request_and_one_line(shell: Shell) -> None:
    for index in range(1200):
        shell.control.put(job_view(f"18.{index}", workers=[worker_view()] if index < 2 else []))
    shell.control.set_state("18.9", "succeeded")
    shell.control.put(job_view("19.0", state="running", workers=[worker_view()]))
    assert shell.out("cancel", "18", "last", "1", "--reason", "r") == (
        "job 18: 1,197 tasks cancelled, 2 are being stopped, 1 had ended before\n"
        "job 19: 1 is being stopped\n"
        "job 1 (a-job): cancelled: by olga: r\n"
    )
    assert shell.control.cancels == [["18", "19", "1"]]


def test_cancel_as_json_is_the_whole_answer(shell: Shell) -> None:
    shell.control.put(job_view("7.0"))
    shell.control.put(job_view("7.1", workers=[worker_view()]))
    done = shell.run("cancel", "7", "99", "7.1", "-o", "json")
    told = json.loads(done.stdout)
    assert done.exit_code == 4
    assert told["schema"] == "suanli/cancel/1"
    assert told["failed"] == 1
    assert told["errors"] == ["there is no job 99"]
    assert [(row["id"], row["tasks"], row["cancelled"], row["stopping"]) for row in told["jobs"]] == [
        ("7", 2, 1, 1),
        ("99", None, 0, 0),
        ("7.1", None, 0, 1),
    ]


def test_hold_release_and_requeue(shell: Shell) -> None:
    assert shell.out("hold", "1", "--reason", "no data yet") == "job 1 (a-job): held\n"
    assert "held by olga: no data yet" in shell.out("queue")
    assert re.search(r"held: +since .* by the operator olga: no data yet\n", shell.out("show", "1"))
    refused = shell.run("release", "1", who="tenant")
    assert (refused.exit_code, refused.stderr) == (3, "suanli: job 1 is held by an operator\n")
    assert shell.out("release", "last") == "job 1 (a-job): released\n"
    again = shell.run("release", "1", "99")
    assert (again.exit_code, again.stderr) == (5, "suanli: job 1 is not held\nsuanli: there is no job 99\n")
    shell.control.set_state("1", "running")
    assert shell.run("hold", "1", "--reason", "r").exit_code == 5
    assert shell.out("requeue", "1", "--hold", "--reason", "r") == (
        "job 1 (a-job): asked to save and go, and to wait again (held)\n"
    )
    assert shell.run("hold", "1").exit_code == shell.run("requeue", "1").exit_code == 2  # why?
    assert shell.run("hold", "1", "--reason", "r", who="viewer").exit_code == 3


def test_requeueing_what_has_ended_says_the_new_id(shell: Shell) -> None:
    shell.out("submit", *FLAGS)
    shell.control.set_state("2", "failed")
    told = json.loads(shell.out("requeue", "2", "--reason", "r", "-o", "json"))
    assert (told["schema"], told["jobs"][0]["new"]) == ("suanli/requeue/1", "3")
    assert shell.out("requeue", "2", "--reason", "r").endswith("has ended; it is submitted anew as job 4\n")


def test_a_listing_that_is_cut_says_so_in_its_last_line(shell: Shell) -> None:
    for number in range(2, 6):
        shell.control.put(job_view(str(number)))
    assert shell.out("queue", "--limit", "3").splitlines()[4:] == [
        "3 of 5 jobs shown; --limit shows more, up to 10,000"
    ]
    assert len(shell.out("queue", "--limit", "5").splitlines()) == 6
    shell.control.set_state("5", "succeeded")
    assert shell.out("queue", "-a", "--limit", "4").splitlines()[-1].startswith("the first 4 jobs shown; --limit")
    assert json.loads(shell.out("queue", "--limit", "3", "-o", "json"))["total"] == 4


@pytest.mark.parametrize(
    ("flags", "nearest"),
    [
        (("--tenant", "hospitl"), "hospital"),
        (("--tenant", "hospital", "--max-priority-class", "urgent-ish"), "emergency"),
        (("--tenant", "film-studio", "--max-priority-class", "emergency"), "production"),
    ],
)
def test_a_token_for_a_name_that_is_not_there_is_refused(shell: Shell, flags: tuple[str, ...], nearest: str) -> None:
    result = shell.run("token", "create", "t", *flags)
    assert result.exit_code == 2
    assert nearest in result.stderr


# ---- logs --------------------------------------------------------------------------------------------------------


def test_the_log_of_one_worker_is_printed_as_it_is(shell: Shell) -> None:
    shell.control.put(job_view("1", state="running", reason=None, attempt=1, workers=[worker_view()]))
    shell.control.write_log("1", b"a\r50%\xff\nno newline")
    shell.control.write_log("1", b"bad\n", stream="stderr")
    assert shell.run("logs").stdout_bytes == b"a\r50%\xff\nno newline"
    assert shell.out("logs", "1", "--stderr") == "bad\n"


def test_logs_of_several_workers_carry_their_rank(shell: Shell) -> None:
    gang = [worker_view(0), worker_view(1, devices=(1,))]
    view = job_view("1", state="running", reason=None, attempt=1, workers_min=2, workers_max=2, workers=gang)
    shell.control.put(view)
    shell.control.write_log("1", b"zero\nmore\n", worker=0)
    shell.control.write_log("1", b"one", worker=1)
    assert shell.out("logs", "1") == "[0] zero\n[1] one\n[0] more\n"
    assert shell.out("logs", "1", "--worker", "1") == "one"
    answer = json.loads(shell.out("logs", "1", "-o", "json"))
    assert [(part["worker"], part["text"]) for part in answer["logs"]] == [(0, "zero\nmore\n"), (1, "one")]


def test_long_logs_of_several_workers_are_merged_line_by_line_and_whole(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over many chunks of what the API gives at a time, with lines longer than one."""
    from scheduler.cli import client, logs

    monkeypatch.setattr(client, "LOG_CHUNK_BYTES", 100)
    monkeypatch.setattr(logs, "LINES_AT_ONCE", 7)
    gang = [worker_view(rank, devices=(rank,)) for rank in range(3)]
    shell.control.put(job_view("1", state="running", reason=None, attempt=1, workers_max=3, workers=gang))
    written = [[f"step {number} of {rank} " + "x" * (number % 5 * 60) for number in range(40)] for rank in range(3)]
    for rank, lines in enumerate(written):
        shell.control.write_log("1", ("\n".join(lines[: 40 - rank]) + "\n").encode(), worker=rank)
    shown = shell.out("logs", "1").splitlines()
    assert shown[:6] == [f"[{rank}] {written[rank][number]}" for number in range(2) for rank in range(3)]
    for rank, lines in enumerate(written):
        assert [line[4:] for line in shown if line.startswith(f"[{rank}] ")] == lines[: 40 - rank]
    assert len(shown) == 40 + 39 + 38


def test_what_of_a_log_was_not_kept_is_said_where_it_stood(shell: Shell) -> None:
    gang = [worker_view(0), worker_view(1, devices=(1,))]
    shell.control.put(job_view("1", state="running", reason=None, attempt=1, workers_max=2, workers=gang))
    shell.control.write_log("1", b"begun\nhalf a li", worker=0)
    shell.control.write_log("1", b"fine\n", worker=1)
    shell.control.cut_log("1", after=15, lost=3 * 2**20, rest=b"ne\nend\n")
    assert shell.out("logs", "1", "--worker", "0") == ("begun\nhalf a li\n[3 MiB of this log were not kept]\nne\nend\n")
    assert shell.out("logs", "1").splitlines() == [
        "[0] begun",
        "[1] fine",
        "[0] half a li",
        "[0] [3 MiB of this log were not kept]",
        "[0] ne",
        "[0] end",
    ]


def test_an_earlier_attempt_has_its_own_log(shell: Shell) -> None:
    shell.control.put(job_view("1", state="succeeded", reason=None, attempt=2))
    shell.control.write_log("1", b"first\n", attempt=1)
    shell.control.write_log("1", b"second\n", attempt=2)
    assert shell.out("logs", "1") == "second\n"
    assert shell.out("logs", "1", "--attempt", "1") == "first\n"


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["1"], 4, "has not started and has no log yet: not looked at yet"),
        (["2", "--worker", "5"], 4, "has no worker 5"),
        (["2", "--attempt", "9"], 4, "no stdout of worker 0 in attempt 9"),
        (["2", "-f", "-o", "json"], 2, "cannot be one JSON document"),
    ],
)
def test_logs_that_are_not_there(shell: Shell, argv: list[str], code: int, said: str) -> None:
    shell.control.put(job_view("2", state="succeeded", reason=None, attempt=1))
    shell.control.write_log("2", b"x")
    result = shell.run("logs", *argv)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr


def test_following_goes_over_attempts_until_the_job_has_ended(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scripted life: each look at the job moves it on, so the order does not hang on timing."""
    from scheduler.cli import logs

    monkeypatch.setattr(logs, "LOG_POLL_S", 0.01)
    monkeypatch.setattr(logs, "REFRESH_S", 0.02)
    control = shell.control
    control.put(job_view("1"))
    job = control.job

    def started() -> None:
        control.set_state("1", "running", attempt=1, workers=[worker_view()])
        control.write_log("1", b"one\n")

    def preempted() -> None:
        control.write_log("1", b"saved\n")
        control.set_state("1", "pending", attempt=1, workers=[])

    def restarted() -> None:
        control.set_state("1", "running", attempt=2, workers=[worker_view(attempt=2)])
        control.write_log("1", b"two\n", attempt=2)

    def ended() -> None:
        control.set_state("1", "succeeded", attempt=2, workers=[])
        control.write_log("1", b"done\n", attempt=2)

    script = [started, preempted, restarted, ended]

    def moves_on(job_id: str, by: Any) -> Any:
        seen = job(job_id, by)
        if script:
            script.pop(0)()
        return seen

    monkeypatch.setattr(control, "job", moves_on)
    assert shell.out("logs", "-f") == "one\nsaved\ntwo\ndone\n"


# ---- tokens, status, JSON ----------------------------------------------------------------------------------------


def test_tokens_are_made_shown_once_and_revoked(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shell.out("token", "create", "studio-b", "--tenant", "film-studio").strip()
    assert rows(shell.out("token", "list"))[-1] == ["studio-b", "film-studio", "tenant", "normal"]
    monkeypatch.setenv("SUANLI_TOKEN", made)
    assert shell.run("queue").exit_code == 0
    assert shell.run("status").exit_code == 3
    assert shell.run("drain", "edge-0", "--reason", "r").exit_code == 3
    assert shell.out("token", "revoke", "studio-b") == "token studio-b is revoked\n"
    assert shell.run("queue").exit_code == 3
    assert shell.run("token", "revoke", "studio-b").exit_code == 4


def test_status(shell: Shell) -> None:
    text = shell.out("status")
    assert re.search(r"service: +pid 4711, epoch 5\n", text)
    assert re.search(r"jobs: +1 pending\n", text)
    assert re.search(r"stranded: +12% of 3\.5 idle devices\n", text)
    assert rows(text)[-1] == ["edge-0", "11", "12", "edge-0"]


@pytest.mark.parametrize(
    ("real", "simulated", "said"),
    [
        ((3_500, 0.12), (0, None), "12% of 3.5 idle devices"),
        ((3_500, 0.0), (2_000, 0.5), "0% of 3.5 idle devices, 50% of 2 idle simulated devices"),
        ((0, None), (0, None), "nothing is idle"),
        ((0, None), (2_000, None), "not known of 2 idle simulated devices: no work was submitted yet"),
    ],
)
def test_what_is_stranded_is_always_said(
    real: tuple[int, float | None], simulated: tuple[int, float | None], said: str
) -> None:
    from scheduler.cli.status import stranded

    figures = {"real": real, "simulated": simulated}
    assert stranded({kind: {"idle_milli": idle, "share": share} for kind, (idle, share) in figures.items()}) == said


def test_tenants(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    unbounded = {"maximum_milli": None, "max_running_jobs": None, "max_queued_milli": None}
    rehearses = tenant_view("hospital", **unbounded)
    rehearses["simulated"] = rehearses["real"] | {"held_milli": 16_000, "borrowed_milli": 0, "queued_milli": 0}
    found = [tenant_view(), rehearses]
    monkeypatch.setattr(shell.control, "tenants", lambda by: {"tenants": found, "half_life_s": 1.0})
    header, *lines = rows(shell.out("tenants"))
    assert header == [
        *("TENANT", "DEVICES", "WEIGHT", "GUARANTEED", "MAXIMUM", "HELD", "BORROWED"),
        *("RUNNING", "WAITING", "QUEUED-DEVICES", "USAGE", "STANDING"),
    ]
    assert lines == [
        ["film-studio", "real", "2", "4", "8", "6.5", "2.5", "2/3", "5", "8/64", "12.5%", "0.156"],
        ["hospital", "real", "2", "4", "-", "6.5", "2.5", "2", "5", "8", "12.5%", "0.156"],
        ["hospital", "simulated", "2", "4", "-", "16", "0", "-", "-", "0", "12.5%", "0.156"],
    ]


def test_a_tenant_sees_itself_among_the_tenants(shell: Shell) -> None:
    result = shell.run("tenants", "-o", "json", who="tenant")
    assert [tenant["name"] for tenant in json.loads(result.stdout)["tenants"]] == ["film-studio"]


@pytest.mark.parametrize(
    ("argv", "schema", "key"),
    [
        (["queue"], "suanli/jobs/1", "jobs"),
        (["show", "1"], "suanli/job/1", "events"),
        (["why", "1"], "suanli/why/1", "text"),
        (["nodes"], "suanli/nodes/1", "nodes"),
        (["nodes", "edge-0"], "suanli/nodes/1", "nodes"),
        (["status"], "suanli/status/1", "service_pid"),
        (["tenants"], "suanli/tenants/1", "half_life_s"),
        (["submit", "-o", "json", *FLAGS], "suanli/jobs/1", "jobs"),
        (["drain", "edge-0", "--reason", "r"], "suanli/drain/1", "state"),
        (["cancel", "1"], "suanli/cancel/1", "jobs"),
        (["hold", "1", "--reason", "r"], "suanli/hold/1", "jobs"),
        (["schedules"], "suanli/schedules/1", "schedules"),
        (["token", "list"], "suanli/tokens/1", "tokens"),
        (["token", "create", "t", "--tenant", "hospital"], "suanli/token/1", "token"),
    ],
)
def test_json_names_its_schema_and_is_one_line_in_a_pipe(shell: Shell, argv: list[str], schema: str, key: str) -> None:
    text = shell.out(*argv) if "-o" in argv else shell.out(*argv, "-o", "json")
    answer = json.loads(text)
    assert (answer["schema"], key in answer, text.count("\n")) == (schema, True, 1)


def test_wait_as_json(shell: Shell) -> None:
    shell.control.set_state("1", "succeeded")
    answer = json.loads(shell.out("wait", "-o", "json"))
    assert (answer["schema"], [view["id"] for view in answer["jobs"]]) == ("suanli/wait/1", ["1"])


def test_a_tenant_cannot_see_another_tenants_job(shell: Shell) -> None:
    assert shell.run("show", "1", who="tenant").exit_code == 0
    hidden = shell.run("show", "1", who="other")
    assert (hidden.exit_code, hidden.stderr) == (4, "suanli: there is no job 1\n")
    assert shell.run("submit", *FLAGS, who="viewer").exit_code == 3
