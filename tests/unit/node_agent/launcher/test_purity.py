"""The launcher's logic touches no file, process, socket, thread or clock itself: seen from within the interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fakes.launcher_rig import ROOT

SCRIPT = """
import os, signal, sys, time
from node_agent.launcher import ends, journal, lease, memory, ports, records, signals, supervisor
from scheduler.simulation.faults import virtual_journal, virtual_processes
from scheduler.simulation.faults.virtual_processes import Behaviour, Exits
from tests.fakes.virtual_launcher import VirtualLauncher

pure = (ends, journal, lease, memory, ports, records, signals, supervisor, virtual_journal, virtual_processes)
impure = {"os", "io", "time", "socket", "select", "selectors", "subprocess", "threading", "fcntl", "ctypes", "pathlib"}
for module in pure:
    held = {getattr(value, "__name__", "") for value in vars(module).values() if type(value) is type(sys)}
    assert not held & impure, (module, held)

def forbidden(*args, **kwargs):
    raise RuntimeError("a clock was asked")

for name in dir(time):
    if callable(getattr(time, name)) and not isinstance(getattr(time, name), type):
        setattr(time, name, forbidden)

seen = []
quiet = {"object.__getattr__", "object.__setattr__", "object.__delattr__"}
quiet |= {"sys._getframe", "code.__new__", "builtins.id"}

def hook(event, args):
    if watching and event not in quiet:
        seen.append((event, repr(args)[:200]))

watching = False
sys.addaudithook(hook)
watching = True

rig = VirtualLauncher(ports.Limits(True, True)).start()
rig.supervisor.check_epoch(1)
rig.launch("ends", Behaviour(life=Exits(1.0, 3)))
pid = rig.launch("trains", Behaviour(term="ignored", usr1="handled"), memory_bytes=1 << 30)
rig.processes.fork(pid)
rig.launch("serves", lease_bound=False)
rig.launch("adopted", Behaviour(life=Exits(5.0, 0)))
assert rig.supervisor.send_signal("trains", signal.SIGUSR1, ask=True)
rig.advance(2.0)
rig.supervisor.forget("ends")
rig.kill()
rig.start()
rig.advance(5.0)
rig.file.full = True
refused = rig.ask("more")
rig.renew(10.0)
rig.file.full = False
rig.advance(30.0)
rig.supervisor.close_down(1.0)
rig.advance(2.0)
assert rig.supervisor.kill_leftovers()
rig.power_off(rig.file.unsynced_bytes // 2)
rig.start()
watching = False

assert rig.supervisor.epoch == 1
assert [row[1:3] for row in rig.exits] == [
    ("ends", "exit"), ("adopted", "unknown"), ("trains", "lease"), ("serves", "lease"),
    ("trains", "unknown"), ("serves", "unknown"),  # their ends were not synced when the power failed
], rig.exits
assert isinstance(refused, supervisor.Rejected), refused
assert not seen, seen
print("pure")
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", script]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, check=False, text=True, timeout=60)


def test_a_launcher_s_whole_life_raises_no_audit_event_and_asks_no_clock() -> None:
    done = run(SCRIPT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "pure\n"


@pytest.mark.parametrize(
    ("done_meanwhile", "said"),
    [
        ("open('/dev/null').close()", "/dev/null"),
        ("os.kill(os.getpid(), 0)", "os.kill"),
        ("time.monotonic()", "a clock was asked"),
    ],
)
def test_the_hook_would_see_it(done_meanwhile: str, said: str) -> None:
    done = run(SCRIPT.replace("rig.kill()", f"{done_meanwhile}; rig.kill()"))
    assert done.returncode != 0
    assert said in done.stderr
