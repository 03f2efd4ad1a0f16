"""What starting the CLI costs, what its failures look like, and that its help knows every verb."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from scheduler.cli import queue, root
from tests.fakes.control_views import job_view, node_view, worker_view

if TYPE_CHECKING:
    from tests.unit.scheduler.cli.conftest import Shell

HEAVY = (
    "ray",
    "torch",
    "numpy",
    "sqlalchemy",
    "pydantic",
    "fastapi",
    "rich",
    "textual",
    "yaml",
    "scheduler.core.cluster",
)
RUN_AND_TELL = """
import sys
from scheduler.cli.root import root
try:
    root(sys.argv[1:])
except SystemExit as end:
    print("code", end.code)
print(" ".join(["loaded", *(name for name in {heavy!r} if name in sys.modules)]))
"""


def run_verb(*argv: str) -> list[str]:
    """Run a verb in a fresh interpreter; its output, its code and which heavy modules it loaded."""
    script = RUN_AND_TELL.format(heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", script, *argv], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stderr == "", done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "argv", [["queue", "-a"], ["show", "1"], ["nodes"], ["status"], ["why", "1"], ["queue", "-o", "json"], ["--help"]]
)
def test_reading_verbs_load_nothing_heavy(shell: Shell, argv: list[str]) -> None:
    lines = run_verb(*argv)
    assert lines[-2:] == ["code 0", "loaded"]


def test_the_hygiene_check_can_fail() -> None:
    script = "import sys, pydantic\n" + RUN_AND_TELL.format(heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", script, "--version"], capture_output=True, text=True, timeout=30, check=False
    )
    assert "pydantic" in done.stdout.splitlines()[-1]


def test_every_verb_leads_somewhere_and_is_listed() -> None:
    listed = CliRunner().invoke(root.root, ["--help"], prog_name="suanli")
    assert listed.exit_code == 0
    for name, verb in root.VERBS.items():
        assert re.search(rf"^  {name} +{re.escape(verb.help)}$", listed.output, re.MULTILINE), name
        assert find_spec(f"scheduler.cli.{verb.where.partition(':')[0]}") is not None, name
    for code in ("0", "1", "2", "3", "4", "5", "6", "130"):
        assert re.search(rf"^    {code} ", listed.output, re.MULTILINE), code


@pytest.mark.parametrize(
    "name",
    [
        "submit",
        "queue",
        "show",
        "why",
        "logs",
        "wait",
        "cancel",
        "nodes",
        "drain",
        "resume",
        "status",
        "token",
        "scale",
    ],
)
def test_verbs_explain_themselves(name: str) -> None:
    shown = CliRunner().invoke(root.root, [name, "--help"], prog_name="suanli")
    assert (shown.exit_code, shown.stderr) == (0, "")
    command = root.root.get_command(click.Context(root.root), name)
    assert command is not None
    if not isinstance(command, click.Group):
        assert "--output" in shown.output


def test_version() -> None:
    from scheduler import __version__

    assert CliRunner().invoke(root.root, ["--version"]).output == f"suanli {__version__}\n"


def test_a_verb_that_is_mistyped_is_guessed() -> None:
    result = CliRunner().invoke(root.root, ["quue"], prog_name="suanli")
    assert result.exit_code == 2
    assert "queue" in result.stderr


# ---- failures ----------------------------------------------------------------------------------------------------


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise error

    monkeypatch.setattr(queue.Client, "from_env", fail)


def test_a_bug_shows_no_traceback_and_keeps_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, ZeroDivisionError("by\nnothing"))
    result = CliRunner().invoke(root.root, ["queue"], prog_name="suanli")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Traceback" not in result.stderr
    match = re.fullmatch(
        r"suanli: internal error: ZeroDivisionError: by nothing; details for a bug report are in (.*)\n", result.stderr
    )
    assert match is not None, result.stderr
    kept = Path(match[1])
    assert kept.parent == home / "logs"
    assert "ZeroDivisionError" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0


def test_a_bug_with_nowhere_to_write_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SUANLI_HOME", str(tmp_path / "file"))
    fail_with(monkeypatch, ZeroDivisionError())
    result = CliRunner().invoke(root.root, ["queue"], prog_name="suanli")
    assert result.exit_code == 1
    assert "could not be kept" in result.stderr


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, KeyboardInterrupt())
    result = CliRunner().invoke(root.root, ["queue"], prog_name="suanli")
    assert result.exit_code == 130
    assert result.stderr.strip() == "suanli: interrupted"


def test_the_console_script_ends_with_the_same_codes(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scheduler.cli", "queue"], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith("suanli: no Suanli service is known here")


def test_output_that_nobody_reads_is_no_error_message(shell: Shell) -> None:
    """`suanli queue | head -1`: the reader is gone before the writer is done."""
    for number in range(2, 400):
        shell.control.put(job_view(str(number)))
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "scheduler.cli", "queue"],
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.stderr == b""


# ---- on a terminal -----------------------------------------------------------------------------------------------


def on_terminal(columns: int, *argv: str) -> list[str]:
    """The lines that a verb shows on a terminal of that width, without colours."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "scheduler.cli", *argv],
        stdout=terminal,
        stderr=terminal,
        stdin=terminal,
        env=environment,
    )
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(controller, 65536):
            shown += piece
    except OSError:  # Linux's way of saying that the other side is closed
        pass
    finally:
        os.close(controller)
        assert process.wait(30) == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("columns", [80, 120])
def test_a_queue_fits_the_terminal(shell: Shell, columns: int) -> None:
    gang = [worker_view(rank, f"dongyang-h100-{rank}", range(8), simulated=True) for rank in range(4)]
    shell.control.put(job_view("1", name="byte-transformer-pretrain", state="running", reason=None, workers=gang))
    reason = {"kind": "no_fit", "text": "2 of 4 workers fit (3 nodes: 0 of 8 devices free; 1 node: draining)"}
    shell.control.put(job_view("2", name="airspace", reason=reason, est_start_s=2e9))
    lines = on_terminal(columns, "queue")
    assert max(len(line) for line in lines) <= columns
    for title in ("ID", "NAME", "STATE", "ON", "REASON", "EST-START", "AGE"):
        assert title in (lines[0] + lines[1]).split()  # REASON stands below the row where it has no room beside it
    assert ("KIND" in lines[0].split()) == (columns == 120)
    assert (lines[-1] == "not shown at 80 columns: TENANT, CLASS, KIND") == (columns == 80)
    text = " ".join(" ".join(lines).split())
    assert "(simulated)" in text
    assert reason["text"] in text


@pytest.mark.parametrize("columns", [80, 120])
def test_nodes_fit_the_terminal(shell: Shell, columns: int) -> None:
    shell.control.node_views["sim"] = node_view(
        "dongyang-h100-0", devices=8, simulated=True, notes=["a long note " * 5]
    )
    lines = on_terminal(columns, "nodes")
    assert max(len(line) for line in lines) <= columns
    assert "(simulated)" in " ".join(" ".join(lines).split())
