"""Two workers of a gang really meet: by torch.distributed as they are started, and through torchrun."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from node_agent.messages import Exited, Prepare, Prepared, Release
from tests.fakes.agent_rig import agent, config, key, spec

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed"),
    pytest.mark.timeout(400),
]

TRAIN = """
import json, os
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
total = torch.tensor([2.0 ** dist.get_rank()])
dist.all_reduce(total)
told = {"rank": dist.get_rank(), "size": dist.get_world_size(), "total": total.item()}
told["local"] = [int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK")]
with open(f"{os.environ['OUT']}/rank-{dist.get_rank()}.json", "w") as file:
    json.dump(told, file)
dist.destroy_process_group()
"""


def meet(place: Path, *command: str, env: tuple[tuple[str, str], ...] = ()) -> list[dict[str, object]]:
    """What each rank wrote, by rank."""
    (place / "train.py").write_text(TRAIN)
    out = place / "out"
    out.mkdir()

    async def scene() -> None:
        async with agent(config(place)) as a:
            keys = [key(worker=0), key(worker=1)]
            what = spec(*command, str(place / "train.py"), world_size=2, env=(("OUT", str(out)), *env), cpus_milli=0)
            await a.perform([Prepare(1, each, what, release=False) for each in keys])
            first, _ = [await a.until(Prepared, each) for each in keys]
            await a.perform([Release(1, each, first.address, first.master_port) for each in keys])
            for each in keys:
                exited = await a.until(Exited, each, within_s=300.0)
                assert (exited.how, exited.code) == ("exit", 0), exited.detail

    asyncio.run(asyncio.wait_for(scene(), 390.0))
    return [json.loads(path.read_text()) for path in sorted(out.iterdir())]


def test_two_workers_are_a_group(place: Path) -> None:
    assert meet(place, sys.executable, "-u") == [
        {"rank": 0, "size": 2, "total": 3.0, "local": [0, 1, 0]},
        {"rank": 1, "size": 2, "total": 3.0, "local": [0, 1, 1]},
    ]


def test_two_workers_are_two_nodes_of_torchrun(place: Path) -> None:
    """Each with two processes, as a worker with two devices has."""
    env = (("PET_NPROC_PER_NODE", "2"),)
    assert meet(place, sys.executable, "-m", "torch.distributed.run", env=env) == [
        {"rank": rank, "size": 4, "total": 15.0, "local": [rank % 2, 2, rank // 2]} for rank in range(4)
    ]
