"""Each verb against a served API: what it prints in a pipe, what as JSON, and its exit code."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.fakes.control_views import job_view, tenant_view, worker_view
from tests.fakes.shell_words import FLAGS, rows

if TYPE_CHECKING:
    from tests.unit.scheduler.cli.conftest import Shell


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
