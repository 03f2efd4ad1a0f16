"""A routing table survives its journey, and a bad one is refused with the place of the fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scheduler.errors import BadInput, Unavailable
from scheduler.gateway.table import load_table, save_table, table_from_json, table_to_json
from scheduler.ports import Replica, Route

ROUTE = Route("chat", "film", 5, 80.0, (Replica("7.1", 0, 2, "[::1]:8000", True),), "s3cret")


def test_there_and_back() -> None:
    routes = (ROUTE, Route("x", "drone", 9, None, (), ""))
    assert table_from_json(table_to_json(routes)) == routes


def test_saved_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    assert load_table(path) == ()
    save_table(path, table_to_json([ROUTE]))
    assert load_table(path) == (ROUTE,)
    assert [entry.name for entry in tmp_path.iterdir()] == ["routes.json"]


def test_a_directory_that_is_away(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot keep the routing table"):
        save_table(tmp_path / "away" / "routes.json", b"{}")


def changed(**changes: Any) -> Any:
    table = json.loads(table_to_json([ROUTE]))
    for name, value in changes.items():
        where = table["routes"][0]
        where = where["replicas"][0] if name in where["replicas"][0] else where
        where[name] = value
    return table


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ("not json", None),
        ([], "routes"),
        ({"routes": {}}, "routes"),
        (changed(priority="5"), "routes[0].priority"),
        (changed(priority=True), "routes[0].priority"),
        (changed(secret="a\r\nX-Evil: 1"), "routes[0].secret"),
        (changed(slo_p99_ms="fast"), "routes[0].slo_p99_ms"),
    ],
)
def test_a_bad_table(table: Any, field: str | None) -> None:
    text = table.encode() if isinstance(table, str) else json.dumps(table).encode()
    with pytest.raises(BadInput) as refused:
        table_from_json(text)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "table",
    [
        changed(address="nowhere"),
        changed(address="host:0"),
        changed(address="host:99999"),
        changed(address="a b:80"),
        changed(simulated=1),
        changed(job_id="a\nb"),
    ],
)
def test_a_bad_replica_is_left_out_and_keeps_nobody_elses_table_back(table: Any) -> None:
    """A replica's address comes from a tenant's process: one that wrote rubbish once froze every tenant's routes."""
    (route,) = table_from_json(json.dumps(table).encode())
    assert len(route.replicas) == len(ROUTE.replicas) - 1
    assert (route.service, route.secret) == (ROUTE.service, ROUTE.secret)
