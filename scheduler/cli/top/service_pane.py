"""The pane of inference services: how much they are asked, how fast they answer, what they lack."""

from __future__ import annotations

from typing import Any

from scheduler.cli import words
from scheduler.cli.device_listing import natural
from scheduler.cli.service import note_text
from scheduler.cli.top.pane import Field, Pane, state_style

View = dict[str, Any]


def service_pane() -> Pane[View]:
    return Pane(
        "services",
        "Services",
        [
            Field("NAME", lambda v: str(v["name"]), lambda v: natural(v["name"]), 8, most=30),
            Field("TENANT", lambda v: str(v["tenant"]), lambda v: v["tenant"], 6, most=18, shed=6),
            Field("CLASS", lambda v: v["priority_class"] or "", lambda v: v["priority_class"], 5, most=14, shed=8),
            Field("STATE", lambda v: str(v["state"]), lambda v: v["state"], 8, most=12, style=state_style),
            Field("VERSION", lambda v: str(v["version"] or ""), lambda v: v["version"], 7, right=True, shed=5),
            Field("READY", _ready, lambda v: v["replicas_ready"], 7, right=True, falling=True, style=_short),
            Field("REQ/S", _rate, lambda v: v["traffic"]["rate_per_s"], 6, right=True, falling=True),
            Field("P50", _time("p50_s"), _traffic("p50_s"), 7, right=True, falling=True, shed=4),
            Field("P99", _time("p99_s"), _traffic("p99_s"), 7, right=True, falling=True),
            Field("WITHIN", _within, _traffic("attainment"), 7, right=True, style=_late),
            Field(
                "WAIT",
                lambda v: str(v["traffic"]["waiting"]),
                _traffic("waiting"),
                5,
                right=True,
                falling=True,
                shed=3,
            ),
            Field("REFUSED", _refused, _refusals, 7, right=True, falling=True, shed=2),
            Field("NOTE", note_text, lambda v: note_text(v) or None, 10, rest=True, shed=7),
        ],
        none="no service is deployed: `suanli service deploy FILE`",
        identity=lambda v: (v["tenant"], v["name"]),
        text=lambda v: f"{v['tenant']}/{v['name']} {v['state']} {v['priority_class'] or ''} {note_text(v)}".lower(),
    )


def _ready(view: View) -> str:
    return f"{view['replicas_ready']}/{view['replicas_wanted']}"


def _short(view: View, _text: str) -> str:
    return "yellow" if view["replicas_ready"] < view["replicas_wanted"] else ""


def _rate(view: View) -> str:
    return f"{view['traffic']['rate_per_s']:.3g}"


def _traffic(name: str) -> Any:
    return lambda view: view["traffic"][name]


def _time(name: str) -> Any:
    def told(view: View) -> str:
        seconds = view["traffic"][name]
        return "" if seconds is None else words.milliseconds(seconds)

    return told


def _within(view: View) -> str:
    part = view["traffic"]["attainment"]
    return "" if part is None else f"{part:.2%}"


def _late(view: View, _text: str) -> str:
    part = view["traffic"]["attainment"]
    return "bold red" if part is not None and part < 0.99 else ""


def _refusals(view: View) -> int:
    return int(view["traffic"]["refused"] + view["traffic"]["hopeless"])


def _refused(view: View) -> str:
    return str(_refusals(view))
