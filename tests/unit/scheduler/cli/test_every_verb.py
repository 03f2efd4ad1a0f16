"""Whatever is done to any verb, an operator gets a line or two that say what is wrong, and never a stack trace.

The verbs are found by walking the command itself, so that a new one is held to this without being named here.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner, Result

from scheduler.cli.root import root

if TYPE_CHECKING:
    from tests.unit.scheduler.cli.conftest import Shell

# Those that start something, or compute on this machine, without asking a service: only misuse is tried on them.
ALONE = frozenset({"up", "stay", "demo", "down", "doctor", "devices record", "report verify", "node join"})
ALONE_GROUPS = frozenset({"bench", "simulate"})
# Read the instance's own files, and ask nobody.
LOCAL = frozenset({"token create", "token list", "token revoke", "gateway", "standby"})
# Their answer to a service that says nothing of use is a success that says so, or not theirs to judge.
CONTENT = frozenset({"resume", "logs"})

WORDS = {"head": "127.0.0.1:9", "month": "2026-01", "to": "2", "ray": "127.0.0.1:9", "gateway": "127.0.0.1:9"}


@dataclass(frozen=True, slots=True)
class Leaf:
    path: tuple[str, ...]
    command: click.Command

    @property
    def name(self) -> str:
        return " ".join(self.path)

    @property
    def alone(self) -> bool:
        return self.name in ALONE or self.path[0] in ALONE_GROUPS


def leaves(command: click.Command = root, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    if not isinstance(command, click.Group):
        yield Leaf(path, command)
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None, (path, name)
        yield from leaves(below, (*path, name))
    if command.invoke_without_command:
        yield Leaf(path, command)


LEAVES = tuple(leaves())
OF_A_SERVICE = tuple(leaf for leaf in LEAVES if not leaf.alone and leaf.name not in LOCAL)

OF_A_HOME = tuple(
    leaf
    for leaf in LEAVES
    if leaf.path[0] not in ALONE_GROUPS and leaf.name not in ("demo", "devices record", "doctor")
)


def plausible(leaf: Leaf, file: Path) -> list[str]:
    """Arguments and required options that the verb's own declarations accept."""
    argv = []
    for parameter in leaf.command.params:
        if isinstance(parameter, click.Option) and not parameter.required:
            continue
        kind = parameter.type
        if isinstance(kind, click.Choice):
            word = str(kind.choices[0])
        elif isinstance(kind, click.Path):
            word = str(file)
        else:
            word = WORDS.get(parameter.name or "", "1")
        argv += [word] if isinstance(parameter, click.Argument) else [parameter.opts[0], word]
    return argv


def run(leaf: Leaf, argv: list[str]) -> Result:
    return CliRunner().invoke(root, [*leaf.path, *argv], prog_name="suanli")


def judge(leaf: Leaf, result: Result, *, codes: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)) -> None:
    said = f"suanli {leaf.name} -> {result.exit_code}: {result.output}"
    assert isinstance(result.exception, SystemExit), said
    assert result.exit_code in codes, said
    assert "Traceback" not in result.output, said
    assert "internal error" not in result.output, said
    lines = [line for line in result.stderr.splitlines() if line.strip() and not line.startswith(("Usage:", "Try '"))]
    assert 1 <= len(lines) <= 2 or (result.exit_code == 2 and len(lines) <= 6), said


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "given.yaml"
    path.write_text("name: x\n")
    return path


def named(leaf: Leaf) -> str:
    return leaf.name


def test_the_exceptions_name_verbs_that_are_there() -> None:
    assert {leaf.name for leaf in LEAVES} >= ALONE | LOCAL | CONTENT
    assert {leaf.path[0] for leaf in LEAVES} >= ALONE_GROUPS
    assert len(OF_A_SERVICE) > 30


@pytest.mark.parametrize("leaf", LEAVES, ids=named)
def test_nonsense_is_refused(leaf: Leaf, file: Path) -> None:
    """An unknown option, an argument too many, and for each option a value that it cannot have."""
    judge(leaf, run(leaf, ["--no-such-option"]), codes=(2,))
    if not any(isinstance(parameter, click.Argument) for parameter in leaf.command.params):
        judge(leaf, run(leaf, ["REASON"]))
    for option in leaf.command.params:
        if not isinstance(option, click.Option) or option.is_flag or option.count:
            continue
        flag = option.opts[-1]
        judge(leaf, run(leaf, [flag]))
        text_or_path = isinstance(option.type, click.types.StringParamType | click.Path)
        if text_or_path and (leaf.alone or leaf.name in LOCAL):
            continue  # may be one that it takes
        judge(leaf, run(leaf, [*plausible(leaf, file), flag, "@nonsense@"]))


@pytest.mark.parametrize("leaf", OF_A_SERVICE, ids=named)
def test_without_an_instance(leaf: Leaf, file: Path) -> None:
    judge(leaf, run(leaf, plausible(leaf, file)))


