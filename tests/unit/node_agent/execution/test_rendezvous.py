"""What the workers of a gang are told for torch.distributed and torchrun, and what torchrun makes of it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from node_agent.execution.environment import allowed
from node_agent.execution.rendezvous import NAMES, OPEN, OURS, rendezvous
from node_agent.messages import RunKey
from scheduler.schema.job_models import is_reserved_env
from tests.fakes.agent_rig import spec

SPEC = spec("train", world_size=4)


def told(worker: int = 2, world_size: int = 4, devices: int = 8) -> dict[str, str]:
    return rendezvous(replace(SPEC, world_size=world_size), RunKey("7.1", 3, worker, "n1"), devices, "10.0.0.1", 29500)


def test_every_worker_is_alone_on_its_node() -> None:
    env = told()
    assert (env["RANK"], env["WORLD_SIZE"], env["LOCAL_RANK"], env["LOCAL_WORLD_SIZE"]) == ("2", "4", "0", "1")
    assert (env["GROUP_RANK"], env["GROUP_WORLD_SIZE"]) == ("2", "4")
    assert (env["ROLE_RANK"], env["ROLE_WORLD_SIZE"], env["ROLE_NAME"]) == ("2", "4", "default")
    assert (env["MASTER_ADDR"], env["MASTER_PORT"]) == ("10.0.0.1", "29500")


def test_a_replica_is_a_world_of_its_own() -> None:
    """Whatever its number in the service: rank 2 of 1 is none."""
    env = told(worker=2, world_size=1)
    ranks = [env[name] for name in ("RANK", "GROUP_RANK", "ROLE_RANK", "PET_NODE_RANK")]
    assert ranks == ["0"] * 4
    assert env["WORLD_SIZE"] == env["PET_NNODES"] == "1"


@pytest.mark.parametrize(("devices", "processes"), [(8, "8"), (1, "1"), (0, "1")])
def test_torchrun_starts_a_process_for_each_device(devices: int, processes: str) -> None:
    assert told(devices=devices)["PET_NPROC_PER_NODE"] == processes


def test_the_names_are_whole_and_kept_from_jobs_but_for_two() -> None:
    assert set(told()) == NAMES
    for name in OURS:
        assert not allowed(name)
        assert is_reserved_env(name)
    for name in OPEN:
        assert allowed(name)
        assert not is_reserved_env(name)


ASK_TORCHRUN = """
import json
from torch.distributed.run import get_args_parser
args = get_args_parser().parse_args(["train.py"])
names = ("nnodes", "node_rank", "nproc_per_node", "master_addr", "master_port", "rdzv_id", "rdzv_backend")
print(json.dumps({name: str(getattr(args, name)) for name in names}))
"""


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_torchrun_itself_reads_them_so() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK_TORCHRUN],
        env=os.environ | told(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "nnodes": "4",
        "node_rank": "2",
        "nproc_per_node": "8",
        "master_addr": "10.0.0.1",
        "master_port": "29500",
        "rdzv_id": "7.1-3",
        "rdzv_backend": "static",
    }
