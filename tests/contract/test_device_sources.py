"""What every device source owes, asked of each: here and in a process of its own, real, simulated, played back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_agent.devices.collector import CollectedDevices
from node_agent.devices.cpu import CpuDevices
from node_agent.devices.nvml import NvmlDevices
from node_agent.devices.quantities import MEANINGS, QUANTITIES
from node_agent.devices.recording import record
from node_agent.devices.replay import ReplayDevices
from node_agent.devices.simulated import SimulatedDevices, SimulatedSpec
from node_agent.devices.source import DeviceSource, Group, Quality, Quantity, Reading, Unavailable
from node_agent.devices.vendor import VendorDevices
from node_agent.devices.visibility import HIDDEN, VENDORS, hidden
from tests.fakes.fake_nvml import FakeCard, FakeNvml
from tests.fakes.nvml_stub import stub_cards

ROOT = Path(__file__).resolve().parents[2]
NVML = {
    "nvml": lambda: FakeNvml(FakeCard("GPU-a"), FakeCard("GPU-b", name="NVIDIA L20")),
    "nvml with a lost card": lambda: FakeNvml(FakeCard("GPU-a", lost=True), FakeCard("GPU-b")),
}
STUBBED = ("nvml in its own process", "nvml with instances", "iluvatar")
NAMES = ("cpu", "simulated", *NVML, *STUBBED, "vendor", "replay")


def simulated() -> SimulatedDevices:
    return SimulatedDevices(SimulatedSpec("H100 SXM", "nvidia", 4, 80 << 30, seed=7), "sim-0")


class Prints:
    def output(self) -> str:
        return (ROOT / "tests" / "data" / "vendors" / "xpu-smi-515.txt").read_text()

    def close(self) -> None:
        pass


@pytest.fixture(params=NAMES)
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeviceSource]:
    name = request.param
    opened: DeviceSource
    if name == "cpu":
        opened = CpuDevices()
    elif name == "simulated":
        opened = simulated()
    elif name in NVML:
        opened = NvmlDevices(NVML[name](), drivers_list=tmp_path / "none")
    elif name == "vendor":
        opened = VendorDevices(ROOT / "configs" / "vendors" / "kunlun.yaml", tool=Prints())
    elif name == "replay":
        path = tmp_path / "recording.jsonl"
        ticks = iter(range(1000, 2000))
        record(simulated(), path, 20.0, clock=lambda: float(next(ticks)), sleep=lambda _seconds: None)
        opened = ReplayDevices(path)
    else:
        cards = stub_cards(tmp_path, 3)
        monkeypatch.setenv("NVML_STUB", str(cards.path))
        if name == "nvml in its own process":
            opened = CollectedDevices("nvml", "nvidia", kernel_log="", variables=cards.environment())
        elif name == "iluvatar":
            opened = NvmlDevices(library=str(cards.library), vendor="iluvatar", drivers_list=tmp_path / "none")
        else:
            cards.set(1, mig=1, instances=3)
            opened = NvmlDevices(library=str(cards.library), drivers_list=tmp_path / "none")
    yield opened
    opened.close()


def test_devices_are_named_apart_and_in_order(source: DeviceSource) -> None:
    devices = source.enumerate()
    assert devices
    indices = [device.index for device in devices]
    assert indices == sorted(set(indices))
    assert len({device.uuid for device in devices}) == len(devices)
    assert all(device.vendor == source.vendor and device.model and device.visible_id for device in devices)
    assert source.enumerate() == devices


def test_every_quantity_is_answered_for_every_device_with_its_unit(source: DeviceSource) -> None:
    devices = source.enumerate()
    now_s = time.time()
    readings = source.read(now_s)
    assert set(readings) >= {device.uuid for device in devices}
    for fields in readings.values():
        assert set(fields) == set(Quantity)
        for quantity, measured in fields.items():
            if isinstance(measured, Reading):
                assert (measured.unit, measured.at_s <= now_s) == (MEANINGS[quantity].unit, True)
                assert measured.value == measured.value  # no NaN
            else:
                assert measured.reason


@pytest.mark.parametrize("group", Group)
def test_a_group_is_its_own_quantities_and_no_others(source: DeviceSource, group: Group) -> None:
    devices = source.enumerate()
    readings = source.read(time.time(), (group,))
    assert set(readings) >= {device.uuid for device in devices}
    assert all(tuple(fields) == QUANTITIES[group] for fields in readings.values())


def test_what_is_there_is_counted(source: DeviceSource) -> None:
    devices = source.enumerate()
    topology = source.topology()
    assert topology.found <= topology.expected
    assert topology.found >= len({device.card or device.uuid for device in devices}) > 0
    assert all(versions for versions in topology.versions.values())
    assert list(source.events(time.time())) == []


def test_simulated_and_measured_never_mix(source: DeviceSource) -> None:
    expected = {uuid: d.simulated for d in source.enumerate() for uuid in (d.uuid, d.card) if uuid is not None}
    for uuid, fields in source.read(time.time()).items():
        for measured in fields.values():
            if isinstance(measured, Reading):
                assert (measured.quality is not Quality.MEASURED) == expected[uuid]


def test_a_process_can_be_shown_no_device(source: DeviceSource) -> None:
    source.enumerate()
    assert source.visibility([]) == hidden()


def test_a_process_is_shown_no_device_of_another_vendor(source: DeviceSource) -> None:
    """And where it is shown simulated ones or CPU cores, none of anybody's."""
    shown = source.visibility(source.enumerate())
    own = VENDORS.get(source.vendor) if not source.enumerate()[0].simulated else None
    set_here = own.names if own is not None else ()
    assert {name: shown.get(name) for name in HIDDEN if name not in set_here} == {
        name: value for name, value in HIDDEN.items() if name not in set_here
    }
    assert all(shown[name] for name in set_here)


def test_closing_twice_is_closing(source: DeviceSource) -> None:
    source.close()
    source.close()  # the second must not raise: an agent closes what a failed start may have closed


def test_an_unavailable_reading_is_no_number() -> None:
    assert not hasattr(Unavailable("gone"), "value")
