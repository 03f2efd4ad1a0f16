"""The environment that a run finds: exactly what it is promised, and nothing of the agent's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from node_agent.devices.source import Device
from node_agent.execution.accounts import Account
from node_agent.execution.environment import RunFacts, run_environment
from node_agent.execution.logs import RunPaths
from node_agent.messages import LaunchSpec, RunKey

KEY = RunKey("12.3", 2, 1, "n1")
CARD = Device(4, "GPU-e", "H100 SXM", "nvidia", 80 << 30, False, "GPU-e")
SPEC = LaunchSpec(
    argv=("train",),
    model_path=None,
    model_class=None,
    env=(("EPOCHS", "3"),),
    working_dir="/data",
    checkpoint_dir="/ckpt",
    resume_from="/ckpt/12.3/attempt-1",
    device_indices=(4,),
    share_milli=0,
    cpus_milli=2500,
    memory_bytes=0,
    world_size=2,
    grace_s=10.0,
    lease_bound=True,
    serves=False,
    job_name="loss-falls",
    tenant="studio",
    kind="training",
)
FACTS = RunFacts(
    devices=[CARD],
    visibility={"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "GPU-e"},
    simulated=False,
    paths=RunPaths(Path("/state/run")),
    master_addr="10.0.0.1",
    master_port=29500,
    port=None,
    address="10.0.0.2",
)
AGENT = {
    "PATH": "/usr/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TZ": "Asia/Shanghai",
    "RAY_AUTH_TOKEN_PATH": "/secret",
    "PYTHONPATH": "/agent",
    "AWS_SECRET": "x",
}


def test_the_whole_of_it() -> None:
    assert run_environment(SPEC, KEY, FACTS, AGENT) == {
        "PATH": "/usr/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TZ": "Asia/Shanghai",
        "EPOCHS": "3",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "2",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "GPU-e",
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "GROUP_RANK": "1",
        "GROUP_WORLD_SIZE": "2",
        "ROLE_NAME": "default",
        "ROLE_RANK": "1",
        "ROLE_WORLD_SIZE": "2",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "29500",
        "PET_NNODES": "2",
        "PET_NODE_RANK": "1",
        "PET_NPROC_PER_NODE": "1",
        "PET_MASTER_ADDR": "10.0.0.1",
        "PET_MASTER_PORT": "29500",
        "PET_RDZV_ID": "12.3-2",
        "SUANLI_JOB_ID": "12.3",
        "SUANLI_JOB_NAME": "loss-falls",
        "SUANLI_ATTEMPT": "2",
        "SUANLI_WORKER": "1",
        "SUANLI_NODE": "n1",
        "SUANLI_TENANT": "studio",
        "SUANLI_KIND": "training",
        "SUANLI_DEVICES": "GPU-e",
        "SUANLI_DEVICE_MODEL": "H100 SXM",
        "SUANLI_DEVICE_VENDOR": "nvidia",
        "SUANLI_SIMULATED": "0",
        "SUANLI_RESULT_FILE": "/state/run/result.json",
        "SUANLI_CHECKPOINT_DIR": "/ckpt/12.3/attempt-2",
        "SUANLI_CHECKPOINT_ACK": "/state/run/checkpoint-ack",
        "SUANLI_CHECKPOINT_SIGNAL": "SIGUSR1",
        "SUANLI_RESUME_FROM": "/ckpt/12.3/attempt-1",
    }


def test_a_replica_is_told_where_to_listen_and_to_say_so() -> None:
    spec = replace(SPEC, serves=True, env=(("SUANLI_REPLICA_SECRET", "s"), ("SUANLI_ARRAY_INDEX", "4")))
    env = run_environment(spec, KEY, replace(FACTS, port=8123), AGENT)
    told = ("SUANLI_READY_FILE", "SUANLI_PORT", "SUANLI_BIND_HOST", "SUANLI_REPLICA_SECRET", "SUANLI_ARRAY_INDEX")
    assert [env[name] for name in told] == ["/state/run/ready", "8123", "10.0.0.2", "s", "4"]


@pytest.mark.parametrize(
    "name",
    [
        *("RANK", "WORLD_SIZE", "MASTER_ADDR", "GROUP_RANK", "LOCAL_WORLD_SIZE", "PET_NNODES", "PET_NODE_RANK"),
        *("CUDA_VISIBLE_DEVICES", "SUANLI_NODE", "SUANLI_SIMULATED"),
    ],
)
def test_a_job_cannot_say_who_it_is(name: str) -> None:
    plain = run_environment(SPEC, KEY, FACTS, AGENT)
    assert run_environment(replace(SPEC, env=((name, "mine"),)), KEY, FACTS, AGENT)[name] == plain[name]


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "SUANLI_ANYTHING", "SUANLI_INSTANCE", "LOCAL_RANK"])
def test_what_is_not_a_jobs_to_set_does_not_come_from_it(name: str) -> None:
    assert run_environment(replace(SPEC, env=((name, "mine"),)), KEY, FACTS, AGENT).get(name) != "mine"


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "OMP_NUM_THREADS", "PYTHONPATH", "PYTHONUNBUFFERED", "PET_NPROC_PER_NODE"]
)
def test_a_job_may_set_the_rest(name: str) -> None:
    assert run_environment(replace(SPEC, env=((name, "mine"),)), KEY, FACTS, AGENT)[name] == "mine"


def test_no_device_no_checkpoint() -> None:
    spec = replace(SPEC, device_indices=(), checkpoint_dir=None, resume_from=None, cpus_milli=0)
    env = run_environment(spec, KEY, replace(FACTS, devices=[], visibility={"CUDA_VISIBLE_DEVICES": ""}), AGENT)
    assert (env["SUANLI_DEVICES"], env["SUANLI_DEVICE_MODEL"], env["CUDA_VISIBLE_DEVICES"]) == ("", "", "")
    assert env["OMP_NUM_THREADS"] == "1"
    assert not {"SUANLI_CHECKPOINT_DIR", "SUANLI_CHECKPOINT_ACK", "SUANLI_RESUME_FROM"} & set(env)


def test_a_tenant_s_own_user_has_its_own_home_and_the_job_may_choose_another() -> None:
    facts = replace(FACTS, account=Account("studio", 1001, 1001, (1001,), "/home/studio"))
    env = run_environment(SPEC, KEY, facts, AGENT)
    assert (env["HOME"], env["USER"], env["LOGNAME"]) == ("/home/studio", "studio", "studio")
    own = replace(SPEC, env=(("HOME", "/scratch"),))
    assert run_environment(own, KEY, facts, AGENT)["HOME"] == "/scratch"
    assert "USER" not in run_environment(SPEC, KEY, FACTS, AGENT)
