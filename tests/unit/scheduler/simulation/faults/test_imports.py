"""The fault simulation loads nothing that could reach a network, a disk, a process or a clock, not even unused.

What of ours is live there is logic; what it holds itself of the standard library is looked at module by module.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[5]

SCRIPT = """
import sys
import scheduler.service.loop

loop_needs = set(sys.modules)
import scheduler.simulation.faults.world

foreign = {"aiohttp", "asyncio", "fastapi", "httptools", "multiprocessing", "pydantic", "ray", "sqlalchemy", "torch"}
foreign |= {"uvicorn", "uvloop", "yaml", "_socket", "socket", "select", "selectors", "sqlite3", "ssl", "subprocess"}
assert not foreign & sys.modules.keys(), foreign & sys.modules.keys()
threads = {"_thread", "concurrent.futures.thread", "queue", "threading"}
assert not (threads & sys.modules.keys()) - loop_needs, "threads, and not by the service's loop"

held_by = {}
impure = {"ctypes", "datetime", "fcntl", "io", "os", "pathlib", "random", "secrets", "tempfile", "threading", "time"}
for name, module in sys.modules.items():
    if name.partition(".")[0] in ("scheduler", "node_agent"):
        for value in vars(module).values():
            if type(value) is type(sys) and value.__name__ in impure:
                held_by.setdefault(value.__name__, set()).add(name)
# The two doors for other threads, of which a service that runs without a thread opens none; and seeded chance.
assert held_by == {
    "threading": {"scheduler.service.loop", "scheduler.service.together"},
    "time": {"scheduler.service.loop"},
    "random": {"scheduler.simulation.faults.network"},
}, held_by
"""


def test_the_fault_simulation_loads_no_network_store_or_event_loop() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
