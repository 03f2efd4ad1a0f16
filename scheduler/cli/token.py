"""`suanli token`: who may use this instance's API. Works on its files; the service notices at the next request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scheduler.cli.client import home_path
from scheduler.cli.options import output_option
from scheduler.cli.render import Table, hint, show_json, show_table

if TYPE_CHECKING:
    from scheduler.ports import Role


@click.group()
def token() -> None:
    """Make, list and revoke API tokens of this instance."""


@token.command()
@click.argument("name")
@click.option("--tenant", required=True, help="Whose jobs it submits; a tenant of the site's configuration.")
@click.option("--role", type=click.Choice(["operator", "tenant", "viewer"]), default="tenant", show_default=True)
@click.option("--max-priority-class", default="normal", show_default=True, help="The highest class it may submit at.")
@click.option("--replace", is_flag=True, help="Take the place of a token of the same name.")
@output_option
def create(name: str, tenant: str, role: Role, max_priority_class: str, replace: bool, output: str) -> None:
    """Make a token called NAME and print it: it is shown this once and kept nowhere."""
    from scheduler import tokens
    from scheduler.ports import Principal

    _check_names(tenant, role, max_priority_class)
    principal = Principal(name, tenant, role, max_priority_class)
    made = tokens.issue(_path(), principal, replace=replace)
    if output == "json":
        show_json("token", {"token": made, "name": name, "tenant": tenant, "role": role})
    else:
        click.echo(made)
        hint("keep it in a file of mode 0600 and name that in SUANLI_TOKEN_FILE; it cannot be shown again")


@token.command("list")
@output_option
def list_tokens(output: str) -> None:
    """List who holds a token. The tokens themselves are not known."""
    from dataclasses import asdict

    from scheduler import tokens

    found = tokens.principals(_path())
    if output == "json":
        show_json("tokens", {"tokens": [asdict(principal) for principal in found]})
        return
    table = Table(["NAME", "TENANT", "ROLE", "MAX-CLASS"])
    for principal in found:
        table.add(principal.name, principal.tenant, principal.role, principal.max_priority_class)
    show_table(table)


@token.command()
@click.argument("name")
@output_option
def revoke(name: str, output: str) -> None:
    """Make the token called NAME worthless, from the next request on."""
    from scheduler import tokens

    tokens.revoke(_path(), name)
    if output == "json":
        show_json("token-revoked", {"name": name})
    else:
        click.echo(f"token {name} is revoked")


def _check_names(tenant: str, role: str, max_priority_class: str) -> None:
    """Against the configuration that the instance was started with, or the one that ships."""
    from difflib import get_close_matches

    from scheduler.cli.instance import Home
    from scheduler.cli.up import default_config
    from scheduler.errors import BadInput
    from scheduler.schema.load import load_site

    started = Home(home_path()).started() if home_path().exists() else None
    site = load_site(Path(started.config) if started else default_config())
    for option, value, known in (
        ("--tenant", tenant, site.tenants),
        ("--max-priority-class", max_priority_class, site.priority_classes),
    ):
        if value not in known:
            near = get_close_matches(value, known, 1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            raise BadInput(f"{option}: expected one of {', '.join(known)}; got {value!r}{meant}", field=option)
    highest = site.tenants[tenant].max_priority_class
    classes = site.priority_classes
    if role == "tenant" and classes[max_priority_class].priority > classes[highest].priority:
        raise BadInput(
            f"--max-priority-class: tenant {tenant} may use {highest} at most (tenants file); got {max_priority_class}",
            field="--max-priority-class",
        )


def _path() -> Path:
    return home_path() / "tokens.json"
