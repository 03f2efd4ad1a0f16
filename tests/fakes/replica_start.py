"""How long is it from Prepare to Ready? `python -m tests.fakes.replica_start [noop|mlp|torch]`: through a real agent
and a real launcher, once as the first of its kind, then from warm interpreters.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from node_agent.messages import LaunchSpec, Ready, Started
from tests.fakes.agent_rig import Listener, agent, alone, config, key, spec

EXAMPLES = Path(__file__).parents[2] / "examples"
TORCH = """
import torch

class Linear:
    def load(self):
        self.layer = torch.nn.Linear(8, 8)
    def predict(self, batch):
        return self.layer(torch.tensor(batch)).tolist()
"""
WARM_AFTER_S = 8.0  # a moment for the next one to import what it needs
REPEATS = 4


def model(name: str, place: Path) -> LaunchSpec:
    if name == "torch":
        path, made = place / "linear.py", "Linear"
        path.write_text(TORCH)
    else:
        path, made = EXAMPLES / f"serve_{name}.py", name.capitalize()
    return spec(model_path=str(path), model_class=made, serves=True, lease_bound=False, kind="inference")


async def start(listener: Listener, what: LaunchSpec, job: str) -> str:
    began_s = time.perf_counter()
    await listener.perform([alone(key(job), what)])
    started = await listener.until(Started, key(job))
    await listener.until(Ready, key(job), within_s=60.0)
    took_ms = (time.perf_counter() - began_s) * 1e3
    warm = b"node_agent.serving.warm" in Path(f"/proc/{started.pid}/cmdline").read_bytes()  # noqa: ASYNC240
    return f"{'warm' if warm else 'cold'} {took_ms:.0f} ms"


async def main(name: str) -> None:
    place = Path(tempfile.mkdtemp(prefix="suanli-start-", dir="/tmp"))
    try:
        what = model(name, place)
        async with agent(config(place)) as listener:
            for number in range(REPEATS):
                print(name, await start(listener, what, str(number + 1)), flush=True)
                await asyncio.sleep(WARM_AFTER_S)
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "mlp"))
