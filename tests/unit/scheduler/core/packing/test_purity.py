"""Packing touches no clock, file, network or global source of chance: seen from inside the interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[5]

SCRIPT = """
import sys
import scheduler.core.packing.scorer
from scheduler.core.packing.stranding import stranded_share
from scheduler.core.packing.policies import PACKINGS
from scheduler.core.packing.shapes import Shape, ShapeHistory, TypicalShapes
from tests.fakes.packing_table import packing_table

history = ShapeHistory(half_life_s=60.0)
for n, shape in enumerate([Shape(4000, 1, 1000), Shape(2000, 1, 300), Shape(9000, 2, 1000, frozenset({"T4"}))] * 3):
    history.saw(shape, now_s=float(n))
table = packing_table("1000 1000, 32 CPUs", "1000 700, model T4", "1000", typical=history.typical(now_s=10.0))
asks = [table.ask(devices=1, cpus_milli=1000), table.ask(share_milli=300), table.ask(cpus_milli=1)]
asks += [table.ask(share_milli=100, usable=[[True, False]] * 3)]
seen, watching = [], False
quiet = {"object.__getattr__", "object.__setattr__", "object.__delattr__", "sys._getframe", "code.__new__"}

def hook(event, args):
    if watching and event not in quiet:
        seen.append((event, repr(args)[:200]))

sys.addaudithook(hook)
watching = True
placed = 0
for name in PACKINGS:
    scorer = table.scorer(name)
    for ask in asks * 2:
        row = scorer.best(table.free, ask, workers=1)
        if row is not None:
            table.free.take(row, scorer.devices(table.free, row, ask), ask)
            placed += 1
    scorer.best(table.free, asks[0], workers=2), scorer.best(table.free, asks[1], workers=2)
    stranded_share(table.typical, table.kinds, table.free)
watching = False
assert not seen, seen
print("pure", placed)
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=False, text=True, timeout=60
    )


def test_packing_raises_no_audit_event() -> None:
    done = run(SCRIPT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pure ")


def test_the_hook_would_see_a_file_being_opened() -> None:
    done = run(SCRIPT.replace("placed = 0\n", "placed = 0\nopen('/dev/null').close()\n"))
    assert done.returncode != 0
    assert "/dev/null" in done.stderr
