"""What the launcher does with a run: starts it once, tells its true end, leaves nothing of it behind."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.fakes.launcher_rig import LauncherRig
from tests.fakes.processes import eventually, lives, number_in


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ("exit 0", ("exit", 0)),
        ("exit 3", ("exit", 3)),
        ("kill -TERM $$", ("signal", 15)),
        ("kill -KILL $$", ("signal", 9)),
    ],
)
def test_the_end_is_told_as_it_was(rig: LauncherRig, script: str, outcome: tuple[str, int]) -> None:
    rig.start().launch("a", script)
    assert rig.outcome("a") == outcome


def test_the_end_is_pushed_soon_after_it_happened(rig: LauncherRig) -> None:
    rig.start().launch("a", "true")
    end = rig.ended("a")
    assert time.time() - end.at_s < 5.0  # milliseconds on an idle machine


def test_ends_are_kept_until_forgotten(rig: LauncherRig) -> None:
    rig.start().launch("a", "exit 5")
    rig.ended("a")
    record = rig.table()["a"]
    assert record.exit is not None
    assert (record.exit.code, record.tag) == (5, "tag of a")
    assert rig.ask("forget", key="a")["ok"]
    assert rig.table() == {}


def test_a_living_run_is_not_forgotten(rig: LauncherRig) -> None:
    rig.start().launch("a", "exec sleep 60")
    assert rig.ask("forget", key="a")["kind"] == "alive"


def test_a_key_is_started_once(rig: LauncherRig) -> None:
    rig.start()
    pids = {rig.launch("a", "echo x >>count; exec sleep 60") for _ in range(3)}
    assert len(pids) == 1
    eventually(lambda: (rig.directory / "count").exists() and (rig.directory / "count").read_text())
    assert (rig.directory / "count").read_text() == "x\n"


def test_a_forgotten_key_stays_used(rig: LauncherRig) -> None:
    rig.start().launch("a", "true")
    rig.ended("a")
    rig.ask("forget", key="a")
    answer = rig.ask("launch", order=rig.order("a", "true").to_json())
    assert (answer["ok"], answer["kind"]) == (False, "refused")
    rig.stop()
    rig.start()
    assert not rig.ask("launch", order=rig.order("a", "true").to_json())["ok"]


def test_what_the_node_cannot_start_is_an_answer_and_no_event(rig: LauncherRig) -> None:
    answer = rig.start().ask("launch", order=rig.order("a", "true", cwd="/no/such").to_json())
    assert (answer["ok"], answer["kind"]) == (False, "never_started")
    assert "No such file" in answer["error"]
    rig.launch("b", "true")
    assert rig.outcome("b") == ("exit", 0)


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def test_a_command_that_cannot_be_executed_ends_with_126_and_says_why(rig: LauncherRig) -> None:
    executable(rig.directory / "plain", "echo hello\n")
    executable(rig.directory / "lost", "#!/no/such/interpreter\n")
    shutil.copy("/bin/true", rig.directory / "busy")
    (rig.directory / "directory").mkdir()
    rig.start()
    with open(rig.directory / "busy", "ab"):
        for name, said in (
            ("plain", "Exec format error; give it a #! line or run it by its interpreter"),
            ("lost", "the interpreter that its #! line names, does not exist"),
            ("busy", "Text file busy; it is still open for writing"),
            ("directory", "Permission denied; make it executable"),
        ):
            answer = rig.ask("launch", order=rig.order(name, f"./{name}", "x").to_json())
            assert answer["ok"], answer
            end = answer["run"]["exit"]
            assert (answer["run"]["pid"], end["how"], end["code"]) == (None, "exit", 126)
            assert end["detail"].startswith(f"cannot be executed: ./{name}: ")
            assert said in end["detail"]
    rig.kill()
    assert rig.start().table()["plain"].exit is not None


@pytest.mark.timeout(20)
def test_a_log_that_is_a_fifo_does_not_hold_the_launcher(rig: LauncherRig) -> None:
    os.mkfifo(rig.directory / "a.out")
    answer = rig.start().ask("launch", order=rig.order("a", "true").to_json())
    assert "is not a regular file" in answer["error"]
    rig.launch("b", "true")
    assert rig.outcome("b") == ("exit", 0)


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "dance"},
        {"op": "launch"},
        {"op": "launch", "order": {"key": 5}},
        {"op": "renew"},
        {"op": "renew", "lease_s": 0.0, "stamp_s": 1.0},
        {"op": "renew", "lease_s": 5.0},
        {"op": "renew", "lease_s": 5.0, "stamp_s": float("nan")},
        {"op": "signal"},
    ],
)
def test_nonsense_is_refused_and_does_no_harm(rig: LauncherRig, request_: dict[str, object]) -> None:
    rig.start()
    fields = {name: value for name, value in request_.items() if name != "op"}
    assert rig.ask(str(request_["op"]), **fields)["kind"] == "bad_request"
    assert rig.table() == {}


def test_a_run_finds_only_what_it_was_given(rig: LauncherRig) -> None:
    script = "env | cut -d= -f1 | sort >names; readlink /proc/self/fd/0 >stdin; ls -1 /proc/self/fd | wc -l >fds"
    pid = rig.start().launch("a", f"{script}; echo out; echo err >&2; ps -o sid= -p $$ >session")
    assert rig.outcome("a") == ("exit", 0)
    here = rig.directory
    assert {"PATH", "HERE", "SUANLI_RESULT_FILE"} <= set((here / "names").read_text().split())
    assert set((here / "names").read_text().split()) <= {
        "PATH",
        "HERE",
        "SUANLI_RESULT_FILE",
        "PWD",
        "SHLVL",
        "_",
        "OLDPWD",
    }
    assert (here / "stdin").read_text().strip() == "/dev/null"
    assert int((here / "fds").read_text()) <= 4  # 0, 1, 2 and the directory that ls reads
    assert int((here / "session").read_text()) == pid
    assert ((here / "a.out").read_text(), (here / "a.err").read_text()) == ("out\n", "err\n")


def test_logs_are_appended_to(rig: LauncherRig) -> None:
    (rig.directory / "a.out").write_text("before\n")
    rig.start().launch("a", "echo after")
    rig.ended("a")
    assert (rig.directory / "a.out").read_text() == "before\nafter\n"


def test_many_at_once_all_end(rig: LauncherRig) -> None:
    rig.start()
    keys = [f"r{number}" for number in range(60)]
    for number, key in enumerate(keys):
        rig.launch(key, f"exit {number}")
    assert [rig.outcome(key) for key in keys] == [("exit", number) for number in range(60)]


# ---- nothing stays behind --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "background",
    ["sleep 300 & echo $! >bg", "setsid sleep 300 & echo $! >bg", "(setsid sh -c 'echo $$ >bg; sleep 300' &)"],
    ids=["same session", "own session", "own session, nobody's child"],
)
def test_what_a_run_leaves_in_the_background_is_ended(rig: LauncherRig, background: str) -> None:
    rig.start().launch("a", f"{background}; while [ ! -s bg ]; do sleep 0.01; done")
    rig.ended("a")
    pid = number_in(rig.directory / "bg")
    eventually(lambda: not lives(pid), "the end of the background process")


def test_a_neighbours_background_is_left_alone(rig: LauncherRig) -> None:
    rig.start().launch("a", "(setsid sh -c 'echo $$ >bg; exec sleep 300' &); exec sleep 300")
    pid = eventually(lambda: number_in(rig.directory / "bg"))
    rig.launch("b", "true")
    rig.ended("b")
    rig.launch("c", "true")
    rig.ended("c")
    assert lives(pid)


def test_sigterm_ends_everything_and_leaves_no_file(rig: LauncherRig) -> None:
    rig.start()
    stubborn = rig.launch("a", "trap '' TERM; sleep 300 & echo $! >bg; while :; do sleep 0.05; done")
    gentle = rig.launch("b", "trap 'echo bye >bye; exit 0' TERM; echo x >up; while :; do sleep 0.02; done")
    eventually((rig.directory / "up").exists)
    background = eventually(lambda: number_in(rig.directory / "bg"))
    assert rig.stop() == 0
    assert not any(map(lives, (stubborn, gentle, background)))
    assert (rig.directory / "bye").exists()
    assert list((rig.directory / "r").iterdir()) == []


# ---- signals ---------------------------------------------------------------------------------------------------------


def test_signals_reach_the_whole_group(rig: LauncherRig) -> None:
    rig.start().launch("a", "sleep 300 & echo $! >bg; wait")
    background = eventually(lambda: number_in(rig.directory / "bg"))
    assert rig.ask("signal", key="a", signal=int(signal.SIGTERM))["delivered"]
    assert rig.outcome("a") == ("signal", 15)
    eventually(lambda: not lives(background))
    assert not rig.ask("signal", key="a", signal=int(signal.SIGTERM))["delivered"]


def test_asking_for_a_checkpoint_kills_nobody_and_waits_for_the_program(rig: LauncherRig) -> None:
    """The shell would die of SIGUSR1 before its child had saved; the child has not set its handler yet when asked."""
    program = (
        "import os, signal, time; time.sleep(0.3)\n"
        "def save(*_): open('saved', 'w').close(); os._exit(0)\n"
        "signal.signal(signal.SIGUSR1, save)\n"
        "while True: signal.pause()\n"
    )
    (rig.directory / "program.py").write_text(program)
    rig.start().launch("a", f"{sys.executable} program.py; exit 4")
    assert rig.ask("signal", key="a", signal=int(signal.SIGUSR1))["delivered"]
    assert rig.outcome("a") == ("exit", 4)
    assert (rig.directory / "saved").exists()


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGHUP, signal.SIGTERM])
def test_any_signal_that_a_program_catches_can_ask_it(rig: LauncherRig, number: signal.Signals) -> None:
    """The shell above it would die of each of them."""
    program = (
        "import os, signal, time\n"
        f"signal.signal({int(number)}, lambda *_: os._exit(0))\n"
        "open('up', 'w').close()\n"
        "while True: signal.pause()\n"
    )
    (rig.directory / "program.py").write_text(program)
    rig.start().launch("a", f"{sys.executable} program.py; exit 4")
    eventually((rig.directory / "up").exists)
    assert rig.ask("signal", key="a", signal=int(number), ask=True)["delivered"]
    assert rig.outcome("a") == ("exit", 4)


def test_a_signal_that_does_not_ask_goes_to_everybody(rig: LauncherRig) -> None:
    """SIGUSR1 too, if it is said so: by itself it asks, as it always did."""
    rig.start().launch("a", "exec sleep 300")
    assert rig.ask("signal", key="a", signal=int(signal.SIGUSR1))["delivered"]
    assert rig.table()["a"].exit is None
    assert rig.ask("signal", key="a", signal=int(signal.SIGUSR1), ask=False)["delivered"]
    assert rig.outcome("a") == ("signal", 10)


# ---- what the kernel denies ------------------------------------------------------------------------------------------

DENIED = """
import os, sys
from node_agent.launcher import __main__, supervisor
sys.stderr = open(os.environ["HERE"] + "/said", "w")
def denied(*_): raise PermissionError(1, "Operation not permitted")
os.killpg = denied
failing = {"reap": 2, "on_time": 2}
def faulty(name, real):
    def method(self):
        if failing[name]:
            failing[name] -= 1
            raise OSError(5, "Input/output error")
        real(self)
    return method
