"""health.yaml: defaults as shipped, what may be changed, and a clear word on each fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from node_agent.health.rules import DEFAULT_RULES
from node_agent.health.verdicts import Jobs, Use
from scheduler.core.device_checks import CheckSettings, Part
from scheduler.core.health_budget import Budget
from scheduler.errors import BadInput
from scheduler.schema.health_file import load_health
from scheduler.schema.load import load_site, shipped_config
from scheduler.schema.model import HealthPolicy


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "health.yaml"
    path.write_text(text)
    return path


def test_what_is_shipped_is_the_default() -> None:
    assert load_health(shipped_config("health.yaml")) == HealthPolicy()
    assert load_site(shipped_config()).health == HealthPolicy()


def test_a_rule_is_changed_line_by_line(tmp_path: Path) -> None:
    told = load_health(
        write(
            tmp_path,
            "report_only: true\n"
            "budget: {share: 5%, nodes: 2}\n"
            "limits: {hot: 88, stale_after: 1m}\n"
            "escalation: {bursts: 3}\n"
            "rules:\n"
            "  slowdown: {count: 8, window: 15m, apart: 30, report_only: true}\n"
            "  remap-pending: {use: no_new_work}\n"
            "  memory-fault: {jobs: keep, clear: 0}\n"
            "  on-record: {enabled: false}\n",
        )
    )
    rules = told.rules.rules
    assert (told.report_only, told.budget, told.only_told) == (True, Budget(0.05, 2), frozenset({"slowdown"}))
    assert (told.rules.limits.hot_celsius, told.rules.limits.stale_after_s) == (88.0, 60.0)
    assert (told.rules.escalation.bursts, told.rules.escalation.resets) == (3, 2)
    assert (rules["slowdown"].count, rules["slowdown"].window_s, rules["slowdown"].apart_s) == (8, 900.0, 30.0)
    assert rules["remap-pending"].use is Use.NO_NEW_WORK
    assert (rules["memory-fault"].jobs, rules["memory-fault"].clear_s) == (Jobs.KEEP, 0.0)
    assert not rules["on-record"].enabled
    assert rules["too-hot"] == DEFAULT_RULES["too-hot"]


def test_checks_are_set_or_switched_off(tmp_path: Path) -> None:
    told = load_health(
        write(
            tmp_path,
            "checks: {every: 6h, idle: 5m, at_once: 64, what: [memory], failures: 3, slow: 80%, likes: 8, measure: 10s,"
            " time_limit: 5m, cpu: true}\n"
            "rules: {slow-than-like: {use: no_multi_device}, check-slow: {enabled: false}}\n",
        )
    )
    assert told.checks == CheckSettings(21_600.0, 300.0, 64, (Part.MEMORY,), 3, 0.8, 8, 10.0, 300.0, True)
    assert told.rules.rules["slow-than-like"].use is Use.NO_MULTI_DEVICE
    assert load_health(write(tmp_path, "checks: {enabled: false}\n")).checks is None


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("rules: {slow-down: {count: 2}}", 1, "rules.slow-down: expected a rule that there is"),
        ("report_only: yes please", 1, "report_only: expected true or false"),
        ("budget:\n  share: 2", 2, "budget.share: expected a share from 0% to 100%"),
        ("budget: {share: 101%}", 1, "budget.share"),
        ("budget: {share: nan%}", 1, "budget.share"),
        ("budget: {nodes: -1}", 1, "budget.nodes: expected a whole number"),
        ("limits: {hot: 200}", 1, "limits.hot: expected degrees Celsius"),
        ("limits:\n  cool: 95", 2, "limits.cool: expected at most limits.hot, 90"),
        ("rules:\n  slowdown:\n    window: 1m", 3, "rules.slowdown.window: expected long enough for 6 signs"),
        ("rules: {too-hot: {use: off}}", 1, "rules.too-hot.use: expected one of schedulable"),
        ("rules:\n  too-hot: {use: schedulable, jobs: move}", 2, "rules.too-hot.jobs: expected keep or requeue"),
        ("rules: {too-hot: {count: 0}}", 1, "rules.too-hot.count"),
        ("rules: {too-hot: {clear: never}}", 1, "rules.too-hot.clear: expected a duration"),
        ("escalation: {bursts: 1}", 1, "escalation.bursts"),
        ("checks: {every: 1m}", 1, "checks.every: expected a duration"),
        ("checks: {what: [products, disks]}", 1, "checks.what: expected a list of products, memory, links"),
        ("checks: {what: [memory, memory]}", 1, "checks.what"),
        ("checks: {what: []}", 1, "checks.what"),
        ("checks:\n  at_once: 0", 2, "checks.at_once"),
        ("checks: {slow: 0.9}", 1, "checks.slow: expected a share from 0% to 100%"),
        ("checks: {enabled: 1}", 1, "checks.enabled: expected true or false"),
        ("checks:\n  measure: 1m\n  time_limit: 2m", 3, "checks.time_limit: expected 3 times checks.measure and 60 s"),
        (
            "rules: {check-wrong: {count: 3}}",
            1,
            "rules.check-wrong.count: expected nothing: no reading is a sign",
        ),
        ("rules: {slow-than-like: {lifts: reset}}", 1, "rules.slow-than-like.lifts"),
        ("windows: 3", 1, "windows"),
        ("- rules", 1, ""),
    ],
)
def test_a_fault_is_told_with_its_file_line_and_field(tmp_path: Path, text: str, line: int, said: str) -> None:
    path = write(tmp_path, text + "\n")
    with pytest.raises(BadInput) as told:
        load_health(path)
    assert f"{path}:{line}" in str(told.value), told.value
    assert said in str(told.value), told.value


def test_a_sites_file_tells_of_its_faults_with_the_others(tmp_path: Path) -> None:
    for name in ("local", "sites", "priority_classes", "tenants", "policy"):
        (tmp_path / f"{name}.yaml").write_text(shipped_config(f"{name}.yaml").read_text())
    catalogue = "hardware_catalogue.csv"
    (tmp_path / catalogue).write_text(shipped_config(catalogue).read_text())
    with pytest.raises(BadInput, match=r"include\.health: expected the path of a file"):
        load_site(tmp_path / "local.yaml")
    write(tmp_path, "limits: {cool: 95}\n")
    with pytest.raises(BadInput, match=r"health\.yaml:1.*limits\.cool"):
        load_site(tmp_path / "local.yaml")
