"""A recording of a node's devices: one JSON object a line, written while it happens, to be played back (`replay.py`).

The first line is the head: version, vendor, and the order of the quantities in each group's rows, so that a recording
outlives a change of the schema. Then `devices` and `topology` whenever they are looked at, `read` for each round of a
group, and `events`. Text that is cut off in the middle of a line loses that line alone.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from node_agent.devices.packed import packed_device, packed_event, packed_row, packed_topology
from node_agent.devices.quantities import INTERVALS_S, QUANTITIES, Group
from node_agent.devices.source import Device, DeviceSource, DeviceSourceError

VERSION = 1
LOOK_AGAIN_S = 30.0


class Recorder:
    """Writes to `out` what `source` says. `step` records what is due and tells how long until something is again."""

    def __init__(self, source: DeviceSource, out: TextIO, *, intervals_s: Mapping[Group, float] = INTERVALS_S) -> None:
        self._source = source
        self._out = out
        self._intervals_s = dict(intervals_s) | {Group.EVENTS: min(intervals_s.values())}
        self._due_s = dict.fromkeys(self._intervals_s, float("-inf"))
        self._look_s = float("-inf")
        self._devices: Sequence[Device] = ()
        self._say(
            {
                "recording": VERSION,
                "vendor": source.vendor,
                "groups": {group: [q.value for q in quantities] for group, quantities in QUANTITIES.items()},
            }
        )

    def step(self, now_s: float) -> float:
        if now_s - self._look_s >= LOOK_AGAIN_S:
            self._look_s = now_s
            self._look(now_s)
        for group, interval_s in self._intervals_s.items():
            if now_s - self._due_s[group] >= interval_s:
                self._due_s[group] = now_s
                self._read(group, now_s)
        events = self._source.events(now_s)
        if events:
            self._say({"events": [packed_event(event) for event in events], "at_s": now_s})
        self._out.flush()
        return max(0.0, min(self._due_s[group] + each for group, each in self._intervals_s.items()) - now_s)

    def _look(self, now_s: float) -> None:
        try:
            self._devices = self._source.enumerate()
        except DeviceSourceError as error:  # an incident is what is wanted: what is there is recorded all the same
            self._say({"failed": str(error), "at_s": now_s})
            return
        self._say({"devices": [packed_device(device) for device in self._devices], "at_s": now_s})
        try:
            self._say({"topology": packed_topology(self._source.topology()), "at_s": now_s})
        except DeviceSourceError as error:
            self._say({"failed": str(error), "at_s": now_s})

    def _read(self, group: Group, now_s: float) -> None:
        found = self._source.read(now_s, (group,))
        rows = {uuid: packed_row(fields, QUANTITIES[group]) for uuid, fields in found.items()}
        self._say({"read": group, "at_s": now_s, "of": rows})

    def _say(self, line: Mapping[str, Any]) -> None:
        self._out.write(json.dumps(line, separators=(",", ":")) + "\n")


def record(
    source: DeviceSource,
    path: Path,
    for_s: float,
    *,
    intervals_s: Mapping[Group, float] = INTERVALS_S,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Record for so long; how many bytes it is. Ctrl-C ends it early. Raises OSError for the file."""
    with path.open("w", encoding="utf-8") as out:
        recorder = Recorder(source, out, intervals_s=intervals_s)
        ends_s = clock() + for_s
        try:
            while (now_s := clock()) < ends_s:
                sleep(max(0.001, min(recorder.step(now_s), ends_s - now_s)))
        except KeyboardInterrupt:
            pass
        out.flush()
        os.fsync(out.fileno())
    return path.stat().st_size
