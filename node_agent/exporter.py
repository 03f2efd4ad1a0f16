"""A node's readings as Prometheus text (exposition format 0.0.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PREFIX = "suanli_device_"
COUNTERS = frozenset({"energy_joules"})


def render(readings: Mapping[str, Any], models: Mapping[str, str] | None = None) -> str:
    """`readings` as AgentHost.readings() gives them, `models` by device uuid (else the label is empty).

    A reading that is not available gives no sample: never a 0. Every sample says whether it is simulated.
    """
    models = models or {}
    rows: dict[str, list[str]] = {}
    for node, devices in sorted(readings.items()):
        for uuid, fields in sorted(devices.items()):
            for quantity, reading in sorted(fields.items()):
                if "value" not in reading:
                    continue
                labels = {
                    "node": node,
                    "device": uuid,
                    "model": models.get(uuid, ""),
                    "simulated": "true" if reading["quality"] == "simulated" else "false",
                }
                text = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
                name = PREFIX + quantity + ("_total" if quantity in COUNTERS else "")
                rows.setdefault(name, []).append(f"{name}{{{text}}} {float(reading['value'])!r}")
    lines: list[str] = []
    for name, samples in sorted(rows.items()):
        lines.append(f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}")
        lines += samples
    return "\n".join(lines) + "\n" if lines else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
