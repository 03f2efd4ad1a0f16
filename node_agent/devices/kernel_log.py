"""Which faults of devices does the kernel's log tell of? XIDs as NVIDIA's driver prints them.

/dev/kmsg gives one record a read: `priority,number,microseconds,flags;text`, from the moment at which it was opened.
Reading it takes root or CAP_SYSLOG where the kernel is told so (kernel.dmesg_restrict).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from node_agent.devices.source import DeviceEvent

KERNEL_LOG = Path("/dev/kmsg")
RECORD_BYTES = 8192
AT_MOST = 256  # records a round
TEXT_CHARACTERS = 300

PLACE = r"(?P<bus>[0-9A-Fa-f:.]{4,20})"
XID = re.compile(rf"NVRM: (?:GPU )?Xid \(PCI:{PLACE}\): (?P<code>\d{{1,5}}),?\s*(?P<text>.*)", re.DOTALL | re.ASCII)
SXID = re.compile(rf"SXid \(PCI:{PLACE}\): (?P<code>\d{{1,6}}),?\s*(?P<text>.*)", re.DOTALL | re.ASCII)
FALLEN = re.compile(rf"NVRM: GPU (?:at PCI:)?{PLACE}.{{0,80}}has fallen off the bus", re.DOTALL)


def bus_id(text: str) -> str:
    """A place on PCI as `0000:3b:00.0`, from any of the ways in which drivers write it."""
    parts = text.lower().strip(":.").split(":")
    domain = parts[-3][-4:].rjust(4, "0") if len(parts) > 2 and parts[-3] else "0000"
    bus = parts[-2] if len(parts) > 1 else parts[0]
    slot = parts[-1] if len(parts) > 1 else "00"
    return f"{domain}:{bus}:{slot if '.' in slot else slot + '.0'}"


def fault_in(text: str, at_s: float) -> DeviceEvent | None:
    """The fault that a line of the log tells of, if it does. `uuid` is not known here, only the place on PCI."""
    for kind, pattern in (("xid", XID), ("sxid", SXID), ("lost", FALLEN)):
        found = pattern.search(text)
        if found is not None:
            code = int(found["code"]) if kind != "lost" else 79
            said = found["text"].strip() if kind != "lost" else "the card has fallen off the bus"
            name = {"xid": "XID", "sxid": "SXID"}.get(kind, "XID")
            shown = f"{name} {code}: {said}"[:TEXT_CHARACTERS]
            return DeviceEvent(None, kind, code, shown, at_s, "kernel log", bus_id(found["bus"]))
    return None


class KernelLog:
    """From now on. `note` is empty while it can be read."""

    def __init__(self, path: Path | str = KERNEL_LOG) -> None:
        self.note = ""
        self._file = -1
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self.note = f"the kernel's log cannot be read ({error.strerror}): faults are heard of from the driver alone"
            return
        try:
            os.lseek(self._file, 0, os.SEEK_END)
        except OSError:
            pass  # not a log of the kernel: read as it comes

    def heard(self, now_s: float) -> list[DeviceEvent]:
        found = []
        for _ in range(AT_MOST):
            if self._file < 0:
                break
            try:
                record = os.read(self._file, RECORD_BYTES)
            except BrokenPipeError:
                continue  # records were overwritten before they were read: go on with the oldest that is left
            except BlockingIOError:
                break
            except OSError as error:
                self.note = f"the kernel's log cannot be read any more ({error.strerror})"
                self.close()
                break
            if not record:
                break
            for line in record.decode("utf-8", "replace").splitlines():
                event = fault_in(line.partition(";")[2] or line, now_s)
                if event is not None:
                    found.append(event)
        return found

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
