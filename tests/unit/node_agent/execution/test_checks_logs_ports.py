"""Could it start here; where are its files; which port is free."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from node_agent.execution.checks import Fault, Startable, check
from node_agent.execution.logs import NoSuchLog, RunPaths, read_chunk, read_result, run_paths, tail
from node_agent.execution.order import has_checkpoint, key_from_text, key_text
from node_agent.execution.ports import free_port
from node_agent.messages import LaunchSpec, RunKey

KEY = RunKey("7", 1, 0, "n1")
SPEC = LaunchSpec(
    argv=("true",),
    model_path=None,
    model_class=None,
    env=(),
    working_dir=None,
    checkpoint_dir=None,
    resume_from=None,
    device_indices=(),
    share_milli=0,
    cpus_milli=1000,
    memory_bytes=0,
    world_size=1,
    grace_s=10.0,
    lease_bound=True,
    serves=False,
    job_name="j",
    tenant="t",
    kind="batch",
)
MODEL = "import torch\nfrom other import Borrowed\nif True:\n    class Net:\n        pass\nAlias = Net\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "plain.txt").write_text("")
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "broken.py").write_text("class Net:\n  def\n")
    (tmp_path / "deep.py").write_text("x = " + "(" * 100_000)
    (tmp_path / "chain.py").write_text("x = " + "-" * 100_000 + "1")
    (tmp_path / "zero.py").write_text("class Net: pass\0")
    (tmp_path / "huge.py").write_text("#" * ((4 << 20) + 1))
    os.mkfifo(tmp_path / "fifo.py")
    (tmp_path / "endless.py").symlink_to("/dev/zero")
    (tmp_path / "link.py").symlink_to("model.py")
    return tmp_path


def ask(place: Path, spec: LaunchSpec) -> Startable | Fault:
    return check(replace(spec, working_dir=spec.working_dir or str(place)), KEY, place, "/usr/bin:/bin")


@pytest.mark.parametrize("argv", [("true",), ("/bin/true",), ("./run.sh", "-x"), ("run.sh/../run.sh",)])
def test_commands_that_can_start(place: Path, argv: tuple[str, ...]) -> None:
    found = ask(place, replace(SPEC, argv=argv))
    if argv == ("run.sh/../run.sh",):
        assert isinstance(found, Fault)  # the kernel would not resolve it either
    else:
        assert found == Startable(argv, place)


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"argv": ("no-such-program",)}, "command", "no-such-program does not exist on PATH"),
        ({"argv": ("/no/such",)}, "command", "/no/such does not exist on node n1"),
        ({"argv": ("./no.sh",)}, "command", "does not exist under"),
        ({"argv": ("./plain.txt",)}, "command", "not executable"),
        ({"argv": ("",)}, "command", "empty"),
        ({"argv": ("true", "a\0b")}, "command", "zero byte"),
        ({"env": (("PATH", "/nowhere"),)}, "command", "PATH /nowhere"),
        ({"working_dir": "/no/such/dir"}, "working_dir", "does not exist on node n1"),
        ({"working_dir": "relative"}, "working_dir", "not an absolute path"),
        ({"working_dir": "/etc/passwd"}, "working_dir", "not a directory"),
        ({"checkpoint_dir": "/proc/nowhere"}, "checkpoint.dir", "cannot be written on node n1"),
        ({"checkpoint_dir": "relative"}, "checkpoint.dir", "not an absolute path"),
        ({"argv": None, "model_path": "absent.py", "model_class": "Net"}, "model", "does not exist on node n1"),
        ({"argv": None, "model_path": "broken.py", "model_class": "Net"}, "model", "line 2 is not valid Python"),
        ({"argv": None, "model_path": "model.py", "model_class": "Nett"}, "model", "has no class Nett"),
        ({"argv": None, "model_path": "deep.py", "model_class": "Net"}, "model", "deep.py"),
        ({"argv": None, "model_path": "chain.py", "model_class": "Net"}, "model", "chain.py"),
        ({"argv": None, "model_path": "zero.py", "model_class": "Net"}, "model", "is not valid Python"),
        ({"argv": None, "model_path": "huge.py", "model_class": "Net"}, "model", "over 4 MiB"),
        ({"argv": None, "model_path": "fifo.py", "model_class": "Net"}, "model", "not a regular file"),
        ({"argv": None, "model_path": "endless.py", "model_class": "Net"}, "model", "not a regular file"),
        ({"argv": None}, "command", "neither a command nor a model"),
    ],
)
def test_what_cannot_start_says_which_field(place: Path, changes: dict[str, object], field: str, said: str) -> None:
    found = ask(place, replace(SPEC, **changes))  # type: ignore[arg-type]
    assert isinstance(found, Fault)
    assert found.field == field
    assert said in found.detail


@pytest.mark.parametrize("class_name", ["Net", "Alias", "Borrowed"])
def test_a_model_is_served_by_our_server(place: Path, class_name: str) -> None:
    found = ask(place, replace(SPEC, argv=None, model_path="model.py", model_class=class_name))
    model = str(place / "model.py")
    expected = (sys.executable, "-m", "node_agent.serving", "--model", model, "--class", class_name)
    assert found == Startable(expected, place)


def test_a_model_may_be_a_link(place: Path) -> None:
    assert isinstance(ask(place, replace(SPEC, argv=None, model_path="link.py", model_class="Net")), Startable)


def test_each_path_is_told_before_it_is_looked_at(place: Path) -> None:
    told: list[Path] = []
    spec = replace(SPEC, argv=("./run.sh",), working_dir=str(place), checkpoint_dir=str(place / "c"))
    check(spec, KEY, place, "/usr/bin", told.append)
    assert told == [place, place / "c/7/attempt-1", place / "run.sh", place / "c/7"]


def test_a_later_attempt_goes_on_from_an_earlier_one(place: Path) -> None:
    (place / "c/7/attempt-1").mkdir(parents=True)
    (place / "c/7/attempt-1/weights").touch()
    spec = replace(SPEC, working_dir=str(place), checkpoint_dir=str(place / "c"))
    found = check(spec, replace(KEY, attempt=3), place, "/usr/bin:/bin")
    assert isinstance(found, Startable)
    assert found.resume_from == str(place / "c/7/attempt-1")


def test_a_model_is_parsed_and_never_run(place: Path) -> None:
    (place / "evil.py").write_text("open('touched', 'w')\nclass Net: pass\n")
    assert isinstance(ask(place, replace(SPEC, argv=None, model_path="evil.py", model_class="Net")), Startable)
    assert not (place / "touched").exists()


def test_the_attempts_checkpoint_directory_is_made_and_left_empty(place: Path) -> None:
    assert isinstance(ask(place, replace(SPEC, checkpoint_dir=str(place / "c"))), Startable)
    attempt = place / "c" / "7" / "attempt-1"
    assert attempt.is_dir()
    assert not has_checkpoint(str(attempt))
    (attempt / ".unfinished").mkdir()
    assert not has_checkpoint(str(attempt))
    (attempt / "weights").touch()
    assert has_checkpoint(str(attempt))
    assert not has_checkpoint(None)


# ---- logs ------------------------------------------------------------------------------------------------------------


def test_every_run_has_a_directory_of_its_own(tmp_path: Path) -> None:
    paths = run_paths(tmp_path, "12.3", 2, 1)
    assert paths.stdout == tmp_path / "runs" / "12.3" / "attempt-2" / "worker-1" / "stdout"


@pytest.mark.parametrize("job_id", ["..", "../x", "/etc", "a/b", "", ".hidden", "a\0b", "x" * 200, "a\n"])
def test_a_job_id_cannot_leave_the_tree(tmp_path: Path, job_id: str) -> None:
    with pytest.raises(NoSuchLog):
        run_paths(tmp_path, job_id, 1, 0)


@pytest.fixture
def logs(tmp_path: Path) -> RunPaths:
    paths = run_paths(tmp_path, "7", 1, 0)
    paths.make()
    paths.stdout.write_bytes(b"0123456789")
    return paths


@pytest.mark.parametrize(
    ("offset", "limit", "over", "data", "following", "end"),
    [
        (0, 4, True, b"0123", 4, False),
        (4, 100, True, b"456789", 10, True),
        (4, 100, False, b"456789", 10, False),
        (10, 100, True, b"", 10, True),
        (-5, 3, True, b"012", 3, False),
        (0, -1, True, b"", 0, False),
    ],
)
def test_chunks(logs: RunPaths, offset: int, limit: int, over: bool, data: bytes, following: int, end: bool) -> None:
    chunk = read_chunk(logs, "stdout", offset, limit, over=over)
    assert (chunk.data, chunk.next_offset, chunk.end) == (data, following, end)


def test_logs_that_are_not_there(logs: RunPaths, tmp_path: Path) -> None:
    assert read_chunk(logs, "stderr", 0, 10, over=False).end is False  # nothing written yet
    for stream in ("../stdout", "result.json"):
        with pytest.raises(NoSuchLog):
            read_chunk(logs, stream, 0, 10, over=True)
    with pytest.raises(NoSuchLog):
        read_chunk(run_paths(tmp_path, "8", 1, 0), "stdout", 0, 10, over=True)


def test_a_log_that_is_a_link_is_not_followed(logs: RunPaths) -> None:
    logs.stderr.symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic"):
        read_chunk(logs, "stderr", 0, 10, over=True)
    assert tail(logs.stderr) == ""


def test_tail_is_short(tmp_path: Path) -> None:
    path = tmp_path / "stderr"
    path.write_text("\n".join(f"line {number}" for number in range(1000)))
    rows = tail(path).splitlines()
    assert (len(rows), rows[0], rows[-1]) == (20, "line 980", "line 999")
    path.write_text("x" * 10_000)
    assert len(tail(path)) <= 2048


def test_a_result_is_text_of_bounded_size(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    assert read_result(path) == (None, "")
    path.write_text('{"loss": 1}')
    assert read_result(path) == ('{"loss": 1}', "")
    path.write_bytes(b"x" * ((256 << 10) + 1))
    assert read_result(path)[0] is None
    assert "left out" in read_result(path)[1]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no valid JSON"),
        (b"loss 0.5", "no valid JSON"),
        (b'{"loss": 0.5', "no valid JSON"),
        (b'{"loss": NaN}', "NaN is no JSON number"),
        (b'{"a": "\0"}', "no valid JSON"),
        (b'"\xff"', "no valid JSON"),
        (b"[" * 100_000, "nested too deep"),
    ],
)
def test_a_result_that_is_no_json_is_left_out_and_says_so(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(data)
    result, complaint = read_result(path)
    assert result is None
    assert said in complaint
    assert "SUANLI_RESULT_FILE" in complaint


@pytest.mark.timeout(10)
def test_fifos_are_not_waited_for(logs: RunPaths) -> None:
    for path in (logs.stderr, logs.result):
        os.mkfifo(path)
    assert tail(logs.stderr) == ""
    assert read_result(logs.result)[0] is None
    assert "not a regular file" in read_result(logs.result)[1]
    with pytest.raises(NoSuchLog, match="not a regular file"):
        read_chunk(logs, "stderr", 0, 10, over=True)


def test_keys_go_through_text() -> None:
    key = RunKey('12."3', 2, 1, "n/1")
    assert key_from_text(key_text(key)) == key
    for text in ("", "{}", "[1]", "nonsense", "5"):
        with pytest.raises(ValueError, match=r"\w"):
            key_from_text(text)


def test_a_free_port_can_be_bound_and_is_not_promised_twice() -> None:
    first = free_port("127.0.0.1")
    assert free_port("127.0.0.1", frozenset({first})) != first
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", first))
    with pytest.raises(OSError, match="assign"):
        free_port("192.0.2.1")
