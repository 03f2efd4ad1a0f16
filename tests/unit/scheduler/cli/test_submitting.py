"""suanli submit against a served API: from flags, from files, dry, waiting, and again and again."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.shell_words import FLAGS, rows

if TYPE_CHECKING:
    from tests.unit.scheduler.cli.conftest import Shell


# ---- submit ------------------------------------------------------------------------------------------------------


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
