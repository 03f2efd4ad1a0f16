"""On a machine with an NVIDIA card: every reading against nvidia-smi's, energy against power, and what sampling costs.

Not a part of `make test`: `python -m pytest -m gpu tests/gpu`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_agent.devices.collector import CollectedDevices
from node_agent.devices.counters import Gained, gained
from node_agent.devices.source import Group, Quantity, Reading

pytestmark = pytest.mark.gpu

# nvidia-smi's name, our quantity, its unit in ours, and how far they may be apart (they are read one after the other).
COMPARED = (
    ("memory.total", Quantity.MEMORY_TOTAL_BYTES, float(1 << 20), 0.001),
    ("memory.used", Quantity.MEMORY_USED_BYTES, float(1 << 20), 0.05),
    ("temperature.gpu", Quantity.TEMPERATURE_CELSIUS, 1.0, 0.1),
    ("power.draw", Quantity.POWER_WATTS, 1.0, 0.3),
    ("power.limit", Quantity.POWER_LIMIT_WATTS, 1.0, 0.001),
    ("clocks.mem", Quantity.MEMORY_CLOCK_MEGAHERTZ, 1.0, 0.05),
    ("ecc.errors.uncorrected.volatile.total", Quantity.ECC_UNCORRECTED_VOLATILE, 1.0, 0.0),
)


@pytest.fixture
def source() -> Iterator[CollectedDevices]:
    source = CollectedDevices("nvml", "nvidia")
    deadline = time.monotonic() + 60
    while not isinstance(_first(source).get(Quantity.POWER_LIMIT_WATTS), Reading):
        assert time.monotonic() < deadline, source.state
        time.sleep(0.2)
    yield source
    source.close()


def _first(source: CollectedDevices) -> dict[Quantity, object]:
    uuid = source.enumerate()[0].uuid
    return dict(source.read(time.time())[uuid])


def test_readings_are_those_of_nvidia_smi(source: CollectedDevices) -> None:
    if shutil.which("nvidia-smi") is None:
        pytest.skip("nvidia-smi is not installed here")
    asked = ",".join(name for name, *_ in COMPARED)
    argv = ["nvidia-smi", f"--query-gpu=uuid,{asked}", "--format=csv,noheader,nounits"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    read = source.read(time.time())
    for line in done.stdout.strip().splitlines():
        uuid, *cells = (cell.strip() for cell in line.split(","))
        for (name, quantity, scale, apart), cell in zip(COMPARED, cells, strict=True):
            found = read[uuid][quantity]
            if not cell.replace(".", "").isdigit():
                continue  # it has none either
            assert isinstance(found, Reading), (name, cell, found)
            assert found.value == pytest.approx(
                float(cell) * scale, rel=apart, abs=64 * (1 << 20) if "mem" in name else 1
            )


def test_what_is_read_and_what_is_not_is_printed(source: CollectedDevices) -> None:
    fields = _first(source)
    print(json.dumps({q: f.value if isinstance(f, Reading) else str(f) for q, f in fields.items()}))
    assert source.topology().found >= 1
    assert source.topology().versions.keys() >= {"driver", "library"}


def test_energy_is_power_over_time_within_five_percent(source: CollectedDevices) -> None:
    uuid = source.enumerate()[0].uuid
    before = source.read(time.time(), (Group.FAST,))[uuid][Quantity.ENERGY_JOULES]
    watts: list[float] = []
    for _ in range(30):
        time.sleep(1.0)
        now = source.read(time.time(), (Group.FAST,))[uuid]
        power = now[Quantity.POWER_WATTS]
        assert isinstance(power, Reading)
        watts.append(power.value)
    more = gained(before, now[Quantity.ENERGY_JOULES])
    assert isinstance(more, Gained)
    assert more.value / more.over_s == pytest.approx(sum(watts) / len(watts), rel=0.05)


def test_sampling_costs_little(source: CollectedDevices) -> None:
    pid = source.state.pid
    assert pid is not None

    def cpu_s() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before, begun = cpu_s(), time.monotonic()
    time.sleep(20)
    share = (cpu_s() - before) / (time.monotonic() - begun)
    print(f"sampling takes {100 * share:.2f}% of a core with the real driver")
    assert share < 0.05
