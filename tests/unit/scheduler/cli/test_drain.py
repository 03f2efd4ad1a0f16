"""`suanli drain` and `resume`: what is asked, what is said of what is left, and how a node that empties is watched."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from scheduler.cli.drain_progress import RichProgress
from tests.fakes.control_views import drain_left, node_view
from tests.fakes.shell_words import rows

if TYPE_CHECKING:
    from tests.unit.scheduler.cli.conftest import Shell


def test_drain_and_resume(shell: Shell) -> None:
    assert "edge-0 is drained" in shell.out("drain", "edge-0", "--reason", "fan noise")
    shell.control.node_views["edge-0"]["drain"]["at_s"] -= 150
    assert rows(shell.out("nodes", "--reasons")) == [
        ["NODE", "STATE", "REASON", "BY", "SINCE"],
        ["edge-0", "drained", "fan noise", "olga", "2m"],
    ]
    assert rows(shell.out("nodes"))[1][-1] == "drained: fan noise"
    assert "takes jobs again" in shell.out("resume", "edge-0")
    assert shell.run("resume", "edge-0").exit_code == 5
    assert shell.run("drain", "edge-0").exit_code == 2  # no reason given


def test_drain_says_what_is_left_and_when_its_time_is_over(shell: Shell) -> None:
    busy = shell.control.node_views["edge-0"]
    busy["devices"][0]["jobs"] = ["5"]
    said = shell.out("drain", "edge-0", "--reason", "fan noise", "--deadline", "30m")
    assert "edge-0 is draining: nothing new starts there; 1 job is left: 5 (train) running; deadline in " in said
    assert busy["drain"]["deadline_s"] - busy["drain"]["at_s"] == 1_800
    (line,) = rows(shell.out("nodes", "--reasons"))[1:]
    assert line[2].startswith("fan noise (1 job is left: 5 (train) running; deadline in ")
    shell.out("drain", "edge-0", "--reason", "fan noise", "--deadline", "0")
    assert busy["drain"]["deadline_s"] == busy["drain"]["at_s"]
    refused = shell.run("drain", "edge-0", "--reason", "r", "--deadline", "soon")
    assert (refused.exit_code, "--deadline: expected" in refused.stderr) == (2, True)


def left(*jobs: Mapping[str, Any]) -> Callable[[dict[str, Any]], None]:
    """A look at a drained node that finds these jobs there."""

    def look(view: dict[str, Any]) -> None:
        view["drain"]["left"] = list(jobs)
        view["state"] = "draining" if jobs else "drained"

    return look


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.cli.drain.LOOKS_EVERY_S", 0.001)


@pytest.mark.usefixtures("quick_looks")
def test_drain_waits_and_shows_each_change_once_in_a_pipe(shell: Shell) -> None:
    shell.control.node_views["edge-0"]["devices"][0]["jobs"] = ["5"]
    five, saving = drain_left("5"), drain_left("5", "saving")
    service = drain_left("7", "being replaced", name="serve\x1b[31m", kind="inference")
    shell.control.on_look = [left(five), left(five, service), left(five, service), left(saving), left()]
    result = shell.run("drain", "edge-0", "--reason", "fan", "--wait")
    assert (result.exit_code, result.stdout) == (
        0,
        "node edge-0 is drained: nothing runs there; `suanli resume edge-0` takes it back\n",
    )
    assert result.stderr.splitlines() == [
        "... node edge-0: 1 job is left: 5 (train) running",
        "... node edge-0: 2 jobs are left: 5 (train) running, 7 (serve\ufffd[31m) being replaced",
        "... node edge-0: 1 job is left: 5 (train) saving",
    ]


@pytest.mark.usefixtures("quick_looks")
def test_drain_that_is_waited_for_in_json_answers_once_at_the_end(shell: Shell) -> None:
    shell.control.node_views["edge-0"]["devices"][0]["jobs"] = ["5"]
    shell.control.on_look = [left(drain_left("5")), left()]
    result = shell.run("drain", "edge-0", "--reason", "fan", "--wait", "-o", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["drain"]["left"] == []


@pytest.mark.usefixtures("quick_looks")
def test_what_ends_the_wait_for_a_drain(shell: Shell) -> None:
    shell.control.node_views["edge-0"]["devices"][0]["jobs"] = ["5"]
    late = shell.run("drain", "edge-0", "--reason", "fan", "--wait", "--timeout", "0.02")
    assert late.exit_code == 7
    assert "1 job is left: 5 (train) running" in late.stdout
    shell.control.on_look = [left(drain_left("5")), lambda view: view.update(drain=None, state="ready")]
    taken_back = shell.run("drain", "edge-0", "--wait")  # it is drained already: only watched
    assert (taken_back.exit_code, "was taken back into use" in taken_back.stderr) == (5, True)
    assert shell.run("drain", "edge-0", "--wait").exit_code == 2  # not drained any more, and no reason
    assert shell.run("drain", "edge-0", "--reason", "r", "--timeout", "1").exit_code == 2
    assert shell.run("drain", "nowhere", "--wait").exit_code == 4


def test_a_terminal_shows_a_bar_and_what_is_left() -> None:
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=20, color_system=None)
    view = node_view("edge-0") | {"drain": {"reason": "fan", "deadline_s": 1_000.0, "left": []}}
    with RichProgress(console) as shown:
        for jobs in (
            [drain_left("5"), drain_left("7", "being replaced", name="[red]serve")],
            [drain_left("5", "saving")],
        ):
            view["drain"]["left"] = jobs
            shown.show(view, now_s=280.0)
        shown.say("no longer watched")
    text = out.getvalue()
    assert "0 of 2 jobs have left" in text
    assert "1 of 2 jobs have left" in text
    assert "deadline in 12m" in text
    assert "[red]serve" in text
    assert "no longer watched" in text
