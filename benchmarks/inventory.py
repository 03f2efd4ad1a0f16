"""Which devices does a site own, as the service knows them? GET /v1/nodes reduced to what benchmarks and reports need.

The last answer is kept in `inventory.json` (0600), so that a report can be written when no service answers. Standard
library only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INVENTORY_SCHEMA = "suanli/inventory/1"
INVENTORY_FILE = "inventory.json"


@dataclass(frozen=True, slots=True)
class Device:
    """`free`: nothing of it is in use at the time of the answer."""

    uuid: str
    model: str
    vendor: str
    free: bool

    @property
    def is_cpu(self) -> bool:
        return self.vendor.lower() == "cpu"


@dataclass(frozen=True, slots=True)
class Node:
    """One node. Its devices are all real or all simulated."""

    name: str
    site: str
    state: str
    simulated: bool
    devices: tuple[Device, ...]
    cpus_free_milli: int = 0
    rack: str | None = None
    address: str = ""
    reservations: tuple[str, ...] = ()

    @property
    def free(self) -> tuple[Device, ...]:
        """Devices that a benchmark may take now."""
        return tuple(d for d in self.devices if d.free) if self.state == "ready" else ()


@dataclass(frozen=True, slots=True)
class Inventory:
    """The nodes at one moment, and the site's configuration (GET /v1/config) as it was then."""

    recorded_at_s: float
    nodes: tuple[Node, ...]
    config: Mapping[str, Any]


def parse_nodes(answer: Mapping[str, Any]) -> tuple[Node, ...]:
    """GET /v1/nodes as values. Raises KeyError, TypeError or ValueError where it is no such answer."""
    return tuple(
        Node(
            name=str(node["name"]),
            site=str(node["site"]),
            state=str(node["state"]),
            simulated=bool(node["simulated"]),
            devices=tuple(
                Device(str(d["uuid"]), str(d["model"]), str(d["vendor"]), int(d.get("used_milli", 0)) == 0)
                for d in node["devices"]
            ),
            cpus_free_milli=int(node.get("cpus_free_milli", 0)),
            rack=None if node.get("rack") is None else str(node["rack"]),
            address=str(node.get("address", "")),
            reservations=tuple(str(r["name"]) for r in node.get("reservations") or ()),
        )
        for node in answer["nodes"]
    )


def keep_inventory(
    directory: Path, *, nodes: Sequence[Mapping[str, Any]], config: Mapping[str, Any], at_s: float
) -> None:
    """Replace the kept inventory, atomically. Only what is needed is written: names, models, states."""
    kept = [
        {name: node.get(name) for name in ("name", "site", "state", "simulated", "rack")}
        | {"devices": [{name: d.get(name) for name in ("uuid", "model", "vendor")} for d in node["devices"]]}
        for node in nodes
    ]
    wanted = {name: config[name] for name in ("sites", "goals", "catalogue") if name in config}
    document = {"schema": INVENTORY_SCHEMA, "recorded_at_s": at_s, "nodes": kept, "config": wanted}
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = directory / f".{INVENTORY_FILE}.{os.getpid()}"
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(document, file, ensure_ascii=False)
    os.replace(beside, directory / INVENTORY_FILE)


def kept_inventory(directory: Path) -> Inventory | None:
    """The inventory that was kept last; None where there is none. Raises ValueError where it cannot be read."""
    path = directory / INVENTORY_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != INVENTORY_SCHEMA:
            raise ValueError(f"schema {document['schema']!r} is not {INVENTORY_SCHEMA}")
        return Inventory(float(document["recorded_at_s"]), parse_nodes(document), dict(document["config"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); remove it, the next `suanli bench run` writes it"
        ) from error
