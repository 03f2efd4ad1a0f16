"""CPU cores from /proc, invented devices, and which source a machine gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.devices.cpu import CpuDevices, core_ticks, cpu_model, memory_bytes
from node_agent.devices.detect import probe
from node_agent.devices.simulated import SimulatedDevices, SimulatedSpec
from node_agent.devices.source import DeviceSource, DeviceSourceError, Quantity, Reading, Unavailable

CPUINFO = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)  Gold 6430\nprocessor\t: 1\nmodel name\t: Intel(R)\n"
MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    400 kB\nHugePages_Total:       0\n"
STAT = "cpu  9 9 9 9\ncpu0 {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu1 100 0 0 100 0 0 0 0 0 0\nintr 5\n"


def proc(directory: Path, *, busy: int = 100, idle: int = 100) -> Path:
    (directory / "cpuinfo").write_text(CPUINFO)
    (directory / "meminfo").write_text(MEMINFO)
    (directory / "stat").write_text(STAT.format(busy=busy, idle=idle))
    return directory


def test_a_core_is_a_device_of_the_nodes_model(tmp_path: Path) -> None:
    devices = CpuDevices(proc=proc(tmp_path), cores=[3, 1]).enumerate()
    assert [(d.index, d.visible_id, d.model, d.vendor, d.simulated) for d in devices] == [
        (0, "1", "Intel Xeon Gold 6430", "cpu", False),
        (1, "3", "Intel Xeon Gold 6430", "cpu", False),
    ]
    assert devices[0].memory_bytes == 500 * 1024


def test_utilisation_is_each_cores_own_since_the_last_reading(tmp_path: Path) -> None:
    source = CpuDevices(proc=proc(tmp_path), cores=[0, 1])
    proc(tmp_path, busy=130, idle=110)
    first, second = (source.read(1.0)[device.uuid] for device in source.enumerate())
    reading = first[Quantity.UTILISATION_PERCENT]
    assert isinstance(reading, Reading)
    assert reading.value == 75.0
    assert isinstance(second[Quantity.UTILISATION_PERCENT], Unavailable)
    used = first[Quantity.MEMORY_USED_BYTES]
    assert isinstance(used, Reading)
    assert used.value == 600 * 1024
    assert isinstance(first[Quantity.POWER_WATTS], Unavailable)


def test_a_missing_table_is_said(tmp_path: Path) -> None:
    with pytest.raises(DeviceSourceError, match="cannot be read"):
        CpuDevices(proc=tmp_path, cores=[0]).enumerate()


def test_parsers() -> None:
    assert cpu_model("") == "CPU"
    assert memory_bytes(MEMINFO)["MemAvailable"] == 400 * 1024
    assert core_ticks("cpu0 1 2 3 4 5 6 7 8 9 9\n") == {0: (27, 36)}


@given(text=st.text(max_size=200), number=st.text(alphabet="0123456789 ²٣-.", max_size=40))
def test_any_text_of_the_kernel_is_numbers_or_none(text: str, number: str) -> None:
    for table in (text, f"cpu0 {number}", f"cpu{number} 1 2 3 4", f"MemTotal: {number} kB\nmodel name : {text}"):
        assert cpu_model(table)
        assert all(value >= 0 for value in memory_bytes(table).values())
        assert all(0 <= busy <= whole for busy, whole in core_ticks(table).values())


# ---- simulated -------------------------------------------------------------------------------------------------------


def utilisation(source: SimulatedDevices, now_s: float) -> list[float]:
    values = []
    for fields in source.read(now_s).values():
        reading = fields[Quantity.UTILISATION_PERCENT]
        assert isinstance(reading, Reading)
        values.append(reading.value)
    return values


SPEC = SimulatedSpec("Ascend 910B (Atlas 800T A2)", "ascend", 3, 64 << 30, seed=1)


def test_busy_devices_look_busy() -> None:
    source = SimulatedDevices(SPEC, "edge-0")
    source.set_busy({1})
    idle, busy, other = utilisation(source, 10.0)
    assert (idle, other) == (0.0, 0.0)
    assert busy > 80.0
    source.set_busy(())
    assert utilisation(source, 11.0) == [0.0, 0.0, 0.0]


def test_the_same_seed_reads_the_same() -> None:
    one, two = SimulatedDevices(SPEC, "edge-0"), SimulatedDevices(SPEC, "edge-0")
    assert one.read(3.0) == two.read(3.0)
    assert one.enumerate() == two.enumerate()


def test_two_nodes_share_no_uuid() -> None:
    one, two = (SimulatedDevices(SPEC, name).enumerate() for name in ("edge-0", "edge-1"))
    assert not {d.uuid for d in one} & {d.uuid for d in two}


def test_energy_never_falls() -> None:
    source = SimulatedDevices(SPEC, "edge-0")
    seen = []
    for second in (0.0, 1.0, 5.0, 5.0, 4.0):
        reading = next(iter(source.read(second).values()))[Quantity.ENERGY_JOULES]
        assert isinstance(reading, Reading)
        seen.append(reading.value)
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


# ---- detect ----------------------------------------------------------------------------------------------------------


def failing() -> DeviceSource:
    raise DeviceSourceError("no driver")


def empty() -> DeviceSource:
    return SimulatedDevices(SimulatedSpec("X", "x", 0, 0), "n")


def full() -> DeviceSource:
    return SimulatedDevices(SPEC, "n")


def test_the_first_source_that_has_a_device_is_taken() -> None:
    openers: dict[str, Callable[[], DeviceSource]] = {"a": failing, "b": empty, "c": full}
    found = probe(("a", "b", "c"), openers)
    assert len(found.source.enumerate()) == 3
    assert found.passed_over == ("a: no driver", "b: no device found")


def test_none_and_unknown_are_said() -> None:
    openers: dict[str, Callable[[], DeviceSource]] = {"a": failing}
    with pytest.raises(DeviceSourceError, match="a: no driver"):
        probe(("a",), openers)
    with pytest.raises(DeviceSourceError, match="unknown device source 'b'; known are a"):
        probe(("a", "b"), openers)


def test_readings_of_a_partitioned_card_are_of_its_instances() -> None:
    source = SimulatedDevices(
        SimulatedSpec("H100 SXM", "nvidia", 1, 80 * 10**9, mig_profiles=("3g.40gb", "1g.10gb")), "n"
    )
    source.set_busy([1])
    read = [source.read(1.0)[device.uuid] for device in source.enumerate()]
    totals = [fields[Quantity.MEMORY_TOTAL_BYTES] for fields in read]
    busy = [fields[Quantity.UTILISATION_PERCENT] for fields in read]
    assert [total.value for total in totals if isinstance(total, Reading)] == [40e9, 10e9]
    assert [reading.value > 0 for reading in busy if isinstance(reading, Reading)] == [False, True]
