"""`suanli doctor`: is this machine fit to run Suanli, and if not, how is each thing mended?"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click

from scheduler.cli.finding import Finding
from scheduler.cli.instance import Home
from scheduler.cli.options import output_option

MIN_PYTHON = (3, 11)
MIN_FREE_BYTES = 2 * 10**9


@click.command()
@click.option("--config", type=click.Path(path_type=Path), default=None, help="Site file to check.")
@output_option
@click.pass_context
def doctor(context: click.Context, config: Path | None, output: str) -> None:
    """Check Python, Ray, NVML, disk, ports, clock and isolation, and say how to mend each."""
    findings = examine(Home.from_environment(), config)
    if output == "json":
        click.echo(json.dumps({"schema": "suanli/doctor/1", "findings": [asdict(f) for f in findings]}))
    else:
        from scheduler.cli.render import Table, show_table

        table = Table(["CHECK", "VERDICT", "FOUND", "MEND"])
        for finding in findings:
            table.add(finding.check, finding.verdict, finding.found, finding.mend)
        show_table(table)
    if any(finding.verdict == "bad" for finding in findings):
        context.exit(1)


def examine(home: Home, config: Path | None) -> list[Finding]:
    """Every check; one that fails to run is itself a finding."""
    checks: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("python", _python),
        ("ray", _ray),
        ("nvml", _nvml),
        ("vendors", _vendors),
        ("disk", lambda: _disk(home)),
        ("open files", _open_files),
        ("ports", lambda: _ports(home, config)),
        ("parts", lambda: _parts(home)),
        ("quotas", lambda: _quotas(home)),
        ("clock", _clock),
        ("isolation", lambda: _isolation(home, config)),
    ]
    findings = []
    for name, check in checks:
        try:
            findings.extend(check())
        except Exception as error:
            findings.append(
                Finding(name, "bad", f"the check itself failed: {error}", "report this with the text above")
            )
    return findings


def _python() -> list[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if tuple(sys.version_info[:2]) < MIN_PYTHON:
        return [Finding("python", "bad", version, "install Python 3.11 or newer and run make setup PYTHON=python3.11")]
    return [Finding("python", "ok", version)]


def _ray() -> list[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("ray")
    except PackageNotFoundError:
        return [Finding("ray", "bad", "not installed", "run make setup")]
    findings = [Finding("ray", "ok", found)]
    ambient = sorted(name for name in os.environ if name.startswith("RAY_"))
    if ambient:
        findings.append(
            Finding(
                "ray", "note", f"{', '.join(ambient)} set in this shell", "nothing: `suanli up` does not pass them on"
            )
        )
    return findings


def _nvml() -> list[Finding]:
    from node_agent.devices.detect import detect
    from node_agent.devices.source import DeviceSourceError

    try:
        source = detect(("nvml",))
    except DeviceSourceError as error:
        return [
            Finding("nvml", "note", str(error), "nothing on a machine without NVIDIA cards; else install their driver")
        ]
    try:
        devices = source.enumerate()
        names = ", ".join(sorted({device.model for device in devices}))
        return [Finding("nvml", "ok" if devices else "note", f"{len(devices)} devices: {names}")]
    finally:
        source.close()


def _vendors() -> list[Finding]:
    """Adapters that were never run on a card of their vendor: all of them in one line, those that this machine has."""
    from node_agent.devices.openers import SourceAbsent, adapters

    untried = {name: adapter for name, adapter in adapters().items() if not adapter.tried}
    findings = [
        Finding(
            "vendors",
            "note",
            f"never run on hardware of {', '.join(sorted({adapter.vendor for adapter in untried.values()}))}",
            "their adapters are written from what the tools are seen to print (docs/telemetry.md)",
        )
    ]
    for name, adapter in untried.items():
        try:
            adapter.require()
        except SourceAbsent:
            continue
        mend = "compare `suanli nodes` with the vendor's own tool before you rely on it"
        findings.append(Finding("vendors", "note", f"{name}: its tool or library is installed here", mend))
    return findings


def _disk(home: Home) -> list[Finding]:
    findings = []
    place = home.path
    while not place.exists():
        place = place.parent
    for what, path in (("home", place), ("sockets", home.runtime_dir.parent), ("shared memory", Path("/dev/shm"))):
        if not path.exists():
            findings.append(Finding("disk", "bad", f"{what}: {path} is missing", f"make {path} available"))
            continue
        usage = shutil.disk_usage(path)
        least = MIN_FREE_BYTES if what == "home" else 200 * 10**6
        text = f"{what}: {usage.free / 1e9:.1f} GB free on {path}"
        if usage.free < least:
            findings.append(Finding("disk", "bad", text, f"free at least {least / 1e9:g} GB there"))
        elif not os.access(path, os.W_OK):
            findings.append(Finding("disk", "bad", f"{what}: {path} is not writable", "set SUANLI_HOME elsewhere"))
        else:
            findings.append(Finding("disk", "ok", text))
    return findings


def _open_files() -> list[Finding]:
    """The service raises its own limit as far as the hard limit lets it."""
    from scheduler.cli.open_files import ENOUGH, hard_limit

    most = hard_limit()
    if most is None or most >= ENOUGH:
        said = "no hard limit" if most is None else f"the hard limit is {most:,}; the service raises its own to that"
        return [Finding("open files", "ok", said)]
    return [
        Finding(
            "open files",
            "note",
            f"the hard limit is {most:,}: the service holds two connections to every node's agent",
            f"raise it to {ENOUGH:,} or more: LimitNOFILE= in a systemd unit, nofile in /etc/security/limits.conf",
        )
    ]


def _ports(home: Home, config: Path | None) -> list[Finding]:
    from scheduler.cli.instance import require_free
    from scheduler.cli.up import default_config
    from scheduler.errors import SuanliError
    from scheduler.schema.load import load_site

    started = home.started() if home.path.exists() else None
    if started is not None and "service" in started.living():
        return [Finding("ports", "ok", f"this instance runs: {started.api}")]
    try:
        site = load_site(config or default_config())
    except SuanliError as error:
        return [Finding("config", "bad", error.message, "mend the file as it says")]
    findings = []
    for door, listen in (("api", site.api), ("gateway", site.gateway)):
        if not listen.port:
            continue
        try:
            require_free(listen.host, listen.port, door=door)
            findings.append(Finding("ports", "ok", f"{door} {listen.host}:{listen.port} is free"))
        except SuanliError as error:
            findings.append(Finding("ports", "bad", error.message, f"free it, or `suanli up --{door}-port 0`"))
    return findings


def _parts(home: Home) -> list[Finding]:
    """Of an instance that is up: what does not live, and who brings it back."""
    from scheduler.cli.parts import PARTS

    started = home.started() if home.path.exists() else None
    if started is None:
        return []
    dead = [name for name in PARTS if name not in started.living()]
    findings = []
    for name in dead:
        if name == "supervisor":
            said, mend = (
                "the supervisor is dead: what dies now stays dead",
                "run `suanli up`, which starts what is missing",
            )
        elif "supervisor" in dead:
            said, mend = f"{name} is dead", "run `suanli up`, which starts what is missing; running jobs are kept"
        else:
            said, mend = f"{name} is dead and is being started again", f"if that lasts, see {home.logs / name}.log"
        findings.append(Finding("parts", "note" if "supervisor" not in dead else "bad", said, mend))
    return findings or [Finding("parts", "ok", f"{', '.join(PARTS)} live")]


def _quotas(home: Home) -> list[Finding]:
    """Guarantees are compared with what a running instance has; without one there is nothing to compare."""
    from scheduler.cli import guarantees
    from scheduler.cli.client import Client
    from scheduler.errors import SuanliError
    from scheduler.schema.load import load_site

    started = home.started() if home.path.exists() else None
    if started is None or "service" not in started.living():
        return []
    try:
        found = guarantees.warnings(
            load_site(Path(started.config)), Client.from_home(home.path).get("/v1/nodes")["nodes"]
        )
    except SuanliError as error:
        return [Finding("quotas", "note", f"cannot be checked: {error.message}", "see `suanli status`")]
    mend = "lower guaranteed in tenants.yaml, or bring the missing nodes back"
    return [Finding("quotas", "note", said, mend) for said in found] or [
        Finding("quotas", "ok", "guarantees can be kept")
    ]


def _clock() -> list[Finding]:
    """The kernel's own word on whether somebody keeps its clock, and a check that it is not far off."""
    import ctypes

    class Timex(ctypes.Structure):
        _fields_ = [("modes", ctypes.c_uint), ("pad", ctypes.c_byte * 252)]

    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(Timex()))
    year = time.gmtime().tm_year
    if year < 2025:
        return [Finding("clock", "bad", f"the year is {year}", "set the clock; run chrony or systemd-timesyncd")]
    if state == 5:  # TIME_ERROR: the clock is not synchronised (adjtimex(2))
        return [
            Finding(
                "clock", "note", "not kept in step by NTP", "run chrony: nodes must agree within 50 ms to be measured"
            )
        ]
    return [Finding("clock", "ok", f"synchronised; {time.strftime('%Y-%m-%d %H:%M:%S %Z')} on {socket.gethostname()}")]


def _isolation(home: Home, config: Path | None) -> list[Finding]:
    from scheduler.cli import doctor_isolation
    from scheduler.cli.up import default_config
    from scheduler.errors import SuanliError
    from scheduler.schema.load import load_site

    started = home.started() if home.path.exists() else None
    try:
        site = load_site(config or (Path(started.config) if started is not None else default_config()))
    except SuanliError:
        return []  # the check of the ports says it
    named = {name: tenant.unix_user for name, tenant in site.tenants.items()}
    return [*doctor_isolation.users(named, home.path), *doctor_isolation.limits()]
