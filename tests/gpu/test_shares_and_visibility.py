"""On a real NVIDIA card: a run sees the devices that it was given, and MPS holds it to its share.

Needs nothing but Python, the driver and nvidia-cuda-mps-control; `python -m tests.gpu.test_shares_and_visibility` runs
it where there is no pytest. It starts a daemon of its own, in a directory of its own, and ends it.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from node_agent.devices.source import Device
from node_agent.devices.visibility import hidden, visible
from node_agent.execution.mps import PIPE_DIRECTORY, find_daemon, held_to_share, share_variables

GIB = 1 << 30
ROOT = Path(__file__).parents[2]

# What a process sees of CUDA: its devices, their processors, and how much memory it gets, in steps of 1 GiB.
CLIENT = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
told = {"init": cuda.cuInit(0)}
count = ctypes.c_int(0)
if told["init"] == 0:
    cuda.cuDeviceGetCount(ctypes.byref(count))
told["devices"] = count.value
if count.value:
    device, sms, uuid = ctypes.c_int(), ctypes.c_int(), (ctypes.c_ubyte * 16)()
    cuda.cuDeviceGet(ctypes.byref(device), 0)
    cuda.cuDeviceGetUuid(uuid, device)
    told["uuid"] = bytes(uuid).hex()
    context = ctypes.c_void_p()
    told["context"] = cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    cuda.cuCtxSetCurrent(context)
    cuda.cuDeviceGetAttribute(ctypes.byref(sms), 16, device)  # after the context: MPS limits it then
    told["processors"] = sms.value
    held = []
    while len(held) < 300:
        pointer = ctypes.c_uint64()
        told["refused"] = cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(1 << 30))
        if told["refused"]:
            break
        held.append(pointer.value)
    told["gib"] = len(held)
print(json.dumps(told))
"""


def see(env: dict[str, str]) -> dict[str, Any]:
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "HOME") if name in os.environ}
    argv = [sys.executable, "-c", CLIENT]
    done = subprocess.run(argv, env=kept | env, capture_output=True, text=True, check=True, timeout=120)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def first_card() -> Device:
    said = subprocess.run(
        ["nvidia-smi", "--query-gpu=uuid,memory.total", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()[0]
    uuid, mebibytes = (part.strip() for part in said.split(","))
    return Device(0, uuid, "card", "nvidia", int(mebibytes) << 20, simulated=False, visible_id=uuid)


def _no_card() -> str:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return f"no NVIDIA driver: {error}"
    return "" if shutil.which("nvidia-smi") else "no nvidia-smi"


def check_visibility() -> dict[str, Any]:
    card = first_card()
    shown, none = see(visible("nvidia", [card.uuid])), see(hidden())
    assert (shown["init"], shown["devices"]) == (0, 1), shown
    assert shown["uuid"] == card.uuid.removeprefix("GPU-").replace("-", ""), (shown, card)
    assert none["devices"] == 0, none
    return {"shown": shown, "hidden": none}


def check_shares() -> dict[str, Any]:
    card = first_card()
    with tempfile.TemporaryDirectory(prefix="suanli-mps-") as directory:
        env = {PIPE_DIRECTORY: directory, "CUDA_MPS_LOG_DIRECTORY": directory}
        assert find_daemon(env) is None
        subprocess.run(["nvidia-cuda-mps-control", "-d"], env=os.environ | env, check=True, timeout=60)
        try:
            deadline = time.monotonic() + 30
            while (daemon := find_daemon(env)) is None:
                assert time.monotonic() < deadline, sorted(os.listdir(directory))
                time.sleep(0.05)
            assert held_to_share([card], daemon)
            alone = see(visible("nvidia", [card.uuid]))
            told = share_variables(250, [card], daemon)
            quarter = see(visible("nvidia", [card.uuid]) | told)
            files = sorted(os.listdir(directory))
        finally:
            subprocess.run(
                ["nvidia-cuda-mps-control"], input="quit\n", text=True, env=os.environ | env, check=False, timeout=60
            )
        deadline = time.monotonic() + 30
        while find_daemon(env) is not None:
            assert time.monotonic() < deadline, "the daemon has not ended"
            time.sleep(0.05)
    answer = {"alone": alone, "variables": told, "quarter": quarter, "files": files}
    assert 0 < quarter["processors"] <= alone["processors"] * 0.3, answer
    assert card.memory_bytes // 4 // GIB - 2 <= quarter["gib"] <= card.memory_bytes // 4 // GIB, answer
    assert alone["gib"] > 2 * quarter["gib"], answer
    return answer


if __name__ == "__main__":
    for check in (check_visibility, check_shares):
        print(check.__name__, json.dumps(check(), indent=1), flush=True)
else:
    import pytest

    pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(_no_card()), reason=_no_card())]

    def test_a_run_sees_the_devices_that_it_was_given() -> None:
        check_visibility()

    @pytest.mark.skipif(shutil.which("nvidia-cuda-mps-control") is None, reason="no nvidia-cuda-mps-control")
    def test_mps_holds_a_run_to_its_share() -> None:
        check_shares()
