"""Nodes and pods from CSV files of the shape of the openb trace (Alibaba cluster-trace-gpu-v2023).

Nodes: `sn,cpu_milli,memory_mib,gpu,model`. Pods: `name,cpu_milli,memory_mib,num_gpu,gpu_milli` and, if it is there,
`gpu_spec`, the acceptable models split by `|`. Other columns are passed over. A file that cannot be accepted raises
BadInput, which names the file, the line and the column.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.packing.shapes import Shape
from scheduler.errors import BadInput

_NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
_POD_COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
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
    for line in _lines(path, _NODE_COLUMNS):
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
    for line in _lines(path, _POD_COLUMNS):
        asks = _asked(line)
        pods.append(OpenbPod(line.text("name"), known.setdefault(asks, asks)))
    if not any(pod.asks.milli for pod in pods):
        raise BadInput(f"{path}: no pod asks for a device; there is nothing to pack", field="num_gpu")
    return tuple(pods)


def _asked(line: _Line) -> Shape:
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


# ---- the file --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Line:
    path: Path
    number_in_file: int
    cells: dict[str, str]

    def refused(self, column: str, why: str) -> BadInput:
        return BadInput(f"{self.path}, line {self.number_in_file}, column {column}: {why}", field=column)

    def text(self, column: str, *, may_be_empty: bool = False) -> str:
        cell = self.cells.get(column, "")
        if not (cell or may_be_empty):
            raise self.refused(column, "empty")
        return cell

    def number(self, column: str, largest: int) -> int:
        cell = self.text(column)
        try:
            value = int(cell.removesuffix(".0"))
        except ValueError:
            raise self.refused(column, f"{cell[:40]!r} is not a whole number") from None
        if not 0 <= value <= largest:
            raise self.refused(column, f"{value} is not between 0 and {largest}")
        return value


def _lines(path: Path, needed: Sequence[str]) -> Iterator[_Line]:
    """The data lines, cells by column title. Blank lines are passed over."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            titles = [title.strip() for title in next(reader, [])]
            for column in needed:
                if column not in titles:
                    raise BadInput(
                        f"{path}, line 1: there is no column {column}; needed: {','.join(needed)}", field=column
                    )
            for cells in reader:
                if not cells:
                    continue
                if len(cells) > len(titles):
                    raise BadInput(f"{path}, line {reader.line_num}: {len(cells)} cells under {len(titles)} titles")
                stripped = (cell.strip() for cell in cells)
                yield _Line(path, reader.line_num, dict(zip(titles, stripped, strict=False)))
    except csv.Error as error:
        raise BadInput(f"{path}, line {reader.line_num}: {error}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not a CSV file in UTF-8 ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
