"""Which adapters are there, by the names that the site file uses, and what does each need on this machine?

Looking for a library or a command costs a look in the loader's or the shell's path; nothing is imported, started or
initialised for an adapter that has neither. A vendor's file (configs/vendors/NAME.yaml) is an adapter by its name; the
site's own are looked for in the directory that SUANLI_VENDORS names, before those that ship.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import node_agent
from node_agent.devices.source import DeviceSource, DeviceSourceError

SHIPPED = Path(next(iter(node_agent.__path__))).resolve().parent / "configs" / "vendors"
OWN_VARIABLE = "SUANLI_VENDORS"
HEAD_BYTES = 4096
COMMAND = re.compile(rb"^command:\s*\[\s*[\"']?([^\s,\"'\]]+)", re.MULTILINE)
VENDOR = re.compile(rb"^vendor:\s*[\"']?([^\s\"'#]+)", re.MULTILINE)
SEEN_ON = re.compile(rb"^seen_on:\s*\S", re.MULTILINE)
FILE_NAME = re.compile(r"^[a-z0-9][a-z0-9-]{0,40}$")


# Whatever has a library or a command here, and the CPU last. Of those that have none nothing is told.
DEFAULT_NAMES = (
    "nvml",
    "ascend",
    "hygon",
    "cambricon",
    "metax",
    "moore-threads",
    "kunlun",
    "iluvatar",
    "cpu",
)
REPLAY = "replay:"  # and the path of a recording
SOURCES_VARIABLE = "SUANLI_NODE_SOURCES"
"""In an agent's environment: the sources of its machine, a JSON list of names, tried in order."""
MEND = "on a node with such cards install their driver"


class SourceAbsent(DeviceSourceError):
    """What the adapter needs is not installed on this machine, so it has none of its devices."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """`where` is `module:name` of what is called with `options`; it needs a `library` or a `command`.

    `vendor` is as the hardware catalogue spells it. `tried`: it was run on such hardware.
    """

    vendor: str
    where: str
    options: Mapping[str, Any]
    library: str | None = None
    command: str | None = None
    tried: bool = False
    interval_s: float | None = None

    def require(self) -> None:
        """Raises SourceAbsent; DeviceSourceError where what it needs is there and cannot be used."""
        if self.library is not None:
            from node_agent.devices.nvml import library_there

            if not library_there(self.library):
                raise SourceAbsent(f"{self.library} is not installed here; {MEND}")
        if self.command is not None and shutil.which(self.command) is None:
            raise SourceAbsent(f"{self.command} is not installed here; {MEND}")


ILUVATAR_NOTE = (
    "the adapter for iluvatar was never run on its hardware: it drives libixml.so by NVML's functions, which that"
    " library is said to have; check its readings against ixsmi"
)

BUILT_IN: Mapping[str, Adapter] = {
    "nvml": Adapter("nvidia", "node_agent.devices.nvml:NvmlDevices", {}, library="libnvidia-ml.so.1", tried=True),
    "iluvatar": Adapter(
        "iluvatar",
        "node_agent.devices.nvml:NvmlDevices",
        {"vendor": "iluvatar", "library": "libixml.so", "notes": [ILUVATAR_NOTE]},
        library="libixml.so",
    ),
}


def vendor_files() -> dict[str, Path]:
    """By name: the site's own before those that ship."""
    found: dict[str, Path] = {}
    own = os.environ.get(OWN_VARIABLE)
    for directory in (*([Path(own)] if own else []), SHIPPED):
        try:
            paths = sorted(directory.glob("*.yaml"))
        except OSError:
            continue
        for path in paths:
            if FILE_NAME.match(path.stem) and path.stem not in BUILT_IN:
                found.setdefault(path.stem, path)
    return found


def adapters() -> dict[str, Adapter]:
    """All of them. Of a vendor's file only the lines that name command and vendor are looked at."""
    found = dict(BUILT_IN)
    for name, path in vendor_files().items():
        try:
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES)
        except OSError:
            head = b""
        command, vendor = COMMAND.search(head), VENDOR.search(head)
        found[name] = Adapter(
            vendor[1].decode("utf-8", "replace") if vendor else name,
            "node_agent.devices.vendor:VendorDevices",
            {"path": str(path)},
            # A file without a command that can be seen is opened, so that its mistake is told.
            command=command[1].decode("utf-8", "replace") if command else None,
            tried=bool(SEEN_ON.search(head)),
            interval_s=10.0,
        )
    return found


def rooted(names: Sequence[str], directory: Path) -> tuple[str, ...]:
    """The same sources, with paths of recordings that hold wherever the agent runs: relative ones are below
    `directory`, which is that of the file which names them."""
    return tuple(
        f"{REPLAY}{(directory / name.removeprefix(REPLAY)).absolute()}" if name.startswith(REPLAY) else name
        for name in names
    )


def open_here(name: str, options: Mapping[str, Any]) -> DeviceSource:
    """In this process; `options` go before the adapter's own. Raises DeviceSourceError."""
    known = adapters()
    adapter = known.get(name)
    if adapter is None:
        raise DeviceSourceError(f"unknown device source {name!r}; known are {', '.join(sorted(known))}")
    module, _, attribute = adapter.where.partition(":")
    source: DeviceSource = getattr(import_module(module), attribute)(**{**adapter.options, **options})
    return source
