"""What the live view does to the site: cancel a job, drain a node, look something up. Each in a thread of its own, with
a connection of its own, so that a service that is slow holds up no key."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from scheduler.cli.cancel import line_of
from scheduler.cli.client import Client, job_path, node_path
from scheduler.cli.drain import sentence
from scheduler.cli.layout import width_of
from scheduler.cli.nodes import node_notes
from scheduler.cli.owned import tenant_of
from scheduler.cli.render import one_line, safe
from scheduler.cli.service import SERVICES, note_text, pairs
from scheduler.errors import SuanliError, from_wire

REASON = "from suanli top"


def in_background(work: Callable[[], str], done: Callable[[str | Exception], None]) -> None:
    """`done` is called in the other thread, with what was said or went wrong."""

    def run() -> None:
        try:
            said: str | Exception = work()
        except Exception as error:
            said = error
        done(said)

    threading.Thread(target=run, name="suanli-top-order", daemon=True).start()


def cancel(client: Client, job_id: str) -> str:
    answer = client.post("/v1/jobs/cancel", {"ids": [job_id], "reason": REASON})
    for row in answer["jobs"]:
        if row["error"] is not None:
            raise from_wire(row["error"]["type"], 0, row["error"]["message"], None)
    return "; ".join(line_of(row) for row in answer["jobs"])


def drain(client: Client, node: str, reason: str, *, now_s: float) -> str:
    return sentence(client.post(node_path(node, "drain"), {"reason": reason}), now_s=now_s)


def node_details(client: Client, node: str) -> str:
    """What is wrong there and why it takes nothing; each device's readings, each silence with its reason."""
    view = client.get(node_path(node))
    told: list[tuple[str, object]] = [
        ("node", view["name"] + (" (simulated)" if view["simulated"] else "")),
        ("state", view["state"]),
        ("site, rack", f"{view['site']}, {view['rack'] or '-'}"),
        ("address", view["address"]),
        ("notes", "\n".join(node_notes(view))),
    ]
    parts = [pairs_text(told)]
    for device in view["devices"]:
        parts.append(f"device {device['index']}: {device['model']}{' (simulated)' if device['simulated'] else ''}")
        readings = view["readings"].get(device["uuid"], {})
        shown = [(f"  {name.replace('_', ' ')}", _reading(reading)) for name, reading in readings.items()]
        parts.append(pairs_text(shown) if shown else "  no readings")
    return "\n".join(parts)


def _reading(reading: dict[str, object]) -> str:
    if "unavailable" in reading:
        return f"- ({reading['unavailable']})"
    value = reading["value"]
    number = f"{value:,.10g}" if isinstance(value, int | float) else str(value)
    mark = "" if reading.get("quality") == "measured" else f" ({reading.get('quality')})"
    return f"{number} {reading['unit']}{mark}"


def job_details(client: Client, job_id: str) -> str:
    """As `suanli why` says it; what runs or has ended says so there."""
    return str(client.get(job_path(job_id, "why"))["text"])


def service_details(client: Client, tenant: str, name: str) -> str:
    full_name = f"{tenant}/{name}"
    view = client.get(SERVICES.path(full_name), **tenant_of(full_name))
    return pairs_text([*pairs(view), ("note", note_text(view))])


def pairs_text(named: Sequence[tuple[str, object]]) -> str:
    """`name:  value` lines, aligned; pairs without a value are left out."""
    given = [(name, safe(str(value))) for name, value in named if value not in (None, "")]
    width = max((width_of(name) for name, _ in given), default=0) + 1
    lines = []
    for name, value in given:
        first, *more = value.split("\n")
        lines.append(f"{name}:" + " " * (width - width_of(name)) + first)
        lines.extend(" " * (width + 1) + line for line in more)
    return "\n".join(lines)


def told(said: str | Exception) -> tuple[str, bool]:
    """One line for the bottom of the screen, and whether it went well. Raises what is a bug of ours."""
    if isinstance(said, str):
        return one_line(said), True
    if isinstance(said, SuanliError):
        return one_line(said.message), False
    raise said
