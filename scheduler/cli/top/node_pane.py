"""The pane of nodes, summed up from their devices: the list of nodes itself has every reading of every device, which at
1,250 nodes is too much to ask for every other second. What else there is of a node is in its details."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from scheduler.cli.device_listing import Device, DeviceListing, is_unhealthy, natural, power_text, used_milli
from scheduler.cli.top.device_pane import HOT_C, POWER, TEMPERATURE, UTIL, kind_style
from scheduler.cli.top.pane import Field, Pane, state_style


@dataclass(slots=True)
class NodeRow:
    """`watts`, `hottest_c` and `utilisation` (a mean, percent) over the devices that tell; None: none does."""

    name: str
    site: str
    rack: str | None
    state: str
    devices: int = 0
    simulated: int = 0
    unhealthy: int = 0
    used_milli: int = 0
    watts: float | None = None
    hottest_c: float | None = None
    utilisation: float | None = None
    models: Counter[str] = field(default_factory=Counter)
    jobs: dict[str, None] = field(default_factory=dict)
    reasons: dict[str, None] = field(default_factory=dict)


def node_rows(listing: DeviceListing) -> list[NodeRow]:
    found: dict[str, NodeRow] = {}
    busy: dict[str, list[float]] = {}
    for device in listing.devices:
        row = found.get(device.node)
        if row is None:
            row = found[device.node] = NodeRow(device.node, device.site, device.rack, device.node_state)
            busy[device.node] = []
        _add(row, device, busy[device.node])
    for name, told in busy.items():
        if told:
            found[name].utilisation = sum(told) / len(told)
    return list(found.values())


def _add(row: NodeRow, device: Device, busy: list[float]) -> None:
    row.devices += 1
    row.models[device.model] += 1
    if device.is_simulated:
        row.simulated += 1
    if is_unhealthy(device):
        row.unhealthy += 1
    if device.reason:
        row.reasons[f"{device.index}: {device.reason}"] = None
    if device.jobs:
        row.used_milli += used_milli(device)
        for job in device.jobs:
            row.jobs[job.id] = None
    values = device.values
    if (utilisation := values[UTIL]) is not None:
        busy.append(utilisation)
    if (watts := values[POWER]) is not None:
        row.watts = watts if row.watts is None else row.watts + watts
    if (heat := values[TEMPERATURE]) is not None and (row.hottest_c is None or heat > row.hottest_c):
        row.hottest_c = heat


def node_pane() -> Pane[NodeRow]:
    return Pane(
        "nodes",
        "Nodes",
        [
            Field("NODE", lambda n: n.name, lambda n: natural(n.name), 6, most=30),
            Field("KIND", _kind, _kind, 4, most=5, style=kind_style),
            Field("SITE", lambda n: n.site, lambda n: n.site, 4, most=20, shed=9),
            Field("RACK", lambda n: n.rack or "", lambda n: natural(n.rack) if n.rack else None, 4, most=12, shed=8),
            Field("STATE", lambda n: n.state, lambda n: n.state, 8, style=state_style),
            Field("DEVICES", _models, lambda n: n.devices, 8, most=32, falling=True, shed=3),
            Field("USED", _used, lambda n: n.used_milli, 7, right=True, falling=True),
            Field("ILL", lambda n: str(n.unhealthy), lambda n: n.unhealthy, 3, right=True, falling=True, style=_ill),
            Field("UTIL", _utilisation, lambda n: n.utilisation, 5, right=True, falling=True),
            Field("POWER", _power, lambda n: n.watts, 7, right=True, falling=True),
            Field("HOTTEST", _hottest, lambda n: n.hottest_c, 7, right=True, falling=True, style=_heat),
            Field("JOBS", lambda n: " ".join(n.jobs), lambda n: len(n.jobs), 8, most=24, falling=True, shed=4),
            Field(
                "NOTE", lambda n: "; ".join(n.reasons), lambda n: "; ".join(n.reasons) or None, 10, rest=True, shed=7
            ),
        ],
        none="no node is known yet: one comes with `suanli up`, others with `suanli node join`",
        identity=lambda n: n.name,
        text=_text,
    )


def _text(row: NodeRow) -> str:
    words = (row.name, row.site, row.rack or "", row.state, _kind(row), *row.models, *row.jobs, *row.reasons)
    return " ".join(words).lower()


def _kind(row: NodeRow) -> str:
    return "real" if not row.simulated else "sim" if row.simulated == row.devices else "mixed"


def _models(row: NodeRow) -> str:
    return ", ".join(f"{count} x {model}" for model, count in row.models.items())


def _used(row: NodeRow) -> str:
    return f"{row.used_milli / 1000:.3g}/{row.devices}"


def _utilisation(row: NodeRow) -> str:
    return "" if row.utilisation is None else f"{row.utilisation:.0f}%"


def _power(row: NodeRow) -> str:
    return "" if row.watts is None else power_text(row.watts)


def _hottest(row: NodeRow) -> str:
    return "" if row.hottest_c is None else f"{row.hottest_c:.0f} C"


def _heat(row: NodeRow, _text: str) -> str:
    return "bold red" if row.hottest_c is not None and row.hottest_c >= HOT_C else ""


def _ill(row: NodeRow, _text: str) -> str:
    return "bold red" if row.unhealthy else ""


def without_devices(states: dict[str, int], rows: Sequence[NodeRow]) -> str:
    """Nodes that the service counts and that no device names."""
    missing = sum(states.values()) - len(rows)
    return f"and {missing:,} without devices" if missing > 0 else ""
