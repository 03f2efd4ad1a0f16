"""The process that asks a driver: it samples each group at its interval and tells its parent, a line each.

Nothing else runs in it and next to nothing is imported, so that it is small, and so that a driver call that never comes
back stops nobody but it. Before every round of calls it notes the time in memory that it shares with its parent, and
afterwards takes the note away: a note that stays is how the parent knows that a call is stuck, and since when.

It ends when its standard input does, or at SIGTERM: after the round of calls that it is in, never inside one. Killing a
process inside a driver call has frozen cards.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from node_agent.devices.kernel_log import KernelLog
from node_agent.devices.packed import packed_device, packed_event, packed_row, packed_topology
from node_agent.devices.quantities import INTERVALS_S, QUANTITIES, Group
from node_agent.devices.source import DeviceSource, DeviceSourceError

BEAT = struct.Struct("<ddd")  # since when a call is on its way (0: none is), what it is for, rounds so far
BEAT_BYTES = 4096
DOINGS = ("opening the driver", "enumerating", "topology", "events", *(f"reading {group}" for group in INTERVALS_S))
LOOK_AGAIN_S = 30.0
LOOK = b"look\n"


class Beat:
    """The note in shared memory, on either side of it."""

    def __init__(self, file: int) -> None:
        self._memory = mmap.mmap(file, BEAT_BYTES)
        self._rounds = 0.0

    def begin(self, doing: str) -> None:
        BEAT.pack_into(self._memory, 0, time.monotonic(), float(DOINGS.index(doing)), self._rounds)

    def end(self) -> None:
        self._rounds += 1
        BEAT.pack_into(self._memory, 0, 0.0, 0.0, self._rounds)

    def seen(self) -> tuple[float, str]:
        """(since when by CLOCK_MONOTONIC, or 0.0; what for)"""
        since, doing, _ = BEAT.unpack_from(self._memory, 0)
        return since, DOINGS[int(doing)] if 0 <= doing < len(DOINGS) else "?"

    def close(self) -> None:
        self._memory.close()


class Sampler:
    """`say` writes a line; `source` is opened already."""

    def __init__(
        self,
        source: DeviceSource,
        beat: Beat,
        say: Callable[[dict[str, Any]], None],
        kernel_log: KernelLog | None,
        intervals_s: Mapping[Group, float] = INTERVALS_S,
    ) -> None:
        self._source = source
        self._beat = beat
        self._say = say
        self._kernel_log = kernel_log
        self._intervals_s = dict(intervals_s)
        self._due_s = dict.fromkeys(self._intervals_s, 0.0)
        self._look_at_s = 0.0
        self._devices: list[dict[str, Any]] | None = None

    def look(self) -> None:
        """Which devices are there, and what else is to be known of them as a whole."""
        self._beat.begin("enumerating")
        devices = [packed_device(device) for device in self._source.enumerate()]
        self._beat.end()
        self._say({"devices": devices})
        self._beat.begin("topology")
        topology = packed_topology(self._source.topology())
        self._beat.end()
        if self._kernel_log is not None and self._kernel_log.note:
            topology["notes"].append(self._kernel_log.note)
        self._say({"topology": topology})

    def step(self) -> float:
        """What is due now; how long until something is due again, in seconds."""
        now = time.monotonic()
        if now >= self._look_at_s:
            self._look_at_s = now + LOOK_AGAIN_S
            self.look()
        for group, interval_s in self._intervals_s.items():
            if now < self._due_s[group]:
                continue
            self._due_s[group] += interval_s
            if self._due_s[group] <= now:  # the first round, or a call took long: no catching up
                self._due_s[group] = now + interval_s
            self._read(group)
            if group is Group.FAST:
                self._listen()
        return max(0.0, min(self._due_s.values()) - time.monotonic())

    def _read(self, group: Group) -> None:
        quantities = QUANTITIES[group]
        self._beat.begin(f"reading {group}")
        at_s = time.time()
        found = self._source.read(at_s, (group,))
        self._beat.end()
        self._say({"read": group, "at_s": at_s, "of": {uuid: packed_row(f, quantities) for uuid, f in found.items()}})

    def _listen(self) -> None:
        self._beat.begin("events")
        heard = list(self._source.events(time.time()))
        self._beat.end()
        if self._kernel_log is not None:
            heard += self._kernel_log.heard(time.time())
        if heard:
            self._say({"events": [packed_event(event) for event in heard]})


def main(argv: list[str]) -> int:
    """`argv`: the source's name, its options as JSON, the number of the shared file, intervals as JSON, kernel log."""
    name, options, beat_file, intervals, kernel_log = argv
    ending = False

    def end(_number: int, _frame: object) -> None:
        nonlocal ending
        ending = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = sys.stdout.buffer

    def say(line: dict[str, Any]) -> None:
        out.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        out.flush()

    beat = Beat(int(beat_file))
    beat.begin("opening the driver")
    try:
        from node_agent.devices.openers import open_here

        source = open_here(name, json.loads(options))
        sampler = Sampler(
            source,
            beat,
            say,
            KernelLog(kernel_log) if kernel_log else None,
            {Group(group): float(seconds) for group, seconds in json.loads(intervals).items()},
        )
        while not ending:
            wait_s = sampler.step()
            readable, _, _ = select.select([0], [], [], wait_s)
            if readable:
                asked = os.read(0, 1024)
                if not asked:
                    break
                sampler.look()
        source.close()
    except DeviceSourceError as error:
        say({"failed": str(error)})
        return 3
    except BrokenPipeError:  # the parent is gone
        return 0
    finally:
        beat.end()
    return 0
