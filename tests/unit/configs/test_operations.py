"""What ships for operations: units that systemd takes, and metrics that /metrics really has."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from node_agent import exporter
from node_agent.devices.source import Quantity
from scheduler.api.metrics import prometheus_text
from scheduler.cli.root import VERBS
from tests.fakes.control_views import tenant_view
from tests.fakes.fake_control import OPERATOR, FakeControl
from tests.unit.scheduler.api.test_auth import TABLE

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
UNITS = sorted((CONFIGS / "systemd").glob("*.service"))
DASHBOARD = json.loads((CONFIGS / "grafana" / "suanli.json").read_text())
ALERTS = yaml.safe_load((CONFIGS / "prometheus" / "alerts.yaml").read_text())
SCRAPE = yaml.safe_load((CONFIGS / "prometheus" / "prometheus.yaml").read_text())
NAME = re.compile(r"\bsuanli_[a-z0-9_]+")


def there() -> dict[str, set[str]]:
    """Every series that /metrics and /metrics/devices have, with the names of its labels."""
    text = prometheus_text(FakeControl().status(OPERATOR), [tenant_view()])
    reading = {"value": 1.0, "unit": "x", "at_s": 1.0, "quality": "measured"}
    text += exporter.render({"n1": {"uuid": dict.fromkeys([q.value for q in Quantity], reading)}}, {"uuid": "H100"})
    lines = [line for line in text.splitlines() if line.startswith("# TYPE")]
    found: dict[str, set[str]] = {}
    for name, kind in ((line.split()[2], line.split()[3]) for line in lines):
        for suffix in {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}.get(kind, ("",)):
            found[name + suffix] = {"quantile"} if kind == "summary" and not suffix else set()
    for line in text.splitlines():
        if line[0] != "#":
            name, _, labels = line.rpartition(" ")[0].partition("{")
            found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


@pytest.mark.parametrize(("where", "expr"), list(expressions()))
def test_every_metric_and_label_that_is_asked_for_exists(where: str, expr: str) -> None:
    known = there()
    names = NAME.findall(expr)
    assert names or 'up{job="suanli"}' in expr, (where, expr)
    for name in names:
        assert name in known, f"{where}: {name}"
    for name, selected in re.findall(r"(suanli_[a-z0-9_]+)\{([^}]*)\}", expr):
        assert set(re.findall(r"(\w+)\s*[=!~]", selected)) <= known[name], (where, name)
    for grouped in re.findall(r"by \(([^)]*)\)", expr):
        for label in re.split(r",\s*", grouped):
            assert any(label in known[name] for name in names), (where, label)


@pytest.mark.parametrize(
    "rule", [rule for group in ALERTS["groups"] for rule in group["rules"]], ids=lambda r: r["alert"]
)
def test_every_alert_says_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["action"]
    for verb in re.findall(r"`suanli (\w+)", rule["annotations"]["action"]):
        assert verb in VERBS


def test_what_is_scraped_is_what_is_served() -> None:
    served = {path for _, path, *_ in TABLE}
    for job in SCRAPE["scrape_configs"]:
        assert job["metrics_path"] in served
        assert job["authorization"]["type"] == "Bearer"
    assert [job["job_name"] for job in SCRAPE["scrape_configs"]] == ["suanli", "suanli-devices"]
    assert SCRAPE["rule_files"] == ["alerts.yaml"]


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    places = [tuple(panel["gridPos"].values()) for panel in DASHBOARD["panels"]]
    assert all(x + w <= 24 for x, _, w, _ in places)
    assert len({(x, y) for x, y, _, _ in places}) == len(places)
    for panel in DASHBOARD["panels"]:
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs))
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    assert DASHBOARD["templating"]["list"][0]["name"] == "datasource"


@pytest.mark.parametrize(
    "argv", [["rules", "alerts.yaml"], ["config", "--syntax-only", "prometheus.yaml"]], ids=lambda argv: argv[0]
)
def test_prometheus_takes_what_is_meant_for_it(argv: list[str]) -> None:
    promtool = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed here (Debian's package prometheus has it)")
    done = subprocess.run(
        [promtool, "check", *argv],
        cwd=CONFIGS / "prometheus",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# ---- systemd -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed here")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/suanli/bin/suanli", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, said) == (0, []), done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_run_verbs_that_exist_with_options_that_exist(unit: Path) -> None:
    text = unit.read_text()
    commands = re.findall(r"^Exec\w+=/opt/suanli/bin/suanli (.+)$", text, re.MULTILINE)
    assert commands
    for command in commands:
        words = command.split()
        group = words[0] == "node"
        module, _, attribute = VERBS[words[0]].where.partition(":")
        verb = getattr(import_module(f"scheduler.cli.{module}"), attribute)
        verb = verb.commands[words[1]] if group else verb
        known = {option for parameter in verb.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, command


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_are_hardened_and_jobs_survive_what_they_must(unit: Path) -> None:
    text = unit.read_text()
    for line in (
        "NoNewPrivileges=yes",
        "RestrictSUIDSGID=yes",
        "ProtectKernelModules=yes",
        "UMask=0077",
        "Restart=always",
    ):
        assert f"\n{line}\n" in text, line
    if unit.name in ("suanli.service", "suanli-node.service"):
        assert "\nKillMode=process\n" in text
        assert "\nOOMPolicy=continue\n" in text
        assert "\nDelegate=yes\n" in text
        for closes_devices in ("PrivateDevices=yes", "ProtectClock=yes", "DeviceAllow="):
            assert f"\n{closes_devices}" not in text
    else:
        for line in ("ProtectSystem=strict", "PrivateDevices=yes", "SystemCallFilter=@system-service"):
            assert f"\n{line}\n" in text, line
