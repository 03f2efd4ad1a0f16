"""Nodes and pods from CSV files of the shape of the openb trace (Alibaba cluster-trace-gpu-v2023).

Nodes: `sn,cpu_milli,memory_mib,gpu,model`. Pods: `name,cpu_milli,memory_mib,num_gpu,gpu_milli` and, if it is there,
`gpu_spec`, the acceptable models split by `|`. Other columns are passed over. A file that cannot be accepted raises
BadInput, which names the file, the line and the column.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.packing.shapes import Shape
from scheduler.errors import BadInput
from scheduler.simulation.csv_lines import CsvLine, lines

_NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
POD_COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
_MIB = 2**20
_LARGEST = 2**40  # of CPUs or MiB: more is a slip of the pen, and sums must stay within 64 bits
_MOST_DEVICES = 1024


@dataclass(frozen=True, slots=True)
class OpenbNode:
    name: str
    cpus_milli: int
    memory_bytes: int
    devices: int
    model: str


@dataclass(frozen=True, slots=True)
class OpenbPod:
    name: str
    asks: Shape


def read_nodes(path: Path) -> tuple[OpenbNode, ...]:
    """All nodes of the file, in its order; at least one of them has a device."""
    nodes = []
    for line in lines(path, _NODE_COLUMNS):
        nodes.append(
            OpenbNode(
                name=line.text("sn"),
                cpus_milli=line.number("cpu_milli", _LARGEST),
                memory_bytes=line.number("memory_mib", _LARGEST) * _MIB,
                devices=line.number("gpu", _MOST_DEVICES),
                model=line.text("model", may_be_empty=True),
            )
        )
    if not any(node.devices for node in nodes):
        raise BadInput(f"{path}: no node has a device; there is nothing to pack", field="gpu")
    return tuple(nodes)


def read_pods(path: Path) -> tuple[OpenbPod, ...]:
    """All pods of the file, in its order; at least one of them asks for a device."""
    pods = []
    known: dict[Shape, Shape] = {}
    for line in lines(path, POD_COLUMNS):
        asks = asked(line)
        pods.append(OpenbPod(line.text("name"), known.setdefault(asks, asks)))
    if not any(pod.asks.milli for pod in pods):
        raise BadInput(f"{path}: no pod asks for a device; there is nothing to pack", field="num_gpu")
    return tuple(pods)


def asked(line: CsvLine) -> Shape:
    """What the line's pod asks for."""
    devices = line.number("num_gpu", _MOST_DEVICES)
    gpu_milli = line.number("gpu_milli", WHOLE_DEVICE_MILLI)
    if devices and not gpu_milli:
        raise line.refused("gpu_milli", f"0 of each of {devices} devices is asked for")
    if devices > 1 and gpu_milli < WHOLE_DEVICE_MILLI:
        raise line.refused("gpu_milli", f"{gpu_milli} of each of {devices} devices: only one device can be shared")
    models = frozenset(filter(None, (name.strip() for name in line.text("gpu_spec", may_be_empty=True).split("|"))))
    return Shape(
        cpus_milli=line.number("cpu_milli", _LARGEST),
        devices=devices,
        gpu_milli=gpu_milli if devices else 0,
        models=(models or None) if devices else None,
        memory_bytes=line.number("memory_mib", _LARGEST) * _MIB,
    )
