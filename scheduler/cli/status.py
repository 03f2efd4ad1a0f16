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
            ("cannot keep", answer["loop"]["store_error"]),
            ("bugs met", f"{answer['loop']['bugs']}: see the service's log" if answer["loop"]["bugs"] else ""),
        ]
    )
    click.echo()
    table = Table(["AGENT", Column("PID", right=True), Column("LAUNCHER", right=True), Column("NODES", folds=True)])
    for agent in answer["agents"]:
        table.add(agent["node"], agent["pid"], agent["launcher_pid"], " ".join(agent["nodes"]))
    show_table(table)
