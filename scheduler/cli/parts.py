"""The processes of an instance: Ray's keeper, the gateway, the service, and the supervisor that brings the others back.

Each leads a session of its own, carries the instance's mark, and is recorded before anything else is done.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scheduler.cli.instance import (
    INSTANCE_VARIABLE,
    RUNTIME_VARIABLE,
    STATE_VARIABLE,
    Home,
    ProcessId,
    Started,
    end_session,
    free_port,
    session_is_ours,
)
from scheduler.cli.site_nodes import metrics_environment, own_node
from scheduler.engine.joining import HEAD, ray_labels
from scheduler.errors import Unavailable

if TYPE_CHECKING:
    from scheduler.schema.model import SiteConfig

WATCHED = ("ray", "gateway", "service")
"""What the supervisor brings back, in the order of their start."""
PARTS = (*WATCHED, "supervisor")

GCS_PATIENCE_S = 600
"""For how long Ray's processes wait for a GCS that does not answer before they end themselves."""


def start_part(home: Home, site: SiteConfig, started: Started, name: str) -> Started:
    """Start one part, clear what an earlier one of that name left behind, and record it. Nothing may come between:
    whoever calls puts off interruption, and holds the home's lock.
    """
    before = started.processes.get(name)
    if name == "ray" and before is not None and session_is_ours(home, before):
        end_session(before.pid)
    environment = instance_environment(home.identity, Path(started.runtime_dir), home.path)
    if name in ("ray", "service"):
        environment |= ray_environment(home.secret_file("ray_token"), site)
    if name == "ray" and site.node_metrics is not None:  # the agent is a grandchild of it
        metrics = site.node_metrics
        environment |= metrics_environment(metrics.where, metrics.token, dcgm=metrics.dcgm)
    if name == "ray":
        environment |= {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(home.ray_state)}
    process = start_detached(_argv(home, site, started, name), environment, home.logs / f"{name}.log")
    started = replace(started, processes={**started.processes, name: process})
    home.record(started)
    return started


def _argv(home: Home, site: SiteConfig, started: Started, name: str) -> list[str]:
    if name == "ray":
        temp_dir = Path(started.runtime_dir) / "r"
        return keeper_argv(temp_dir, ray_head_arguments(site, started, temp_dir), gcs_dir=home.ray_state)
    module = {"gateway": "gateway_process", "service": "service_process", "supervisor": "supervising"}[name]
    # The gateway reaches this node's replicas over Unix sockets, and sends to this site's first.
    where = ["--node", own_node(site).name, "--site", site.node_site] if name == "gateway" else []
    return [sys.executable, "-m", f"scheduler.cli.{module}", "--home", str(home.path), *where]


def instance_environment(identity: str, runtime_dir: Path, home: Path) -> dict[str, str]:
    """The operator's environment without RAY_*, with the instance's mark."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | {
        INSTANCE_VARIABLE: identity,
        RUNTIME_VARIABLE: str(runtime_dir / "n"),
        STATE_VARIABLE: str(home / "node"),
        "PYTHONUNBUFFERED": "1",
    }


def ray_environment(token_file: Path, site: SiteConfig | None) -> dict[str, str]:
    """What every process that speaks Ray must be told: token mode from the first moment, and no reports to anybody.

    Ray would otherwise let anyone in and might pick up a token from the home directory. `site`: on the head alone,
    whose GCS looks after the others.
    """
    settings = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "RAY_ENABLE_AUTO_CONNECT": "0",  # a call beside a lost connection must fail, not begin a cluster of its own
        "RAY_enable_open_telemetry": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": str(GCS_PATIENCE_S),
    }
    if site is not None:
        check = site.ray.health_check
        settings |= {
            "RAY_health_check_initial_delay_ms": str(int(check.period_s * 1000)),
            "RAY_health_check_period_ms": str(int(check.period_s * 1000)),
            "RAY_health_check_timeout_ms": str(int(check.timeout_s * 1000)),
            "RAY_health_check_failure_threshold": str(check.failures),
        }
    return settings


def keeper_argv(temp_dir: Path, arguments: list[str], *, gcs_dir: Path | None = None) -> list[str]:
    """Ray's keeper with these arguments of `ray start`."""
    told = ["--temp-dir", str(temp_dir)]
    if gcs_dir is not None:
        told += ["--gcs-dir", str(gcs_dir)]
    return [sys.executable, "-m", "scheduler.engine.keeper", *told, "--", *arguments]


def ray_arguments(temp_dir: Path, object_store_bytes: int, labels: str) -> list[str]:
    """Of `ray start`, on every machine: its own directory and free ports, and nothing that we do not use."""
    return [
        "--disable-usage-stats",
        f"--temp-dir={temp_dir}",
        "--include-log-monitor=false",
        "--dashboard-agent-listen-port=0",
        "--min-worker-port=0",
        "--max-worker-port=0",
        "--num-cpus=1",
        f"--object-store-memory={object_store_bytes}",
        f"--labels={labels}",
    ]


def ray_head_arguments(site: SiteConfig, started: Started, temp_dir: Path) -> list[str]:
    labels = ray_labels(HEAD, site.node_site, None, {})
    return [
        "--head",
        f"--port={started.ray_port}",
        f"--node-ip-address={site.ray.address}",
        "--include-dashboard=false",
        "--no-monitor",
        f"--ray-client-server-port={free_port('127.0.0.1')}",  # Ray refuses to be told "none"
        *ray_arguments(temp_dir, site.ray.object_store_memory_bytes, labels),
    ]


def start_detached(argv: list[str], environment: Mapping[str, str], log: Path) -> ProcessId:
    """Start a process in its own session, its output appended to `log`."""
    with open(log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as output:
        child = subprocess.Popen(
            argv, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    # Nobody waits for it here: when its starter ends it becomes init's child. Popen must not warn about that.
    child.returncode = 0
    process = ProcessId.of(child.pid)
    if process is None:
        raise Unavailable(f"`{argv[0]}` ended at once; see {log}")
    return process
