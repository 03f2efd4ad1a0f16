"""On a machine with an NVIDIA card: its readings are measured, a job sees the devices that it was given and no others.

Not a part of `make test`: `python -m pytest -m gpu tests/gpu`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from node_agent.devices.nvml import NvmlDevices
from node_agent.devices.source import Quality, Quantity, Reading

pytestmark = pytest.mark.gpu

SEES = """
import json, torch
print(json.dumps([str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]))
"""


def seen_by_a_job(visibility: dict[str, str]) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA_", "NVIDIA_"))}
    done = subprocess.run(
        [sys.executable, "-c", SEES], env=kept | visibility, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return [str(uuid) for uuid in json.loads(done.stdout.strip().splitlines()[-1])]


def test_readings_of_the_card_are_measured() -> None:
    source = NvmlDevices()
    try:
        devices = source.enumerate()
        assert devices
        read = source.read(time.time())
        for device in devices:
            readings = read[device.uuid]
            for quantity in (Quantity.MEMORY_TOTAL_BYTES, Quantity.POWER_WATTS, Quantity.TEMPERATURE_CELSIUS):
                found = readings[quantity]
                assert isinstance(found, Reading), (quantity, found)
                assert found.quality is Quality.MEASURED
                assert found.value > 0
            assert device.memory_bytes > 1 << 30
    finally:
        source.close()


def test_a_job_sees_the_device_that_it_was_given() -> None:
    source = NvmlDevices()
    try:
        devices = source.enumerate()
        for device in devices:
            (seen,) = seen_by_a_job(dict(source.visibility([device])))
            assert device.uuid.removeprefix("GPU-") in seen.removeprefix("GPU-")
    finally:
        source.close()


def test_a_job_without_devices_sees_none() -> None:
    source = NvmlDevices()
    try:
        assert seen_by_a_job({"CUDA_VISIBLE_DEVICES": "", **source.visibility([])}) == []
    finally:
        source.close()


def test_a_local_benchmark_of_the_card_is_valid() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "run", "--local", "--window", "5", "-o", "json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    document = json.loads(done.stdout)
    cards = [each for each in document["devices"] if each.get("vendor", "").lower() == "nvidia" or "H" in each["model"]]
    print(json.dumps(document["cases"]), json.dumps(cards)[:1500])
    assert cards
