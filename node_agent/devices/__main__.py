"""`python -m node_agent.devices`: the devices of this machine as the agent sees them, without a cluster.

    list                        which there are, and what is known of them as a whole
    read [--group GROUP]        their readings, once
    record FILE [--for S]       into a recording that `devices: ["replay:FILE"]` plays back

Exit codes: 0; 1 no source can be used; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from node_agent.devices.detect import detect
from node_agent.devices.openers import DEFAULT_NAMES
from node_agent.devices.recording import record
from node_agent.devices.source import DeviceSource, DeviceSourceError, Group, Reading

# Until the slowest group was sampled once.
WARM_S = 2.0


def main(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    try:
        source = detect(tuple(options.source or DEFAULT_NAMES))
    except DeviceSourceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    try:
        if options.verb == "list":
            _list(source)
        elif options.verb == "read":
            _read(source, [Group(options.group)] if options.group else None)
        else:
            size = record(source, Path(options.file), options.seconds)
            print(f"{options.file}: {size:,} bytes", file=sys.stderr)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        source.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m node_agent.devices", description="Devices of this machine.")
    parser.add_argument("--source", action="append", metavar="NAME", help="only this source; may be repeated")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="which devices there are")
    read = verbs.add_parser("read", help="their readings, once")
    read.add_argument("--group", choices=[group.value for group in Group])
    recording = verbs.add_parser("record", help="write a recording")
    recording.add_argument("file")
    recording.add_argument("--for", dest="seconds", type=float, default=3600.0, metavar="S", help="default: an hour")
    return parser


def _list(source: DeviceSource) -> None:
    for device in source.enumerate():
        of = f" of {device.card} ({device.mig_profile})" if device.card else ""
        place = f", {device.bus_id}" if device.bus_id else ""
        print(f"{device.index}  {device.model}  {device.uuid}{of}{place}, {device.memory_bytes / 2**30:.1f} GiB")
    topology = source.topology()
    print(f"{topology.found} found, {topology.expected} expected")
    for name, version in topology.versions.items():
        print(f"{name} {version}")
    for link in topology.links:
        print(f"{link.one} - {link.other}: {link.by}")
    for note in topology.notes:
        print(f"note: {note}")


def _read(source: DeviceSource, groups: Sequence[Group] | None) -> None:
    source.read(time.time(), groups)
    time.sleep(WARM_S)
    for uuid, fields in source.read(time.time(), groups).items():
        print(uuid)
        for quantity, found in fields.items():
            if isinstance(found, Reading):
                print(f"  {quantity}: {found.value:.10g} {found.unit}")
            elif not found.lasting:
                print(f"  {quantity}: none, {found.reason}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
