"""`suanli devices`: every device with its use, jobs and readings; once, or again and again.

`suanli devices record` is another matter: it looks at this machine's own devices, and needs no service.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from scheduler.cli.client import Client
from scheduler.cli.device_listing import (
    SHOWN_FIELDS,
    Device,
    DeviceListing,
    SiteTotals,
    age_s,
    is_unhealthy,
    jobs_text,
    model_text,
    natural,
    read_listing,
    silence_text,
    totals,
    totals_text,
    use_word,
    used_milli,
    value_text,
    why_silent,
)
from scheduler.cli.layout import Column
from scheduler.cli.options import output_option
from scheduler.cli.render import Table, hint, one_line, show_json, show_table
from scheduler.cli.words import duration
from scheduler.errors import BadInput

EVERY_S = 2.0
# What the readings' columns of the plain table are made of; faults and ECC errors stand in NOTE where there are any.
TABLE_FIELDS = SHOWN_FIELDS[:6]
COUNTS = ("ecc_uncorrected_volatile", "faults")

SortKey = Callable[[DeviceListing, Device], Any]


def _by_value(field: str) -> SortKey:
    def key(listing: DeviceListing, device: Device) -> float | None:
        column = listing.column(field)
        return None if column is None else device.values[column]

    return key


# By the word after --sort; those that are numbers go from the greatest down.
SORTS: dict[str, SortKey] = {
    "node": lambda _listing, device: (natural(device.node), device.index),
    "model": lambda _listing, device: device.model,
    "use": lambda _listing, device: (not is_unhealthy(device), use_word(device)),
    "jobs": lambda _listing, device: used_milli(device),
    "util": _by_value("utilisation_percent"),
    "memory": _by_value("memory_used_bytes"),
    "power": _by_value("power_watts"),
    "temp": _by_value("temperature_celsius"),
    "clock": _by_value("clock_megahertz"),
    "energy": _by_value("energy_joules"),
    "faults": _by_value("faults"),
}
FROM_THE_TOP = frozenset({"jobs", "util", "memory", "power", "temp", "clock", "energy", "faults"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for on the command line."""

    query: dict[str, str | None]
    fields: tuple[str, ...] | None
    unhealthy: bool
    sort: str
    why: bool
    output: str


@click.group(invoke_without_command=True)
@click.option("--site", help="Only devices of this site.")
@click.option("--node", help="Only this node's.")
@click.option("--model", help="Only of this model, as the catalogue spells it.")
@click.option("--unhealthy", is_flag=True, help="Only those that are not schedulable, with the reason.")
@click.option("--field", "fields", multiple=True, metavar="NAME,...", help="These readings instead of the usual ones.")
@click.option("--sort", type=click.Choice(list(SORTS)), default="node", show_default=True, help="Numbers: most first.")
@click.option("--why", is_flag=True, help="Say of each dash why there is no reading.")
@click.option(
    "-w",
    "--watch",
    "every",
    is_flag=False,
    flag_value=EVERY_S,
    type=click.FloatRange(0.2, 3600),
    metavar="[SECONDS]",
    help=f"Again and again, every {EVERY_S:g} s or as many as you say; ctrl-C ends it.",
)
@output_option
@click.pass_context
def devices(
    context: click.Context,
    site: str | None,
    node: str | None,
    model: str | None,
    unhealthy: bool,
    fields: tuple[str, ...],
    sort: str,
    why: bool,
    every: float | None,
    output: str,
) -> None:
    """List devices: what each is used for, how it fares, what it says of itself.

    A dash is a reading that is not to be had; --why (or -o json) says why. Simulated devices are marked and counted
    apart. Names of readings: docs/telemetry.md.
    """
    if context.invoked_subcommand is not None:
        _refuse_options_before(context)
        return
    named = _field_names(fields)
    # The totals' power is asked for too; it is shown as a column only where it was named.
    asked = None if named is None else ",".join(dict.fromkeys((*named, "power_watts")))
    wanted = Wanted({"site": site, "node": node, "model": model, "fields": asked}, named, unhealthy, sort, why, output)
    client = Client.from_env()
    if every is None:
        show(wanted, client.get_bytes("/v1/devices", **wanted.query))
        return
    from scheduler.cli.watching import watch

    watch(
        every,
        lambda: client.get_bytes("/v1/devices", **wanted.query),
        lambda body: show(wanted, body),
        in_place=output == "table",
    )


def _refuse_options_before(context: click.Context) -> None:
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name is not None
        and context.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise BadInput(f"{given[0]} is about the list of devices; it does not go with {context.invoked_subcommand}")


def _field_names(given: Sequence[str]) -> tuple[str, ...] | None:
    """None: the usual ones. The service knows which names there are."""
    if not given:
        return None
    names = [name.strip() for part in given for name in part.split(",")]
    if not all(names):
        raise BadInput("--field: names of readings, separated by commas, are expected", field="--field")
    return tuple(dict.fromkeys(names))


