"""`suanli status`: the running service's processes, addresses and counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from scheduler.cli import words
from scheduler.cli.client import Client
from scheduler.cli.layout import Column
from scheduler.cli.options import output_option
from scheduler.cli.render import Table, show_json, show_pairs, show_table


def stranded(fragmentation: Mapping[str, Any]) -> str:
    """`12% of 3.5 idle devices`: what is idle and typical work could not use; or why there is no such figure."""
    told = []
    for kind, figure in fragmentation.items():
        idle = words.milli(figure["idle_milli"])
        what = "idle simulated devices" if kind == "simulated" else "idle devices"
        if figure["share"] is not None:
            told.append(f"{figure['share']:.0%} of {idle} {what}")
        elif figure["idle_milli"]:
            told.append(f"not known of {idle} {what}: no work was submitted yet")
    return ", ".join(told) or "nothing is idle"


def passes_text(passes: Mapping[str, Any]) -> str:
    """`last 0.8 ms, 99% within 12 ms, longest 81 ms, of 5120`."""
    if not passes["count"]:
        return "none yet"
    last, p99, longest = (words.milliseconds(passes[name]) for name in ("last_s", "p99_s", "longest_s"))
    return f"last {last}, 99% within {p99}, longest {longest}, of {passes['count']}"


def commits_text(writes: Mapping[str, Any]) -> str:
    """`412 in 1.2 ms each, longest 30 ms; 88 of submissions in 3 ms each, longest 21 ms`."""
    told = []
    for of, figures in writes.items():
        if figures["count"]:
            mean = words.milliseconds(figures["total_s"] / figures["count"])
            which = "" if of == "commits" else f" of {of}"
            told.append(f"{figures['count']}{which} in {mean} each, longest {words.milliseconds(figures['longest_s'])}")
    return "; ".join(told)


def dispatch_text(dispatch: Mapping[str, Any]) -> str:
    """`104 started, 5.1 ms on average from decision to news; 2 requeued`."""
    if not dispatch["started"]:
        return "nothing has started yet"
    timed = dispatch["starting_s"]
    mean = (
        ""
        if not timed["count"]
        else f", {words.milliseconds(timed['total_s'] / timed['count'])} on average from decision to news"
    )
    requeued = f"; {dispatch['requeued']} requeued" if dispatch["requeued"] else ""
    return f"{dispatch['started']} started{mean}{requeued}"


@click.command()
@output_option
def status(output: str) -> None:
    """Show the running service."""
    answer = Client.from_env().get("/v1/status")
    if output == "json":
        show_json("status", answer)
        return
    counts = ", ".join(f"{count} {state}" for state, count in answer["jobs"].items() if count)
    show_pairs(
        [
            ("version", answer["version"]),
            ("service", f"pid {answer['service_pid']}, epoch {answer['epoch']}"),
            ("API", answer["api"]),
            ("gateway", answer["gateway"]),
            ("Ray", answer["ray_address"]),
            ("store", answer["store"]),
            ("jobs", counts or "none waits or runs"),
            ("stranded", stranded(answer["fragmentation"])),
            ("passes", passes_text(answer["loop"]["pass_s"])),
            ("commits", commits_text(answer["writes"])),
            ("dispatch", dispatch_text(answer["dispatch"])),
            ("cannot keep", answer["loop"]["store_error"]),
            ("bugs met", f"{answer['loop']['bugs']}: see the service's log" if answer["loop"]["bugs"] else ""),
        ]
    )
    click.echo()
    table = Table(["AGENT", Column("PID", right=True), Column("LAUNCHER", right=True), Column("NODES", folds=True)])
    for agent in answer["agents"]:
        table.add(agent["node"], agent["pid"], agent["launcher_pid"], " ".join(agent["nodes"]))
    show_table(table)