for name in failing:
    setattr(supervisor.Supervisor, name, faulty(name, getattr(supervisor.Supervisor, name)))
sys.exit(__main__.main())
"""


class Denied(LauncherRig):
    """A launcher that may not signal any group, and whose first looks fail."""

    def command(self, lease_s: float = 60.0) -> list[str]:
        return [sys.executable, "-c", DENIED, *super().command(lease_s)[3:]]


def test_the_launcher_survives_what_the_kernel_denies(rig: LauncherRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", str(rig.directory))
    denied = Denied(rig.directory)
    denied.start()
    try:
        for number in range(3):
            denied.launch(f"a{number}", f"exit {number}")
            assert denied.outcome(f"a{number}") == ("exit", number)
        denied.launch("b", "echo x >up; exec sleep 300")
        eventually((rig.directory / "up").exists)
        assert denied.ask("signal", key="b", signal=int(signal.SIGTERM))["ok"]
        assert denied.ask("signal", key="b", signal=int(signal.SIGKILL))["ok"]
        assert denied.outcome("b") == ("signal", 9)
    finally:
        denied.close()
    said = (rig.directory / "said").read_text()
    assert said.count("no process of a run's group could be signalled") == 1
    assert "Input/output error" in said


# ---- memory ----------------------------------------------------------------------------------------------------------


def eat(mebibytes: int) -> tuple[str, ...]:
    return (sys.executable, "-c", f"import time; x = bytearray({mebibytes} << 20); time.sleep(300)")


def test_a_run_over_its_memory_is_ended_and_its_neighbour_is_not(rig: LauncherRig) -> None:
    rig.start()
    frugal = rig.launch("frugal", *eat(8), memory_bytes=256 << 20)
    rig.launch("greedy", *eat(200), memory_bytes=64 << 20)
    how, _ = rig.outcome("greedy")
    assert how == "out_of_memory"
    assert "64 MiB" in rig.ended("greedy").detail
    assert lives(frugal)


def test_memory_of_all_processes_of_a_run_counts(rig: LauncherRig) -> None:
    python, *rest = eat(40)
    child = " ".join([python, rest[0], f"'{rest[1]}'"])
    rig.start().launch("a", f"{child} & {child} & {child} & wait", memory_bytes=100 << 20)
    assert rig.outcome("a")[0] == "out_of_memory"


def test_a_limit_of_nothing_is_no_limit(rig: LauncherRig) -> None:
    rig.start().launch("a", sys.executable, "-c", "import time; x = bytearray(100 << 20); time.sleep(0.6)")
    assert rig.outcome("a") == ("exit", 0)


def test_a_signal_of_our_own_is_no_memory_kill(rig: LauncherRig) -> None:
    rig.start().launch("a", "exec sleep 300")
    rig.ask("signal", key="a", signal=int(signal.SIGKILL))
    assert rig.outcome("a") == ("signal", 9)


def test_files_are_for_this_user_alone(rig: LauncherRig) -> None:
    rig.start().launch("a", "true")
    rig.ended("a")
    for path in (rig.paths.socket, rig.paths.pid, rig.journal, rig.directory / "a.out"):
        assert Path(path).stat().st_mode & 0o077 == 0, path
    assert rig.paths.socket.parent.stat().st_mode & 0o777 == 0o700
    assert rig.process is not None
    assert f'"pid": {rig.process.pid}' in rig.paths.pid.read_text()
    assert os.getpid() != rig.process.pid


def test_a_program_that_waits_for_the_signal_without_a_handler_gets_it(rig: LauncherRig) -> None:
    program = (
        "import os, signal, threading, time\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\n"
        "def wait(): signal.sigwait({signal.SIGUSR1}); os._exit(6)\n"
        "threading.Thread(target=wait).start()\n"
        "time.sleep(300)\n"
    )
    rig.start().launch("a", sys.executable, "-c", program)
    rig.ask("signal", key="a", signal=int(signal.SIGUSR1))
    assert rig.outcome("a") == ("exit", 6)