def show(wanted: Wanted, body: bytes) -> int:
    """Write it; how many lines of sums stand under the table."""
    listing = read_listing(body)
    found = chosen(listing, wanted)
    sums = totals(listing, found)
    if wanted.output == "json":
        document = _as_told(body, found)
        show_json("devices", {**document, "totals": {kind: asdict(of) for kind, of in _kinds(sums)}})
        return 0
    show_table(table_of(listing, found, wanted))
    if not found:
        hint("no device is unhealthy" if wanted.unhealthy else "no such device; `suanli nodes` lists what there is")
    lines = [
        f"{kind}: {totals_text(of)}"
        for kind, of in _kinds(sums)
        if of.devices or (kind == "real" and not sums.simulated.devices)
    ]
    if listing.truncated:
        lines.append("there are more than these; narrow it down with --site, --node or --model")
    click.echo("\n".join(lines))
    return len(lines)


def _kinds(sums: SiteTotals) -> tuple[tuple[str, Any], ...]:
    return ("real", sums.real), ("simulated", sums.simulated)


def _as_told(body: bytes, found: Sequence[Device]) -> dict[str, Any]:
    """The service's own words for the devices that are shown, whatever a newer one says beside what we know of."""
    import json

    document: dict[str, Any] = json.loads(body)
    by_uuid = {(told["node"], told["uuid"]): told for told in document["devices"]}
    document.pop("schema", None)
    return {**document, "devices": [by_uuid[device.node, device.uuid] for device in found]}


def chosen(listing: DeviceListing, wanted: Wanted) -> list[Device]:
    """Those that are shown, in their order: by node and number, and what has no such reading last."""
    found = [device for device in listing.devices if is_unhealthy(device) or not wanted.unhealthy]
    found.sort(key=lambda device: SORTS["node"](listing, device))
    if wanted.sort != "node":
        key = SORTS[wanted.sort]
        keyed = [(key(listing, device), device) for device in found]
        known = [pair for pair in keyed if pair[0] is not None]
        known.sort(key=lambda pair: pair[0], reverse=wanted.sort in FROM_THE_TOP)
        found = [device for _key, device in known] + [device for key_, device in keyed if key_ is None]
    return found


def table_of(listing: DeviceListing, found: Sequence[Device], wanted: Wanted) -> Table:
    usual = wanted.fields is None
    readings = (
        [
            Column("UTIL", right=True),
            Column("MEMORY", right=True),
            Column("POWER", right=True),
            Column("TEMP", right=True, shed=1),
            Column("CLOCK", right=True, shed=2),
        ]
        if wanted.fields is None
        else [Column(name.replace("_", "-").upper(), right=True) for name in wanted.fields]
    )
    table = Table(
        [
            Column("NODE"),
            Column("DEV", right=True),
            Column("MODEL", folds=True, least=12),
            Column("USE", styled=True),
            Column("JOBS", folds=True, least=4),
            *readings,
            Column("NOTE", folds=True, below=True),
        ]
    )
    for device in found:
        told = dict(zip(listing.fields, device.values, strict=True))
        cells = usual_cells(told) if usual else [value_text(field, told.get(field)) for field in wanted.fields or ()]
        table.add(
            device.node,
            device.index,
            model_text(device),
            use_word(device),
            jobs_text(device),
            *cells,
            note(listing, device, wanted),
        )
    return table


def usual_cells(told: dict[str, float | None]) -> list[str]:
    used = value_text("memory_used_bytes", told.get("memory_used_bytes"))
    total = value_text("memory_total_bytes", told.get("memory_total_bytes"))
    rest = ("power_watts", "temperature_celsius", "clock_megahertz")
    return [
        value_text("utilisation_percent", told.get("utilisation_percent")),
        f"{used or '-'} / {total or '-'}" if used or total else "",
        *(value_text(field, told.get(field)) for field in rest),
    ]


def note(listing: DeviceListing, device: Device, wanted: Wanted) -> str:
    """Why it is not used freely, what is amiss, how old its readings are; with --why each silence's reason."""
    said = [device.reason] if device.reason else []
    for field in COUNTS:
        column = listing.column(field)
        value = None if column is None else device.values[column]
        if value and wanted.fields is None:
            said.append(f"{field.replace('_', ' ')}: {value:g}")
    age = age_s(listing, device)
    if age is not None:
        said.append(f"read {duration(age)} ago")
    if wanted.why:
        silent = why_silent(listing, device, wanted.fields or TABLE_FIELDS)
        if silent:
            said.append(silence_text(silent))
    return "; ".join(one_line(part) for part in said)


# ---- record ------------------------------------------------------------------------------------------------------


@devices.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--seconds", type=click.FloatRange(0, 10_000_000, min_open=True), default=3600.0, show_default=True)
@click.option("--replace", is_flag=True, help="FILE may be there already.")
@click.option("--source", "sources", multiple=True, metavar="NAME", help="Only this source (nvml, ...); repeatable.")
def record(file: Path, seconds: float, replace: bool, sources: tuple[str, ...]) -> None:
    """Record into FILE what the devices of this machine say, to be played back.

    Ctrl-C ends it early and keeps what there is. `devices: ["replay:FILE"]` in a node's site file makes simulated
    devices of it, which go through what these went through (docs/watching.md).
    """
    from scheduler.cli.device_recording import record_devices

    began_s = time.monotonic()
    size = record_devices(file, seconds, replace=replace, sources=sources)
    lasted_s = time.monotonic() - began_s
    click.echo(f'{file}: {size:,} bytes, {duration(lasted_s)} of it; to play it back: devices: ["replay:{file}"]')
