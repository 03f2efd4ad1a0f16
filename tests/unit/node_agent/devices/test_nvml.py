"""NVIDIA cards through a made-up NVML: names, units, visibility, and what a broken card may not break."""

from __future__ import annotations

import pytest

from node_agent.devices.nvml import NvmlDevices, catalogue_name
from node_agent.devices.source import DeviceSourceError, Measured, Quantity, Reading, Unavailable
from tests.fakes.fake_nvml import FakeCard, FakeNvml, NVMLError, NVMLLibraryMismatchError


@pytest.mark.parametrize(
    ("nvml", "catalogue"),
    [
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H200", "H200 SXM"),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM 80GB"),
        ("A100-SXM4-80GB", "A100 SXM 80GB"),
        ("NVIDIA B200", "B200 SXM"),
        ("NVIDIA H20", "H20"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L20", "L20"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        # Other peaks than the catalogue's row: they keep their own name.
        ("NVIDIA A10G", "NVIDIA A10G"),
        ("NVIDIA H100 PCIe", "NVIDIA H100 PCIe"),
        ("NVIDIA H200 NVL", "NVIDIA H200 NVL"),
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 Laptop GPU"),
    ],
)
def test_names(nvml: str, catalogue: str) -> None:
    assert catalogue_name(nvml) == catalogue


def value(measured: Measured) -> float:
    assert isinstance(measured, Reading), measured
    return measured.value


def test_units_are_converted() -> None:
    source = NvmlDevices(FakeNvml(FakeCard("GPU-a", milliwatts=412_500, millijoules=9_000_500)))
    source.enumerate()
    fields = source.read(5.0)["GPU-a"]
    assert value(fields[Quantity.POWER_WATTS]) == 412.5
    assert value(fields[Quantity.ENERGY_JOULES]) == 9000.5
    assert value(fields[Quantity.MEMORY_TOTAL_BYTES]) == 80 << 30
    assert value(fields[Quantity.UTILISATION_PERCENT]) == 37


def test_visibility_names_uuids_in_bus_order() -> None:
    source = NvmlDevices(FakeNvml(FakeCard("GPU-a"), FakeCard("GPU-b"), FakeCard("GPU-c")))
    devices = source.enumerate()
    shown = source.visibility([devices[2], devices[0]])
    assert (shown["CUDA_DEVICE_ORDER"], shown["CUDA_VISIBLE_DEVICES"]) == ("PCI_BUS_ID", "GPU-c,GPU-a")
    assert shown["ASCEND_RT_VISIBLE_DEVICES"] == ""


def test_a_lost_card_hides_no_other_and_moves_no_index() -> None:
    source = NvmlDevices(FakeNvml(FakeCard("GPU-a", lost=True), FakeCard("GPU-b")))
    assert [(device.index, device.uuid) for device in source.enumerate()] == [(1, "GPU-b")]


def test_a_card_lost_later_is_still_told_of() -> None:
    nvml = FakeNvml(FakeCard("GPU-a"), FakeCard("GPU-b"))
    source = NvmlDevices(nvml)
    source.enumerate()
    nvml.cards[0].lost = True
    readings = source.read(1.0)
    assert all(isinstance(m, Unavailable) and m.reason.startswith("device lost") for m in readings["GPU-a"].values())
    assert value(readings["GPU-b"][Quantity.TEMPERATURE_CELSIUS]) == 61
    assert [device.uuid for device in source.enumerate()] == ["GPU-b"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NVMLError(3), "not supported by this device"),
        (NVMLError(999), "driver call failed: NVML error 999"),
        (NVMLLibraryMismatchError("unversioned"), "driver call failed: unversioned"),
        (AttributeError("no such function"), "driver call failed: no such function"),
    ],
)
def test_a_field_that_fails_fails_alone(error: Exception, reason: str) -> None:
    source = NvmlDevices(FakeNvml(FakeCard("GPU-a", broken={"UtilizationRates": error})))
    source.enumerate()
    fields = source.read(1.0)["GPU-a"]
    assert fields[Quantity.UTILISATION_PERCENT] == Unavailable(reason)
    assert value(fields[Quantity.POWER_WATTS]) == 412.5


@pytest.mark.parametrize(
    ("error", "said"), [(NVMLError(9), "nvidia-smi"), (NVMLLibraryMismatchError("v1"), "do not match")]
)
def test_no_driver_is_said_with_what_to_do(error: Exception, said: str) -> None:
    with pytest.raises(DeviceSourceError, match=said):
        NvmlDevices(FakeNvml(init_error=error))
