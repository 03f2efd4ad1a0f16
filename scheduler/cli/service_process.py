"""The service's process: composes store, engine, gateway control, service and API, and runs until it is told to stop.

Started by `suanli up`; stopping it (or killing it) leaves agents, jobs and the gateway alone.
"""

from __future__ import annotations

import inspect
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from scheduler.cli.collecting import spare_what_stays
from scheduler.cli.instance import Home
from scheduler.cli.open_files import raise_to_hard_limit
from scheduler.cli.system_clock import SystemClock
from scheduler.errors import SuanliError

if TYPE_CHECKING:
    from scheduler.cli.instance import Started
    from scheduler.engine.joining import LocalNodes
    from scheduler.gateway.control import HttpGatewayControl
    from scheduler.ports import Clock, Engine, GatewayControl, ServiceLoad
    from scheduler.schema.model import SiteConfig
    from scheduler.service.control import Service
    from scheduler.service.dispatch import RunSettings
    from scheduler.service.health_book import HealthSettings
    from scheduler.store.sql import SqlStore


SWITCH_S = 0.0005


@click.command()
@click.option("--home", "home_path", type=click.Path(path_type=Path), required=True)
def main(home_path: Path) -> None:
    """Run the service of the instance at --home."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    home = Home(home_path)
    started = home.started()
    if started is None:
        raise click.ClickException(f"{home.path} has no instance; start it with `suanli up`")
    try:
        serve(home, started)
    except SuanliError as error:
        click.echo(error.message, err=True)
        sys.exit(error.exit_code)


def serve(home: Home, started: Started) -> None:
    # Ray's client takes the raylet for its parent, and ends its own process, without a word, where a call to the raylet
    # fails and the parent is gone. We join again instead. To be said before Ray is imported.
    os.environ["RAY_RAYLET_PID"] = str(os.getpid())

    from scheduler import __version__
    from scheduler.api.app import create_app
    from scheduler.cli.leading import Door, end_on_sigterm, lead, may_lead, start_over
    from scheduler.engine.driver import RayDriver
    from scheduler.engine.ray_engine import RayEngine
    from scheduler.gateway.control import EveryGateway, HttpGatewayControl
    from scheduler.ports import Principal
    from scheduler.schema.jobfile import job_from_mapping
    from scheduler.schema.load import load_site
    from scheduler.schema.site_json import to_json
    from scheduler.store.leadership import Leadership, lock_of
    from scheduler.store.sql import open_store
    from scheduler.tokens import TokenTable

    end_on_sigterm()
    raise_to_hard_limit()
    # The loop's thread gives up the interpreter at every statement of a commit, and whoever then answers a request
    # keeps it for up to this long: by default 5 ms, half of what a job's whole start may take.
    sys.setswitchinterval(SWITCH_S)
    site = load_site(Path(started.config))
    store = open_store(site.store_url or f"sqlite:///{home.path / 'store.db'}")
    where = urlsplit(started.api)
    assert where.hostname is not None, started.api
    assert where.port is not None, started.api
    door = Door(reachable(started.api), where.hostname, where.port, started.cert_file, started.key_file)
    leadership = Leadership(lock_of(store), store)
    if not may_lead(door, leadership):
        leadership.close()
        store.close()
        return
    clock = SystemClock()
    engine = RayEngine(
        driver=RayDriver(started.ray_address),
        nodes=local_nodes(site),
        lease_s=site.lease_s,
        clock=clock,
    )
    ca_file = Path(started.ca_file) if started.ca_file else None
    told: list[Service] = []  # gateways report to it, and there is none without them

    def on_loads(url: str, loads: Sequence[ServiceLoad]) -> None:
        for each in told:
            each.take_loads(url, loads)

    gateway = EveryGateway(
        [
            reporting(HttpGatewayControl, partial(on_loads, url))(url, home.secret("gateway_control"), ca_file=ca_file)
            for url in (started.gateway, *site.more_gateways)
        ]
    )
    service = _service(home, started, site, store, engine, gateway, clock, found_at=door.url)
    told.append(service)

    def parse_job(data: object, principal: Principal) -> object:
        return job_from_mapping(data, source="job", lines=None, site=site, principal=principal)

    app = create_app(service, TokenTable(home.tokens), parse_job, to_json(site), version=__version__)  # type: ignore[arg-type]
    try:
        replaced = lead(door, leadership, service, app, started=spare_what_stays)
    finally:
        leadership.close()
        gateway.close()
        engine.close()
        store.close()
    if replaced:
        start_over()


def _service(
    home: Home,
    started: Started,
    site: SiteConfig,
    store: SqlStore,
    engine: Engine,
    gateway: GatewayControl,
    clock: Clock,
    *,
    found_at: str,
) -> Service:
    from scheduler import __version__
    from scheduler.schema.cron import next_after
    from scheduler.schema.policy import planner_policy
    from scheduler.service.control import Service

    return Service(
        store,
        engine,
        gateway,
        clock,
        policy=planner_policy(site),
        half_life_s=site.policy.fair_share_half_life_s,
        run_settings=run_settings(site),
        health=health_settings(site),
        found_at=found_at,
        zone=site.time_zone,
        request_rates={
            name: tenant.requests_per_s for name, tenant in site.tenants.items() if tenant.requests_per_s is not None
        },
        priority_classes={name: c.priority for name, c in site.priority_classes.items()},
        next_time=next_after,
        lease_s=site.lease_s,
        secret=bytes.fromhex(home.secret("service_secret")),
        status_extra={
            "version": __version__,
            "service_pid": os.getpid(),
            "api": started.api,
            "gateway": started.gateway,
            "ray_address": started.ray_address,
            "store": store.shown_url,
        },
    )


def reporting(
    control: Callable[..., HttpGatewayControl], on_loads: Callable[[Sequence[ServiceLoad]], None]
) -> Callable[..., HttpGatewayControl]:
    """Its constructor, told whom to report loads to where it can: an older gateway's control reports none, and then
    nothing is scaled by its load."""
    if "on_loads" in inspect.signature(control).parameters:
        return partial(control, on_loads=on_loads)
    return control


def reachable(url: str) -> str:
    """The API's URL as other machines may use it: a door on all interfaces is found by this machine's name."""
    where = urlsplit(url)
    if where.hostname not in ("0.0.0.0", "::"):  # noqa: S104 - not bound, looked for
        return url
    return where._replace(netloc=f"{socket.gethostname()}:{where.port}").geturl()


def run_settings(site: SiteConfig) -> RunSettings:
    """What nodes are told of every run."""
    from scheduler.service.dispatch import RunSettings

    users = {name: tenant.unix_user for name, tenant in site.tenants.items() if tenant.unix_user is not None}
    return RunSettings(unix_users=users, log_cap_bytes=site.logs.cap_bytes, log_keep_s=site.logs.keep_s)


def health_settings(site: SiteConfig) -> HealthSettings:
    """What health may do, and by which program idle devices are checked: with the interpreter and the place of this
    machine, as `suanli bench run` does."""
    import benchmarks
    from scheduler.service.health_book import CheckOrders, HealthSettings

    policy = site.health
    orders = None
    if policy.checks is not None:
        place = str(Path(next(iter(benchmarks.__path__))).resolve().parent)
        orders = CheckOrders(policy.checks, (sys.executable, "-m", "benchmarks", "check"), place)
    return HealthSettings(policy.budget, policy.report_only, policy.only_told, policy.rules.rules, orders)


def local_nodes(site: SiteConfig) -> LocalNodes:
    from scheduler.cli.site_nodes import own_node, simulated_nodes
    from scheduler.engine.joining import LocalNodes

    return LocalNodes(real=own_node(site), simulated=simulated_nodes(site), health=site.health.rules)


if __name__ == "__main__":
    main()
