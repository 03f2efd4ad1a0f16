"""What holds a run to its share of an NVIDIA card? A Multi-Process Service daemon, where one runs; nothing elsewhere.

A client of MPS that is told so gets a part of the card's processors and of its memory, and is refused more. The daemon
is the operator's to start, for it changes the card for everybody; here it is looked for, and clients are told. Names
and meaning of the variables: NVIDIA, Multi-Process Service, appendix on environment variables; tried on an H100. A
daemon serves one Unix user at a time, and another's client waits for the first one's last, unless it was started with
--multiuser-server.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from node_agent.devices.source import Device

PIPE_DIRECTORY = "CUDA_MPS_PIPE_DIRECTORY"
THREADS = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
MEMORY = "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"
NAMES = frozenset({PIPE_DIRECTORY, THREADS, MEMORY})
DEFAULT_DIRECTORY = "/tmp/nvidia-mps"
PID_FILE = "nvidia-cuda-mps-control.pid"
CONTROL = "control"  # the pipe by which clients find the daemon
DAEMON = "nvidia-cuda-mps"  # /proc/PID/comm has fifteen characters of nvidia-cuda-mps-control
VENDOR = "nvidia"
WHOLE_MILLI = 1000
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class MpsDaemon:
    """`directory` is where its pipes are."""

    directory: Path


def find_daemon(environ: Mapping[str, str], proc: Path = Path("/proc")) -> MpsDaemon | None:
    """The daemon whose pipes are where the agent's environment says, or in the default place; None: none runs."""
    directory = Path(environ.get(PIPE_DIRECTORY) or DEFAULT_DIRECTORY)
    try:
        pid = int((directory / PID_FILE).read_text().strip())
        runs = (proc / str(pid) / "comm").read_text().startswith(DAEMON)
    except (OSError, ValueError):  # never started, or it has ended and left its files
        return None
    return MpsDaemon(directory) if runs and (directory / CONTROL).exists() else None


def held_to_share(devices: Sequence[Device], daemon: MpsDaemon | None) -> bool:
    """Whether something holds runs on these devices to their share."""
    return daemon is not None and any(device.vendor == VENDOR and not device.simulated for device in devices)


def share_variables(share_milli: int, devices: Sequence[Device], daemon: MpsDaemon | None) -> dict[str, str]:
    """For a run with a share of the one device that it sees. Nothing for one that has whole devices."""
    if not share_milli or len(devices) != 1 or not held_to_share(devices, daemon):
        return {}
    assert daemon is not None
    memory_mib = max(1, devices[0].memory_bytes * share_milli // WHOLE_MILLI // MIB)
    return {
        PIPE_DIRECTORY: str(daemon.directory),
        THREADS: f"{max(1.0, share_milli * 100 / WHOLE_MILLI):g}",
        MEMORY: f"0={memory_mib}M",  # it sees one device, which is number 0 to it
    }


def agents_daemon() -> MpsDaemon | None:
    """As the agent's own environment has it."""
    return find_daemon(os.environ)
