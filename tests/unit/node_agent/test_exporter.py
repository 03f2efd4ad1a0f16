"""Prometheus text of a node's readings."""

from __future__ import annotations

from node_agent.exporter import render

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


def test_samples() -> None:
    assert render(READINGS, {"GPU-a": "H100 SXM"}).splitlines() == [
        "# TYPE suanli_device_energy_joules_total counter",
        'suanli_device_energy_joules_total{node="n1",device="GPU-a",model="H100 SXM",simulated="false"} 9000.5',
        "# TYPE suanli_device_power_watts gauge",
        'suanli_device_power_watts{node="n1",device="GPU-a",model="H100 SXM",simulated="false"} 412.5',
        'suanli_device_power_watts{node="n1",device="sim-\\"b\\"",model="",simulated="true"} 90.0',
    ]


def test_nothing_is_nothing() -> None:
    assert render({}) == ""
