"""Prometheus text of a node's readings: under our names, and under those of dcgm-exporter."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from node_agent.devices.quantities import Quantity
from node_agent.devices.source import Device
from node_agent.exporter import DCGM, Holders, NodeFacts, render, render_dcgm, render_node
from node_agent.node_metrics import HeldBy, metrics_text

READINGS = {
    "n1": {
        "GPU-a": {
            "power_watts": {"value": 412.5, "unit": "watts", "at_s": 1.0, "quality": "measured"},
            "energy_joules": {"value": 9000.5, "unit": "joules", "at_s": 1.0, "quality": "measured"},
            "temperature_celsius": {"unavailable": "device lost"},
        },
        'sim-"b"': {"power_watts": {"value": 90.0, "unit": "watts", "at_s": 1.0, "quality": "simulated"}},
    }
}
CARD = Device(0, "GPU-a", "H100 SXM", "nvidia", 80 << 30, False, "GPU-a", bus_id="0000:3b:00.0")
INSTANCE = Device(1, "MIG-b", "H100 SXM", "nvidia", 10 << 30, False, "MIG-b", mig_profile="1g.10gb", card="GPU-b")
INVENTED = Device(2, "sim-c", "H100 SXM", "nvidia", 80 << 30, True, "sim-c")


def full(quality: str = "measured") -> dict[str, dict[str, object]]:
    return {q.value: {"value": 1.0, "unit": "x", "at_s": 1.0, "quality": quality} for q in Quantity}


class Node:
    """As much of a NodeAgent as metrics need."""

    def __init__(self, *devices: Device) -> None:
        self.all_devices = devices

    def facts(self) -> NodeFacts:
        return NodeFacts("n1", 2, 3, {"driver": "550.1", "library": "12.1"}, "stuck", 7.5, 2)


def everything(dcgm: bool = True) -> str:
    held = [HeldBy("n1", "j1", "film", (0,)), HeldBy("n1", "j1", "film", (0,)), HeldBy("n1", "j2", "city", (0, 9))]
    readings = {"n1": {"GPU-a": full(), "MIG-b": full(), "sim-c": full("simulated")}}
    return metrics_text({"n1": Node(CARD, INSTANCE, INVENTED)}, readings, held, dcgm=dcgm)


def test_samples() -> None:
    assert render(READINGS, {"GPU-a": "H100 SXM"}).splitlines() == [
        "# HELP suanli_device_energy_joules_total Energy since the driver was loaded.",
        "# TYPE suanli_device_energy_joules_total counter",
        'suanli_device_energy_joules_total{node="n1",device="GPU-a",model="H100 SXM",simulated="false"} 9000.5',
        "# HELP suanli_device_power_watts Power drawn, as averaged by the device (NVML: over 1 s).",
        "# TYPE suanli_device_power_watts gauge",
        'suanli_device_power_watts{node="n1",device="GPU-a",model="H100 SXM",simulated="false"} 412.5',
        'suanli_device_power_watts{node="n1",device="sim-\\"b\\"",model="",simulated="true"} 90.0',
    ]


def test_nothing_is_nothing() -> None:
    assert render({}) == ""
    assert render_node([]) == ""
    assert render_dcgm([], {}) == ""


def test_who_holds_a_device_is_joined_to_its_readings() -> None:
    text = render(READINGS, holders={"GPU-a": Holders(("j1", "j2"), ("city", "film"))})
    assert 'device="GPU-a",model="",simulated="false",job_id="j1,j2",tenant="city,film"} 412.5' in text
    assert 'simulated="true",job_id="",tenant=""} 90.0' in text


def test_a_jobs_workers_are_one_holder() -> None:
    (line,) = [
        line
        for line in everything().splitlines()
        if line.startswith('suanli_device_power_watts{node="n1",device="GPU-a"')
    ]
    assert 'job_id="j1,j2",tenant="city,film"' in line


def test_the_node_tells_what_it_expects_and_whether_its_driver_hangs() -> None:
    text = everything(dcgm=False)
    for line in (
        'suanli_node_devices_found{node="n1"} 2.0',
        'suanli_node_devices_expected{node="n1"} 3.0',
        'suanli_node_sampling{node="n1",phase="stuck"} 1.0',
        'suanli_node_driver_call_stuck_seconds{node="n1"} 7.5',
        'suanli_node_sampling_restarts_total{node="n1"} 2.0',
        'suanli_node_driver_info{node="n1",driver="550.1",library="12.1"} 1.0',
    ):
        assert line in text.splitlines(), line
    assert "DCGM" not in text


def test_dashboards_of_dcgm_exporter_find_its_names_units_and_labels() -> None:
    readings = {
        "GPU-a": {
            "memory_used_bytes": {"value": float(3 << 30), "quality": "measured"},
            "memory_total_bytes": {"value": float(80 << 30), "quality": "measured"},
            "memory_reserved_bytes": {"value": float(1 << 30), "quality": "measured"},
            "energy_joules": {"value": 12.5, "quality": "measured"},
            "sm_activity_percent": {"value": 50.0, "quality": "measured"},
            "faults": {"value": 0.0, "quality": "measured"},
            "last_fault": {"unavailable": "no fault was heard of yet"},
        }
    }
    text = render_dcgm([("n1", "550.1", CARD)], readings, holders={"GPU-a": Holders(("j1",), ("film",))})
    labels = (
        'gpu="0",UUID="GPU-a",pci_bus_id="00000000:3B:00.0",device="nvidia0",modelName="H100 SXM",Hostname="n1",'
        'DCGM_FI_DRIVER_VERSION="550.1",job_id="j1",tenant="film"'
    )
    samples = {line.split("{")[0]: line.split("} ")[1] for line in text.splitlines() if line[0] != "#"}
    assert samples == {
        "DCGM_FI_DEV_FB_USED": "3072.0",
        "DCGM_FI_DEV_FB_TOTAL": "81920.0",
        "DCGM_FI_DEV_FB_RESERVED": "1024.0",
        "DCGM_FI_DEV_FB_FREE": "77824.0",
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": "12500.0",
        "DCGM_FI_PROF_SM_ACTIVE": "0.5",
        "DCGM_FI_DEV_XID_ERRORS": "0.0",
    }
    assert all(f"{{{labels}}}" in line for line in text.splitlines() if line[0] != "#")


def test_instances_are_told_by_their_card_and_profile_and_nothing_simulated_is_shown_as_dcgms() -> None:
    lines = [line for line in everything().splitlines() if line.startswith("DCGM_FI_DEV_FB_USED")]
    assert len(lines) == 2
    assert 'UUID="GPU-b"' in lines[1]
    assert 'GPU_I_PROFILE="1g.10gb",GPU_I_ID="MIG-b"' in lines[1]


def test_a_cpu_is_no_card_of_dcgms() -> None:
    used = {"memory_used_bytes": {"value": float(1 << 30), "quality": "measured"}}
    cpu = replace(CARD, uuid="cpu-n1-0", vendor="cpu", model="Some CPU")
    assert render_dcgm([("n1", "", cpu)], {cpu.uuid: used}) == ""


def test_every_name_of_dcgm_stands_once() -> None:
    names = [told.name for told in DCGM.values()]
    assert len(names) == len(set(names))


def promtool() -> str:
    found = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed here (Debian's package prometheus has it)")
    return found


def test_promtool_has_nothing_to_say(tmp_path: Path) -> None:
    done = subprocess.run(
        [promtool(), "check", "metrics"],
        input=everything(dcgm=False),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_promtool_can_read_dcgms_names_too() -> None:
    """It would have them spelt otherwise, but dashboards look for these; where there is lint to tell, it parsed."""
    done = subprocess.run(
        [promtool(), "check", "metrics"], input=everything(), capture_output=True, text=True, timeout=60, check=False
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if line]
    assert done.returncode in (0, 3), said
    assert all(line.startswith("DCGM_") for line in said), said
