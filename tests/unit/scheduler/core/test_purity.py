"""The core touches no clock, file, network, process or global source of chance: seen from inside the interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]

SCRIPT = """
import random, sys, time
import numpy as np
from tests.fakes.cluster_table import cluster, demand
from scheduler.core.explain import explain
from scheduler.core.plan import plan

table = cluster(nodes=4).nodes(2, 8, "s", simulated=True).policy(tie_seed=3)
table.run("r0", "n0", 8, priority=0, ends_in=50.0).run("r1", "n1", [0, 1], priority=2).run("r2", "n2", 7, priority=0)
table.run("gone", "n3", 8, stopping=True)
table.unschedulable("s1", "draining: fan")
table.submit("urgent", devices=8, workers=2, priority=9)
table.submit("big", demand(8, model="H100 SXM"), demand(4), workers=4, limit=None)
table.submit("share", share=0.25).submit("sim", simulated=True, workers=(1, 9)).submit("never", devices=99)
table.submit("second", devices=8, may_preempt=False).submit("cpu", devices=0)
queue = table.queue

def forbidden(*args, **kwargs):
    raise RuntimeError("a clock or a global source of chance was asked")

for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep", "localtime"):
    setattr(time, name, forbidden)
for module in (random, np.random):
    for name in dir(module):
        if not name.startswith("_") and callable(getattr(module, name)) and not isinstance(getattr(module, name), type):
            setattr(module, name, forbidden)
np.random.default_rng = forbidden

seen = []
quiet = {"object.__getattr__", "object.__setattr__", "object.__delattr__"}
quiet |= {"sys._getframe", "code.__new__", "builtins.id"}

def hook(event, args):
    if watching and event not in quiet:
        seen.append((event, repr(args)[:200]))

watching = False
sys.addaudithook(hook)
watching = True
made = plan(table.state, queue, table.settings, now_s=1000.0)
answers = [explain(table.state, queue, table.settings, job, now_s=1000.0) for job in queue.pending]
watching = False
assert made.starts and made.reasons and made.preemptions, made
assert not seen, seen
print("pure", len(made.starts), len(answers))
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=False, text=True, timeout=60
    )


def test_planning_and_explaining_raise_no_audit_event_and_ask_no_clock_nor_chance() -> None:
    done = run(SCRIPT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pure ")


def test_the_hook_would_see_a_file_being_opened() -> None:
    done = run(SCRIPT.replace("answers = [", "open('/dev/null').close(); answers = ["))
    assert done.returncode != 0
    assert "/dev/null" in done.stderr


def test_the_core_imports_numpy_and_the_standard_library_alone() -> None:
    script = """
import importlib, pkgutil, sys
import numpy
before = set(sys.modules)
import scheduler.core
for module in pkgutil.iter_modules(scheduler.core.__path__):
    importlib.import_module(f"scheduler.core.{module.name}")
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(*sorted(n for n in new if n not in sys.stdlib_module_names and n not in ("scheduler", "numpy")))
print(*sorted(n for n in sys.modules if n.startswith("scheduler.") and not n.startswith("scheduler.core")))
"""
    done = run(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
