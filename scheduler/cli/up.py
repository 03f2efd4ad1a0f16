"""`suanli up`: start what is missing of an instance, in an order that can be undone at any point.

What was started is on disk before the next step begins, so an interrupted or killed `up` can be finished by another
`up` or undone by `down`. The last thing that is started is the supervisor, which brings back whatever dies later.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from scheduler.cli import guarantees
from scheduler.cli.instance import LOCK_WAIT_S, Home, Started, free_port, require_free
from scheduler.cli.options import output_option
from scheduler.cli.parts import PARTS, start_part
from scheduler.cli.stopping import stop_instance
from scheduler.errors import Conflict, SuanliError, Unavailable

if TYPE_CHECKING:
    from scheduler.schema.model import SiteConfig

START_DEADLINE_S = 60.0


@click.command()
@click.option("--config", "config", type=click.Path(), default=None, help="Site file; default: configs/local.yaml.")
@click.option("--api-port", type=click.IntRange(0, 65535), default=None, help="Overrides api.port (0: any free one).")
@click.option("--gateway-port", type=click.IntRange(0, 65535), default=None, help="Overrides gateway.port (0: any).")
@output_option
def up(config: str | None, api_port: int | None, gateway_port: int | None, output: str) -> None:
    """Start Ray, the service, the gateway and this machine's agent; simulated nodes too, where the site file has some.

    What dies later is started again by the supervisor, and by another `up` where that died too; running jobs are found
    and kept.
    """
    with _termination_is_interruption():
        started = bring_up(Path(config) if config else default_config(), api_port, gateway_port, _announcer(output))
    if output == "json":
        click.echo(json.dumps({"schema": "suanli/up/1", "api": started.api, "gateway": started.gateway}))
    else:
        click.echo(f"Suanli is up: API {started.api} (documentation at {started.api}/docs), gateway {started.gateway}")


def default_config() -> Path:
    """The site file that ships with Suanli."""
    import configs

    return Path(next(iter(configs.__path__))) / "local.yaml"


def bring_up(config: Path, api_port: int | None, gateway_port: int | None, announce: Callable[[str], None]) -> Started:
    """Start what is missing. On any failure or interruption of a first start, everything is taken back."""
    from scheduler.schema.load import load_site

    home = Home.from_environment()
    with home.locked(wait_s=LOCK_WAIT_S):
        known = home.started()
        living = known.living() if known else {}
        if known and len(living) == len(PARTS):
            raise Conflict(
                f"already running (service pid {living['service'].pid}, API {known.api}); "
                "`suanli status` shows it, `suanli down` stops it"
            )
        site = load_site(config if known is None or not living else Path(known.config))
        fresh = not living
        if fresh:
            from scheduler.cli.site_nodes import require_sources

            for why in require_sources(site.device_sources):
                announce(f"note: node.devices: passed over: {why}")
        if known and fresh:
            stop_instance(home, known)  # the machine or a kill -9 took it down: clear what is left of it
            known = None
        started = known
        try:
            started = known or _plan_start(home, site, api_port, gateway_port)
            home.record(started)
            started = _start_missing(home, site, started, announce)
            home.record_client(started)
            for warning in guarantees.warnings(site, _wait_until_ready(home, started, site, announce)):
                announce(f"note: {warning}")
        except BaseException as error:
            if fresh and started is not None:
                announce("taking back what was started")
                # A second ctrl-C must not stop the clean-up half way.
                with _ignoring_interruption():
                    stop_instance(home, home.started() or started)
                    home.forget()
            if isinstance(error, KeyboardInterrupt):
                click.echo("interrupted; nothing is left running", err=True) if fresh else None
            raise
        return started


def _plan_start(home: Home, site: SiteConfig, api_port: int | None, gateway_port: int | None) -> Started:
    """Choose ports and check that they are free, before anything is started."""
    scheme = "https" if site.tls else "http"
    doors = {}
    for door, listen, wanted in (("api", site.api, api_port), ("gateway", site.gateway, gateway_port)):
        port = listen.port if wanted is None else wanted
        if port:
            require_free(listen.host, port, door=door)
        doors[door] = (listen.host, port or free_port(listen.host))
    if doors["api"][1] == doors["gateway"][1]:
        raise Conflict(f"api and gateway would both listen on port {doors['api'][1]}", field="gateway.port")
    ray_port = site.ray.port or free_port(site.ray.address)
    require_free(site.ray.address, ray_port, door="ray")
    runtime_dir = home.make_runtime_dir()
    shutil.rmtree(home.ray_state, ignore_errors=True)  # of a cluster whose record somebody removed
    return Started(
        config=str(site.path.absolute()),
        instance=home.identity,
        runtime_dir=str(runtime_dir),
        api=_url(scheme, *doors["api"]),
        gateway=_url(scheme, *doors["gateway"]),
        ray_port=ray_port,
        ray_address=f"{site.ray.address}:{ray_port}",
        ca_file=str(site.tls.cert) if site.tls else None,
        cert_file=str(site.tls.cert) if site.tls else None,
        key_file=str(site.tls.key) if site.tls else None,
    )


def _url(scheme: str, host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{port}"


def _start_missing(home: Home, site: SiteConfig, started: Started, announce: Callable[[str], None]) -> Started:
    """Start each process that is not alive, recording each before the next."""
    from scheduler.ports import Principal
    from scheduler.tokens import issue

    if not home.operator_token.exists():
        top = max(site.priority_classes.values(), key=lambda c: c.priority).name
        from scheduler.cli.instance import write_private

        tenant = next(iter(site.tenants))
        write_private(
            home.operator_token, issue(home.tokens, Principal("operator", tenant, "operator", top), replace=True)
        )
    for name in ("ray_token", "service_secret", "gateway_control"):
        home.secret(name)
    for name in PARTS:
        process = started.processes.get(name)
        if process is not None and process.alive():
            continue
        announce(f"starting {name}")
        with _ignoring_interruption() as interrupted:  # from the fork to the record, no ctrl-C may come between
            started = start_part(home, site, started, name)
        if interrupted:
            raise KeyboardInterrupt
    return started


def _wait_until_ready(
    home: Home, started: Started, site: SiteConfig, announce: Callable[[str], None]
) -> list[dict[str, Any]]:
    """The nodes' views, when the API answers and every node that should be there is. A process that dies meanwhile ends
    the wait."""
    from scheduler.cli.client import Client

    announce("waiting for the service")
    client = Client.from_home(home.path)
    expected = 1 + sum(group.count for group in site.simulated_nodes)
    deadline = time.monotonic() + START_DEADLINE_S
    shown = -1
    while True:
        for name, process in started.processes.items():
            if not process.alive():
                _explain_death(home, name)
        with contextlib.suppress(Unavailable):
            nodes = [node for node in client.get("/v1/nodes")["nodes"] if node["state"] != "down"]
            if len(nodes) != shown:
                shown = len(nodes)
                announce(f"{shown} of {expected} nodes answer")
            if shown >= expected:
                return nodes
        if time.monotonic() > deadline:
            raise Unavailable(
                f"the instance is not ready after {START_DEADLINE_S:.0f} s ({max(shown, 0)} of {expected} nodes "
                f"answer); see the logs in {home.logs}"
            )
        time.sleep(0.05)


def _explain_death(home: Home, name: str) -> NoReturn:
    log = home.logs / f"{name}.log"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
    last = lines[-1] if lines else "it wrote nothing"
    raise SuanliError(f"{name} ended while starting: {last[:300]} (log: {log})")


def _announcer(output: str) -> Callable[[str], None]:
    """Progress: a rich status line on a terminal, plain lines on stderr in a pipe, nothing with -o json."""
    if output == "json":
        return lambda _text: None
    if not sys.stderr.isatty():
        return lambda text: click.echo(f"... {text}", err=True)
    from rich.console import Console

    console = Console(stderr=True)
    return lambda text: console.print(f"[dim]…[/dim] {text}")


@contextlib.contextmanager
def _termination_is_interruption() -> Iterator[None]:
    """SIGTERM is taken like ctrl-C, so that a stopped `up` cleans up after itself."""

    def interrupt(_number: int, _frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _ignoring_interruption() -> Iterator[list[int]]:
    """Put off ctrl-C and SIGTERM; what came is in the list."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
