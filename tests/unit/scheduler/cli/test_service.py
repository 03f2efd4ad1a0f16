"""`suanli service` and `suanli scale NAME`: what they say, and their exit codes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tests.fakes.control_views import job_view
from tests.fakes.service_views import rollout_view, service_view, version_view

if TYPE_CHECKING:
    from tests.unit.scheduler.cli.conftest import Shell

FILE = "name: detect\nkind: inference\nmodel: m.py:M\n"


def file(shell: Shell, more: str = "") -> str:
    path = shell.directory / "detect.yaml"
    path.write_text(FILE + more)
    return str(path)


def test_deploy_a_first_version_and_one_that_takes_over(shell: Shell) -> None:
    assert shell.out("service", "deploy", file(shell)) == "version 1 of service detect is job 101 and is live\n"
    said = shell.out("service", "deploy", file(shell), "--canary", "5,25,100", "--step", "90s")
    assert said == "version 2 of service detect is job 102 and takes over: 5%, 25%, 100%, each for 1m\n"
    answer = json.loads(shell.out("service", "deploy", file(shell), "-o", "json"))
    assert (answer["schema"], answer["deployed_job"]) == ("suanli/service/1", "103")


def test_wait_ends_with_the_rollout(shell: Shell) -> None:
    assert shell.out("service", "deploy", file(shell), "--wait") == "version 1 of service detect is live\n"
    view = service_view(versions=[version_view(2, "102", state="rolled back", why="errors: 5 of 9"), version_view(1)])
    shell.control.deploy_service = lambda _spec, _by: {**view, "deployed_job": "102"}  # type: ignore[method-assign]
    shell.control.serving["film-studio", "detect"] = view
    try:
        result = shell.run("service", "deploy", file(shell), "--wait")
    finally:
        del shell.control.deploy_service
    assert result.exit_code == 1
    assert result.stdout == "version 2 of service detect was not kept (rolled back): errors: 5 of 9\n"


def test_flags_are_laid_over_the_file(shell: Shell) -> None:
    given = file(shell, "canary: {steps: [10, 100], step: 5m}\n")
    shell.out("service", "deploy", given)
    assert "takes over: 10%, 100%, each for 5m" in shell.out("service", "deploy", given, "--min-requests", "3")
    bad = shell.run("service", "deploy", given, "--canary", "50,10")
    assert bad.exit_code == 2
    assert "canary.steps: expected per cent of the requests, rising to 100" in bad.stderr
    assert shell.run("service", "deploy", "none.yaml").exit_code == 2
    assert shell.run("service", "deploy", given, who="viewer").exit_code == 3


def test_list_and_show(shell: Shell) -> None:
    shell.control.serving["film-studio", "detect"] = service_view(
        state="rolling out",
        rollout=rollout_view(2, 1),
        versions=[version_view(2, "102", state="canary", weight_milli=50), version_view(1, weight_milli=950)],
    )
    header, row = (re.split(r" {2,}", line.strip()) for line in shell.out("service", "list").splitlines())
    assert header[:6] == ["NAME", "TENANT", "CLASS", "STATE", "VERSION", "READY"]
    assert row[:11] == [
        *("detect", "film-studio", "normal", "rolling out", "1", "2/2", "20", "45 ms", "50 ms", "99.58%", "10")
    ]
    shown = shell.out("service", "show", "detect")
    for said in (
        r"rollout: +version 2 has 5% of the requests since 12s: 60 requests, 1 errors, 0 late \(5%, 25%, 100%, each",
        r"scaling: +by its load, 0 to 4, none after 10m without a request",
        r"SLO: +99% within 50 ms",
        r"within it: +99\.58%",
        r"requests: +20/s in the last minute \(1,200\)",
        r"refused: +6 refused, of these or dropped as hopeless 4",
        r"p50, p95, p99: +11 ms, 30 ms, 45 ms",
        r"rate limit: +500 requests/s",
        r"2 +102 +canary +5% +2/2",
        r"1 +101 +live +95% +2/2",
        r"scaled from 1 to 3 +the load has risen: 90/s",
    ):
        assert re.search(said, shown), (said, shown)
    assert json.loads(shell.out("service", "show", "detect", "-o", "json"))["decisions"][0]["event"] == "scaled"
    assert shell.run("service", "show", "nobody").exit_code == 4
    assert shell.run("service", "show", "other/detect").exit_code == 4


def test_rollback_delete_and_scale(shell: Shell) -> None:
    shell.control.serving["film-studio", "detect"] = service_view()
    assert shell.out("service", "rollback", "detect", "--to", "1") == "service detect is at version 1\n"
    assert shell.run("service", "rollback", "detect", "--to", "4").exit_code == 4
    assert shell.out("scale", "detect", "3") == "service detect is to have 3: 2 answer now\n"
    assert "pinned at 3 by hand; `suanli scale NAME auto`" in shell.out("service", "show", "detect")
    assert shell.out("scale", "film-studio/detect", "auto") == "service detect is scaled by its load: 2 answer now\n"
    assert shell.run("scale", "detect").exit_code == 2
    assert shell.run("scale", "detect", "many").exit_code == 2
    assert shell.run("scale", "detect", "3", "--replicas", "4").exit_code == 2
    gone = shell.out("service", "delete", "detect")
    assert gone == "service detect of tenant film-studio is deleted; its jobs (101) are stopped\n"
    assert len(shell.out("service", "list").splitlines()) == 1


def test_queue_and_show_say_which_version_a_job_is(shell: Shell) -> None:
    version = {"number": 2, "weight_milli": 250, "state": "canary"}
    shell.control.put(job_view("7", name="detect", kind="inference", state="running", reason=None, version=version))
    assert "detect v2 (canary, 25%)" in shell.out("queue")
    assert re.search(r"version: +2 \(canary, 25%\)", shell.out("show", "7"))
