"""The core touches no clock, file, network, process or global source of chance: seen from inside the interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]

SCRIPT = """
import random, sys, time
from dataclasses import replace
import numpy as np
from tests.fakes.cluster_table import cluster, demand
from scheduler.core.demand import Level
from scheduler.core.explain import explain
from scheduler.core.packing.policies import PACKINGS
from scheduler.core.packing.shapes import Shape, TypicalShapes
from scheduler.core.plan import plan

table = cluster(nodes=4, rack="r0", island=["x"] * 4 + ["y"] * 4).nodes(2, 8, "s", simulated=True)
table.nodes(2, 8, "m", model="A100", rack="r1", mig=[None] * 6 + ["1g.10gb"] * 2, labels={"disk": "ssd"})
table.policy(tie_seed=3, min_run_before_growth_s=0.0)
table.tenant("lab", guaranteed=8, used=0.2).tenant("bulk", guaranteed=1, maximum=24).tenant("few", running=0)
table.reserve("night", "n3", 60.0, 60.0).reserve("now", "m0", -5.0, 500.0)
table.run("r0", "n0", 8, priority=0, ends_in=50.0, tenant="bulk").run("r1", "n1", [0, 1], priority=2, name="web")
table.run("r2", "n2", 7, priority=0).run("gone", "n3", 8, stopping=True).run("old", "n1", [2], priority=1, preempted=2)
table.run("elastic", "s0", [0], simulated=True, workers_max=4, alternatives=(demand(1, simulated=True, node="s0"),))
for i in range(3):
    table.run("service", "n1", [3 + i], priority=5, ends_in=None, workers_wanted=1)
table.unschedulable("s1", "draining: fan").unschedulable("m1", "down")
table.submit("urgent", devices=8, workers=2, priority=9)
table.submit("big", demand(8, model="H100 SXM"), demand(4), workers=4, limit=None)
table.submit("share", share=0.25).submit("sim", simulated=True, workers=(1, 9), node="s1").submit("never", devices=99)
table.submit("second", devices=8, may_preempt=False).submit("cpu", devices=0).submit("mig", mig="1g.10gb", limit=30.0)
table.submit("lab", devices=8, tenant="lab").submit("borrow", devices=8, workers=4, tenant="bulk")
table.submit("limited", tenant="few").submit("later", reservation="night")
table.submit("inside", reservation="now", limit=1e3).submit("in", devices=2, reservation="now", limit=10.0)
table.submit("soon", devices=4, model="A100", labels={"disk": "ssd"}).submit("apart", apart_from=("web",), node="n1")
table.submit("near", workers=3, within=Level.ISLAND, devices=2).submit("wide", workers=2, one_per=Level.RACK, devices=8)
table.submit("spread", workers=2, spread=Level.NODE, beside=("n1", "n0"))
table.submit("slo", devices=4, holds_slo=True, priority=3, limit=None).submit("due", due_in=5.0, waited=1e6, devices=3)
queue = table.kept
small = cluster(nodes=1).nodes(1, 8, "a", model="A100").policy(preemption=False).tenant("lab", guaranteed=8)
small.run("r", "n0", 6, ends_in=100.0, tenant="bulk").run("s", "a0", 5, ends_in=None, tenant="bulk")
small.submit("first", devices=8, model="H100 SXM").submit("slips", devices=2, model="H100 SXM", limit=None)
small.submit("many", workers=9, model="A100").submit("other", devices=3, model="H100 SXM")
small.submit("near", workers=4, within=Level.NODE).submit("lab", devices=8, tenant="lab")
typical = TypicalShapes.of_counts({Shape(1_000, 1, 250): 3.0, Shape(1_000, 8, 1_000): 1.0})
settings = [replace(table.settings, packing=name) for name in PACKINGS]
settings += [replace(table.settings, backfill=backfill) for backfill in ("conservative", "none")]
fresh = [table.state.copy() for _ in settings]
for state in fresh[1:]:
    state.set_shapes(typical)

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
made = [plan(state, queue, each, now_s=1000.0) for state, each in zip(fresh, settings)]
answers = [explain(table.state, queue, settings[0], job, now_s=1000.0) for job in queue.pending]
answers += [explain(small.state, small.kept, small.settings, job, now_s=1000.0) for job in small.kept.pending]
figure = fresh[1].fragmentation()
watching = False
for each in made:
    assert each.starts and each.reasons and each.preemptions and each.releases and each.resizes, each
    assert len({type(each.reasons[job_id]) for job_id in each.reasons}) >= 7, dict(each.reasons)
kinds = {change.kind for answer in answers for change in answer.changes}
assert kinds >= {"workers", "device", "devices", "time_limit", "pin", "constraint", "resume", "reclaim"}, kinds
assert figure.share is not None
assert not seen, seen
print("pure", len(made[0].starts), len(answers), kinds, {type(r).__name__ for r in dict(made[0].reasons).values()})
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
    done = run(SCRIPT.replace("figure = ", "open('/dev/null').close(); figure = "))
    assert done.returncode != 0
    assert "/dev/null" in done.stderr


def test_the_core_imports_numpy_and_the_standard_library_alone() -> None:
    script = """
import importlib, pkgutil, sys
import numpy
before = set(sys.modules)
import scheduler.core
for module in pkgutil.walk_packages(scheduler.core.__path__, "scheduler.core."):
    importlib.import_module(module.name)
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(*sorted(n for n in new if n not in sys.stdlib_module_names and n not in ("scheduler", "numpy")))
print(*sorted(n for n in sys.modules if n.startswith("scheduler.") and not n.startswith("scheduler.core")))
"""
    done = run(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
