"""MPS: found where it runs, and told to runs with a share alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from node_agent.devices.source import Device
from node_agent.execution.environment import allowed
from node_agent.execution.mps import MpsDaemon, find_daemon, held_to_share, share_variables
from scheduler.schema.job_models import is_reserved_env

CARD = Device(3, "GPU-a", "H100 SXM", "nvidia", 80 << 30, simulated=False, visible_id="GPU-a")
SIMULATED = Device(0, "sim-a", "H100 SXM", "nvidia", 80 << 30, simulated=True, visible_id="sim-a")
ASCEND = Device(0, "npu-a", "Ascend 910C", "huawei", 64 << 30, simulated=False, visible_id="0")
DAEMON = MpsDaemon(Path("/run/mps"))


def pipes(directory: Path, pid: str, comm: str | None) -> dict[str, str]:
    """A pipe directory and a process table such as a daemon leaves; the environment that names it."""
    (directory / "mps").mkdir()
    (directory / "mps" / "control").touch()
    (directory / "mps" / "nvidia-cuda-mps-control.pid").write_text(pid)
    if comm is not None:
        (directory / "proc" / pid.strip()).mkdir(parents=True)
        (directory / "proc" / pid.strip() / "comm").write_text(comm)
    return {"CUDA_MPS_PIPE_DIRECTORY": str(directory / "mps")}


def test_a_daemon_that_runs_is_found(tmp_path: Path) -> None:
    """The pid file has no line end, and the kernel shows fifteen characters of the name: seen so on driver 580."""
    env = pipes(tmp_path, "563", "nvidia-cuda-mps\n")
    assert find_daemon(env, tmp_path / "proc") == MpsDaemon(tmp_path / "mps")


@pytest.mark.parametrize(
    ("pid", "comm"),
    [("563", None), ("563", "python3\n"), ("", None), ("x", None)],
    ids=["it has ended", "its pid is another's now", "no pid", "nonsense"],
)
def test_what_a_daemon_left_behind_is_none(tmp_path: Path, pid: str, comm: str | None) -> None:
    assert find_daemon(pipes(tmp_path, pid, comm), tmp_path / "proc") is None


def test_where_none_was_ever_started_there_is_none(tmp_path: Path) -> None:
    assert find_daemon({"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path / "none")}) is None


def test_a_daemon_without_its_pipe_serves_nobody(tmp_path: Path) -> None:
    env = pipes(tmp_path, str(os.getpid()), "nvidia-cuda-mps\n")
    (tmp_path / "mps" / "control").unlink()
    assert find_daemon(env, tmp_path / "proc") is None


@pytest.mark.parametrize(
    ("share_milli", "threads", "memory"), [(250, "25", "0=20480M"), (125, "12.5", "0=10240M"), (1, "1", "0=81M")]
)
def test_a_share_is_told_as_threads_and_memory_of_the_one_device_it_sees(
    share_milli: int, threads: str, memory: str
) -> None:
    """Its number on the node is of no account: CUDA_VISIBLE_DEVICES leaves it alone, as number 0."""
    assert share_variables(share_milli, [CARD], DAEMON) == {
        "CUDA_MPS_PIPE_DIRECTORY": "/run/mps",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": threads,
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": memory,
    }


@pytest.mark.parametrize(
    ("share_milli", "devices", "daemon"),
    [(0, [CARD], DAEMON), (250, [CARD], None), (250, [SIMULATED], DAEMON), (250, [ASCEND], DAEMON), (250, [], DAEMON)],
    ids=["whole devices", "no daemon", "simulated", "another vendor", "no device"],
)
def test_others_are_told_nothing(share_milli: int, devices: list[Device], daemon: MpsDaemon | None) -> None:
    assert share_variables(share_milli, devices, daemon) == {}


def test_only_real_nvidia_cards_are_held() -> None:
    assert held_to_share([CARD], DAEMON)
    assert held_to_share([SIMULATED, CARD], DAEMON)
    assert not held_to_share([CARD], None)
    assert not held_to_share([SIMULATED, ASCEND], DAEMON)


def test_no_job_may_set_them_itself() -> None:
    names = share_variables(250, [CARD], DAEMON)
    assert names
    for name in names:
        assert not allowed(name)
        assert is_reserved_env(name)
