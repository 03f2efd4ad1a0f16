"""`suanli drain` and `suanli resume`: take a node out of use and back."""

from __future__ import annotations

import click

from scheduler.cli.client import Client, node_path
from scheduler.cli.options import output_option
from scheduler.cli.render import show_json


@click.command()
@click.argument("node")
@click.option("--reason", required=True, help="Why: shown by `suanli nodes --reasons`.")
@output_option
def drain(node: str, reason: str, output: str) -> None:
    """Start nothing new on NODE; what runs there goes on."""
    answer = Client.from_env().post(node_path(node, "drain"), {"reason": reason})
    if output == "json":
        show_json("drain", answer)
    else:
        click.echo(f"node {node} is {answer['state']}: nothing new starts there; `suanli resume {node}` takes it back")


@click.command()
@click.argument("node")
@output_option
def resume(node: str, output: str) -> None:
    """Take NODE back into use."""
    answer = Client.from_env().post(node_path(node, "resume"), {})
    if output == "json":
        show_json("resume", answer)
    else:
        click.echo(f"node {node} takes jobs again")
