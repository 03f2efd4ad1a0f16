"""Which adapters are there, by the names that the site file uses, and is what each needs on this machine?

Looking for a library or a command costs a look in the loader's or the shell's path, and nothing is imported, started or
initialised for an adapter that has neither.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from node_agent.devices.source import DeviceSource, DeviceSourceError


class SourceAbsent(DeviceSourceError):
    """What the adapter needs is not installed on this machine, so it has none of its devices."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """`where` is `module:name` of what is called with the options; it needs a `library` or a `command`.

    `vendor` is as the hardware catalogue spells it. `seen_on` says on which hardware it was run; empty: on none.
    """

    vendor: str
    where: str
    options: Mapping[str, Any]
    library: str | None = None
    command: str | None = None
    seen_on: str = ""

    def require(self) -> None:
        """Raises SourceAbsent."""
        if self.library is not None:
            from node_agent.devices.nvml import library_there

            if not library_there(self.library):
                raise SourceAbsent(f"{self.library} is not installed here")
        if self.command is not None and shutil.which(self.command) is None:
            raise SourceAbsent(f"{self.command} is not installed here")


NEVER_RUN = "never run on hardware of {vendor}: it was written from what its tools are seen to print"

ADAPTERS: Mapping[str, Adapter] = {
    "nvml": Adapter(
        "nvidia",
        "node_agent.devices.nvml:NvmlDevices",
        {},
        library="libnvidia-ml.so.1",
        seen_on="one H200, in part (docs/telemetry.md)",
    ),
}


def open_here(name: str, options: Mapping[str, Any]) -> DeviceSource:
    """In this process. Raises DeviceSourceError."""
    adapter = ADAPTERS.get(name)
    if adapter is None:
        raise DeviceSourceError(f"unknown device source {name!r}; known are {', '.join(sorted(ADAPTERS))}")
    module, _, attribute = adapter.where.partition(":")
    source: DeviceSource = getattr(import_module(module), attribute)(**{**adapter.options, **options})
    return source
