"""suanli logs against a served API: of one worker, of several, cut ones, and as they grow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.control_views import job_view, worker_view

if TYPE_CHECKING:
    from tests.unit.scheduler.cli.conftest import Shell


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
