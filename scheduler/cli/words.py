"""Numbers and views in an operator's words: durations, sizes, where a job stands. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

View = Mapping[str, Any]

ENDED = frozenset({"succeeded", "failed", "cancelled"})
EVIDENCE = {
    "accelerator": "measured",
    "cpu": "measured on a CPU: counts towards no goal",
    "simulated": "simulated: nothing was computed",
}
UNREAD = "not read"
_READ_EVERY_S = 10.0  # as node_agent/metering.py reads a run's devices
MOST_PLACES = 2  # nodes that the ON column names before it counts the rest


def duration(seconds: float) -> str:
    """45s, 12m, 3h05m, 2d4h: two units at most, rounded down."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def milliseconds(seconds: float) -> str:
    """`0.81 ms`, `12 ms`, `1.2 s`: two digits."""
    return f"{seconds:.2g} s" if seconds >= 1 else f"{float(f'{seconds * 1000:.2g}'):g} ms"


def moment(at_s: float | None) -> str:
    """Local time to the second, or nothing."""
    return "" if at_s is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))


def size(size_bytes: float) -> str:
    """Binary units, as memory is sold and allotted: 80 GiB, 1.5 TiB."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.3g} TiB" if value < 1000 else f"{value:.0f} TiB"


def or_unread(value: float | None, how: Callable[[float], str], otherwise: str = UNREAD) -> str:
    """What was not read is said to be so, and is no 0."""
    return otherwise if value is None else how(value)


def joules(use: View) -> str:
    """`>= 1,234` where a counter was set back meanwhile."""
    if use["joules"] is None:
        return UNREAD
    return f"{'>= ' if use['joules_at_least'] else ''}{use['joules']:,.1f}"


def metered(use: View, seconds: float, unmetered_s: float) -> str:
    """`58.2 of 60.0 s`; a gap that is more than the two ends between readings is named. The first and last readings may
    be a moment outside the run: no more than all of it is metered, as in the books."""
    if use["joules"] is None:
        return "energy not read"
    said = f"{min(use['metered_s'], seconds):.1f} of {seconds:.1f} s"
    gap = unmetered_s > max(2 * _READ_EVERY_S, 0.1 * seconds)
    return f"{said} (the agent was restarted, or its readings were missing)" if gap else said


def pflops(gflops: float) -> str:
    return f"{gflops / 1e6:.4g}"


def milli(value_milli: float) -> str:
    return f"{value_milli / 1000:g}"


def ranges(numbers: Sequence[int]) -> str:
    """0-3,6: consecutive numbers drawn together."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)


def place(view: View) -> str:
    """Where a job stands or, when it has ended, last stood: `edge-0:0-3`, `h100-0:0,h100-1:0 (simulated)`."""
    by_node: dict[str, list[int]] = {}
    for worker in view["workers"]:
        if worker["phase"] != "exited" or view["state"] in ENDED:
            by_node.setdefault(worker["node"], []).extend(worker["devices"])
    places = [f"{node}:{ranges(sorted(set(devices)))}" if devices else node for node, devices in by_node.items()]
    if len(places) > MOST_PLACES:
        more = len(places) - MOST_PLACES
        places = [*places[:MOST_PLACES], f"+{more} {'node' if more == 1 else 'nodes'}"]
    text = " ".join(places)
    return f"{text} (simulated)" if text and any(worker["simulated"] for worker in view["workers"]) else text


def workers(view: View) -> str:
    """`2/4`: placed of wanted (what a service was last scaled to); `1/1-4` for an elastic job; what was wanted for one
    that has ended."""
    wanted = str(view["workers_min"])
    if view["workers_wanted"] is not None:
        wanted = str(view["workers_wanted"])
    elif view["workers_max"] != view["workers_min"]:
        wanted += f"-{view['workers_max']}"
    if view["state"] in ENDED:
        return wanted
    placed = sum(1 for worker in view["workers"] if worker["phase"] != "exited")
    return f"{placed}/{wanted}"


def version(view: View) -> str:
    """`2 (canary, 25%)`: of a service that was deployed or has but one; nothing for other jobs."""
    told = view.get("version")
    if told is None:
        return ""
    share = "" if told["weight_milli"] in (0, 1000) else f", {told['weight_milli'] / 10:g}%"
    return f"{told['number']} ({told['state']}{share})"


def name(view: View) -> str:
    """As a list shows it: a service with its version where that is not its first and only one."""
    told = view.get("version")
    plain = told is None or (told["number"] == 1 and told["weight_milli"] == 1000)
    return str(view["name"]) if plain else f"{view['name']} v{version(view)}"


def constraints(view: View) -> str:
    """`within one rack, spread over nodes`: what the job file says of where its workers stand."""
    near = view["constraints"]
    said = [
        f"within one {near['within']}" if near["within"] else "",
        f"spread over {near['spread']}s" if near["spread"] else "",
        f"at most one in each {near['one_per']}" if near["one_per"] else "",
        f"on no node with {', '.join(near['apart_from'])}" if near["apart_from"] else "",
    ]
    return ", ".join(filter(None, said))


def reason(view: View) -> str:
    """Why it does not run, is being stopped or has ended; nothing for a job that simply runs or has succeeded."""
    if view["reason"] is not None and view["state"] == "pending":
        return str(view["reason"]["text"])
    if view["cause"] is None or view["state"] == "succeeded":
        return ""
    if view["cause"] == view["state"]:  # cancelled: the state says it already
        return str(view["detail"] or "")
    return f"{view['cause']}: {view['detail']}" if view["detail"] else str(view["cause"])


def estimated_start(view: View, now_s: float) -> str:
    if view["state"] != "pending" or view["est_start_s"] is None:
        return ""
    left_s = view["est_start_s"] - now_s
    return "now" if left_s < 1 else f"in {duration(left_s)}"


def sentence(view: View) -> str:
    """One line on one job, for answers of verbs that change or wait for it."""
    why = reason(view)
    return f"job {view['id']} ({view['name']}): {view['state']}" + (f": {why}" if why else "")
