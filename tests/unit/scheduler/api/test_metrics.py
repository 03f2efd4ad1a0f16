"""The service's figures as Prometheus reads them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from scheduler.api.metrics import prometheus_text
from scheduler.service.pass_times import PassTimes
from tests.fakes.control_views import tenant_view
from tests.fakes.fake_control import OPERATOR, FakeControl
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import OPERATOR as SERVICE_OPERATOR
from tests.fakes.service_world import World

LINE = re.compile(r'suanli_[a-z0-9_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[0-9.e+-]+')


def series(text: str) -> dict[str, float]:
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}


def of(**changed: Any) -> str:
    return prometheus_text(FakeControl().status(OPERATOR) | changed, [tenant_view()])


def test_every_line_is_one_that_prometheus_reads_and_each_family_says_what_it_is() -> None:
    lines = of().splitlines()
    for line in lines:
        assert line.startswith(("# HELP suanli_", "# TYPE suanli_")) or LINE.fullmatch(line), line
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    for name in set(series("\n".join(lines))):
        bare = re.sub(r"\{.*", "", name)
        assert any(bare == known or bare in (f"{known}_sum", f"{known}_count", f"{known}_bucket") for known in names)


def test_what_is_not_known_has_no_line_and_what_is_nothing_has_a_zero() -> None:
    found = series(of())
    assert "suanli_loop_last_pass_seconds" not in found
    assert found["suanli_loop_pass_seconds_count"] == 0
    assert found['suanli_jobs{state="running"}'] == 0
    assert found['suanli_jobs_ended_total{state="failed"}'] == 0


def test_figures_of_passes() -> None:
    passes = PassTimes()
    for seconds in (0.5, 0.001, 0.25):
        passes.note(seconds)
    loop = {"bugs": 2, "store_error": "disk full", "backlog": 7, "pass_s": passes.figures()}
    found = series(of(loop=loop))
    assert found["suanli_loop_last_pass_seconds"] == 0.25
    assert found["suanli_loop_longest_pass_seconds"] == 0.5
    assert found["suanli_loop_pass_seconds_sum"] == pytest.approx(0.751)
    assert found['suanli_loop_pass_seconds{quantile="0.99"}'] == 0.5
    assert (found["suanli_store_writable"], found["suanli_bugs_total"], found["suanli_loop_backlog"]) == (0, 2, 7)


def test_names_cannot_break_a_line() -> None:
    text = prometheus_text(FakeControl().status(OPERATOR), [tenant_view('a"b\\c\nd')])
    assert 'tenant="a\\"b\\\\c\\nd"' in text


def test_a_service_counts_what_it_did() -> None:
    world = World(node_facts("n1", 2), node_facts("s1", 4, simulated=True))
    first = world.one(devices=2)
    waiting = world.one(devices=1)
    world.pass_time(20)
    world.engine.exit(first)
    world.run()
    world.engine.exit(waiting, 3)
    world.run()
    again = world.one(retries=1)
    world.engine.exit(again, 3)
    world.run().pass_time(2)
    status = world.service.status(SERVICE_OPERATOR)
    found = series(prometheus_text(status, world.service.tenants(SERVICE_OPERATOR)["tenants"]))
    assert found["suanli_jobs_started_total"] == 4
    assert found["suanli_jobs_requeued_total"] == 1
    assert (found['suanli_jobs_ended_total{state="succeeded"}'], found['suanli_jobs_ended_total{state="failed"}']) == (
        1,
        1,
    )
    assert found["suanli_dispatch_seconds_count"] == 4
    assert found['suanli_dispatch_seconds_bucket{le="+Inf"}'] == 4
    assert found["suanli_queue_wait_seconds_count"] == 3
    assert found['suanli_queue_wait_seconds_bucket{le="10"}'] == 2
    assert found["suanli_queue_wait_seconds_sum"] == pytest.approx(20.0)
    assert found["suanli_commands_sent_total"] > 4
    assert found['suanli_devices{kind="real"}'] == 2
    assert found['suanli_devices{kind="simulated"}'] == 4
    assert found['suanli_devices_used{kind="real"}'] == 1
    assert found['suanli_tenant_devices_held{tenant="studio",kind="real"}'] == 1
    assert found['suanli_nodes{state="ready"}'] == 2
    assert found['suanli_jobs{state="running"}'] == 1