@pytest.mark.parametrize("leaf", OF_A_HOME, ids=named)
def test_the_home_is_no_directory(leaf: Leaf, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUANLI_HOME", str(file))
    judge(leaf, run(leaf, plausible(leaf, file)))


@pytest.mark.parametrize("leaf", [*OF_A_SERVICE, *(leaf for leaf in LEAVES if leaf.name == "down")], ids=named)
def test_nobody_knows_the_home(leaf: Leaf, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither SUANLI_HOME nor HOME, and a user that the machine does not know, as in many containers."""

    def unknown(_uid: int) -> pwd.struct_passwd:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.delenv("SUANLI_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    judge(leaf, run(leaf, plausible(leaf, file)))


# ---- a service that answers strangely ----------------------------------------------------------------------------


class Strange(BaseHTTPRequestHandler):
    reply = (200, b"{}")
    version: str | None = None

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        status, body = self.reply
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if self.version is not None:
            self.send_header("X-Suanli-Version", self.version)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = _answer

    def log_message(self, *_args: object) -> None:
        return


@pytest.fixture(scope="module")
def strange_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Strange)
    server.daemon_threads, server.block_on_close = True, False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join(5)
    server.server_close()


@pytest.fixture
def strange(home: Path, strange_url: str, monkeypatch: pytest.MonkeyPatch) -> type[Strange]:
    home.mkdir()
    token = home / "operator.token"
    token.write_text("suanli_x\n")
    token.chmod(0o600)
    (home / "client.json").write_text(json.dumps({"api": strange_url, "token_file": str(token)}))
    monkeypatch.setattr(Strange, "reply", (200, b"{}"))
    monkeypatch.setattr(Strange, "version", None)
    return Strange


@pytest.mark.parametrize("version", ["9.9.9", None])
@pytest.mark.parametrize("leaf", OF_A_SERVICE, ids=named)
def test_a_service_of_another_version(
    leaf: Leaf, file: Path, strange: type[Strange], version: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer lacks what this version looks for."""
    monkeypatch.setattr(strange, "version", version)
    result = run(leaf, plausible(leaf, file))
    if leaf.name in CONTENT and result.exit_code == 0:
        return
    judge(leaf, result)
    if "understood" in result.stderr:
        assert ("is version 9.9.9" if version else "does not say its version") in result.stderr


@pytest.mark.parametrize("reply", [(200, b"[]"), (200, b"<html>"), (401, b"no"), (403, b'{"error": {}}')])
def test_something_else_answers(file: Path, strange: type[Strange], reply: tuple[int, bytes]) -> None:
    strange.reply = reply
    for leaf in OF_A_SERVICE:
        judge(leaf, run(leaf, plausible(leaf, file)))


def test_a_bug_of_our_own_is_still_called_one(strange: type[Strange], monkeypatch: pytest.MonkeyPatch) -> None:
    from scheduler import __version__

    monkeypatch.setattr(strange, "version", __version__)
    result = CliRunner().invoke(root, ["queue"], prog_name="suanli")
    assert "internal error: KeyError" in result.stderr


@pytest.mark.parametrize("text", ["[]", "{}", '{"processes": 3}', '{"processes": {"ray": {"x": 1}}}', "\xff"])
def test_a_record_of_the_instance_that_is_none(home: Path, text: str) -> None:
    home.mkdir()
    (home / "instance.json").write_text(text, encoding="latin-1")
    result = CliRunner().invoke(root, ["down"], prog_name="suanli")
    assert result.exit_code == 5
    assert "instance.json cannot be read" in result.stderr


# ---- streams -----------------------------------------------------------------------------------------------------

ALL_VERBS_TO = """
import os, sys
from tests.unit.scheduler.cli.test_every_verb import LEAVES, root
for to in map(int, sys.argv[1:]):
    for leaf in LEAVES:
        child = os.fork()
        if child == 0:
            os.dup2(to, 1)
            try:
                root.main([*leaf.path, "--help"], prog_name="suanli")
            except SystemExit as end:
                code = end.code
            finally:
                os.write(2, f"{code}\\n".encode())
                os._exit(0)
        os.waitpid(child, 0)
"""


def test_output_that_goes_nowhere() -> None:
    """Every verb's help, to a full disk and to a reader that has gone: in children of one process, which has them all
    imported."""
    reader, gone = os.pipe()
    os.close(reader)
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", ALL_VERBS_TO, str(full), str(gone)],
            pass_fds=[full, gone],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(full)
        os.close(gone)
    assert done.returncode == 0, done.stderr
    of_full = ["suanli: the output could not be written: no space left on device", "1"] * len(LEAVES)
    assert done.stderr.splitlines() == [*of_full, *["1"] * len(LEAVES)]


@pytest.mark.parametrize("argv", [["queue"], ["queue", "-o", "json"], ["show", "1"]])
def test_an_answer_that_finds_no_room(shell: Shell, argv: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "scheduler.cli", *argv],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "suanli: the output could not be written: no space left on device\n"
