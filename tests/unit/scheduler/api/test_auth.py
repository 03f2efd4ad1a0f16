"""Who may do what: every route by every kind of caller."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.api_site import Site

JOB = {"job": {"name": "x"}}
CALLERS = ("nobody", "stranger", "viewer", "tenant", "other", "operator")

# What each caller gets. "other" is a tenant that does not own job 1.
NIGHTLY = {"job": {"name": "nightly", "schedule": "0 2 * * *"}}
SERVICE = {"job": {"name": "nightly"}}
NIGHT = {"name": "night", "nodes": ["edge-0"], "start_s": 1e9, "end_s": 2e9, "reason": "bench"}

TABLE: list[tuple[str, str, Any, tuple[int, ...]]] = [
    ("POST", "/v1/jobs", JOB, (401, 401, 403, 201, 201, 201)),
    ("POST", "/v1/jobs/dry-run", JOB, (401, 401, 403, 200, 200, 200)),
    ("GET", "/v1/jobs", None, (401, 401, 200, 200, 200, 200)),
    ("GET", "/v1/jobs/1", None, (401, 401, 200, 200, 404, 200)),
    ("GET", "/v1/jobs/1/why", None, (401, 401, 200, 200, 404, 200)),
    ("GET", "/v1/jobs/1/wait?timeout_s=0", None, (401, 401, 200, 200, 404, 200)),
    ("GET", "/v1/jobs/1/log?attempt=1", None, (401, 401, 200, 200, 404, 200)),
    ("POST", "/v1/jobs/1/cancel", {"reason": "r"}, (401, 401, 403, 200, 404, 200)),
    ("POST", "/v1/jobs/cancel", {"ids": ["1"]}, (401, 401, 403, 200, 200, 200)),
    ("POST", "/v1/jobs/hold", {"ids": ["1"], "reason": "r"}, (401, 401, 403, 200, 200, 200)),
    ("POST", "/v1/jobs/release", {"ids": ["1"]}, (401, 401, 403, 200, 200, 200)),
    ("POST", "/v1/jobs/requeue", {"ids": ["1"], "reason": "r"}, (401, 401, 403, 200, 200, 200)),
    ("POST", "/v1/jobs/1/scale", {"replicas": 1}, (401, 401, 403, 200, 404, 200)),
    ("POST", "/v1/jobs", NIGHTLY, (401, 401, 403, 201, 201, 201)),
    ("GET", "/v1/schedules", None, (401, 401, 200, 200, 200, 200)),
    ("GET", "/v1/schedules/nightly", None, (401, 401, 404, 200, 200, 200)),
    ("POST", "/v1/schedules/nightly/pause", {"reason": "r"}, (401, 401, 403, 200, 200, 200)),
    ("POST", "/v1/schedules/nightly/resume", None, (401, 401, 403, 200, 200, 200)),
    ("DELETE", "/v1/schedules/nightly", None, (401, 401, 403, 200, 200, 200)),
    ("POST", "/v1/services", SERVICE, (401, 401, 403, 201, 201, 201)),
    ("GET", "/v1/services", None, (401, 401, 200, 200, 200, 200)),
    ("GET", "/v1/services/nightly", None, (401, 401, 404, 200, 200, 200)),
    ("POST", "/v1/services/nightly/rollback", {}, (401, 401, 403, 200, 200, 200)),
    ("POST", "/v1/services/nightly/scale", {"replicas": None}, (401, 401, 403, 200, 200, 200)),
    ("DELETE", "/v1/services/nightly", None, (401, 401, 403, 200, 200, 200)),
    ("GET", "/v1/reservations", None, (401, 401, 200, 200, 200, 200)),
    ("GET", "/v1/tenants", None, (401, 401, 200, 200, 200, 200)),
    ("GET", "/v1/usage?month=2026-11", None, (401, 401, 200, 200, 200, 200)),
    ("GET", "/v1/usage/entries?tenant=film-studio", None, (401, 401, 200, 200, 403, 200)),
    ("POST", "/v1/usage/close", {"month": "2026-10"}, (401, 401, 403, 403, 403, 200)),
    ("POST", "/v1/reservations", NIGHT, (401, 401, 403, 403, 403, 201)),
    ("DELETE", "/v1/reservations/night", None, (401, 401, 403, 403, 403, 200)),
    ("GET", "/v1/nodes", None, (401, 401, 200, 200, 200, 200)),
    ("GET", "/v1/devices", None, (401, 401, 200, 200, 200, 200)),
    ("GET", "/v1/nodes/edge-0", None, (401, 401, 200, 200, 200, 200)),
    ("POST", "/v1/nodes/edge-0/drain", {"reason": "r"}, (401, 401, 403, 403, 403, 200)),
    ("POST", "/v1/nodes/edge-0/resume", {}, (401, 401, 403, 403, 403, 200)),
    ("POST", "/v1/health/flags", {"run": "r", "flags": []}, (401, 401, 403, 403, 403, 200)),
    ("POST", "/v1/close-down", None, (401, 401, 403, 403, 403, 200)),
    ("GET", "/v1/status", None, (401, 401, 200, 403, 403, 200)),
    ("GET", "/v1/config", None, (401, 401, 200, 200, 200, 200)),
    ("GET", "/metrics", None, (401, 401, 200, 403, 403, 200)),
    ("GET", "/metrics/devices", None, (401, 401, 200, 403, 403, 200)),
    ("GET", "/v1/health", None, (200, 200, 200, 200, 200, 200)),
    ("GET", "/docs", None, (200, 200, 200, 200, 200, 200)),
    ("GET", "/openapi.json", None, (200, 200, 200, 200, 200, 200)),
    ("GET", "/v1/nothing-here", None, (401, 401, 404, 404, 404, 404)),
    ("PUT", "/v1/jobs", None, (401, 401, 405, 405, 405, 405)),
    ("GET", "/v1/health/", None, (401, 401, 404, 404, 404, 404)),
    ("GET", "//v1/health", None, (401, 401, 404, 404, 404, 404)),
]


@pytest.mark.parametrize("caller", CALLERS)
def test_every_route_by_every_caller(site: Site, caller: str) -> None:
    site.control.write_log("1", b"hello")
    found = {}
    expected = {}
    for method, path, body, statuses in TABLE:
        if path.endswith("/cancel"):
            site.control.set_state("1", "pending", kind="inference")
        response = site.http.request(method, f"http://testserver{path}", json=body, headers=site.bearers[caller])
        found[f"{method} {path}"] = response.status_code
        expected[f"{method} {path}"] = statuses[CALLERS.index(caller)]
    assert found == expected


def test_the_table_covers_every_route(site: Site) -> None:
    documented = {
        (method.upper(), path)
        for path, operations in site.http.get("/openapi.json").json()["paths"].items()
        for method in operations
    }
    tried = {
        (
            method,
            path.partition("?")[0]
            .replace("jobs/1", "jobs/{job_id}")
            .replace("edge-0", "{node}")
            .replace("s/nightly", "s/{name}")
            .replace("s/night", "s/{name}"),
        )
        for method, path, _, _ in TABLE
    }
    assert documented <= tried


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic b2xnYTpvbGdh"},
        {"Authorization": "Bearer é".encode()},
        {"Authorization": "Bearer " + "x" * 60_000},
        {"X-Authorization": "Bearer x"},
    ],
)
def test_a_request_without_a_good_token_says_how_to_show_one(site: Site, header: dict[str, str]) -> None:
    response = site.http.get("/v1/jobs", headers=header)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert response.json()["error"]["type"] == "unauthenticated"


def test_two_tokens_are_none(site: Site) -> None:
    both = [("Authorization", site.bearers["operator"]["Authorization"])] * 2
    assert site.http.get("/v1/jobs", headers=both).status_code == 401


def test_the_scheme_is_read_without_regard_to_case(site: Site) -> None:
    header = {"Authorization": site.bearers["operator"]["Authorization"].replace("Bearer", "bearer")}
    assert site.http.get("/v1/jobs", headers=header).status_code == 200


def test_a_token_file_that_others_can_read_lets_nobody_in_and_tells_strangers_nothing(site: Site) -> None:
    site.token_file.chmod(0o644)
    response = site.http.get("/v1/jobs", headers=site.bearers["operator"])
    assert response.status_code == 503
    assert str(site.token_file) not in response.text


def test_a_role_that_does_not_reach_is_told_which_one_it_is(site: Site) -> None:
    response = site.http.post("/v1/nodes/edge-0/drain", json={"reason": "r"}, headers=site.bearers["tenant"])
    assert response.json()["error"] == {
        "message": "film is a tenant: nodes are drained, resumed and reserved by operators",
        "field": None,
        "type": "forbidden",
    }


def test_a_tenants_list_holds_its_own_jobs_alone(site: Site) -> None:
    ids = {
        who: [view["id"] for view in site.http.get("/v1/jobs", headers=site.bearers[who]).json()["jobs"]]
        for who in ("tenant", "other", "viewer", "operator")
    }
    assert ids == {"tenant": ["1"], "other": [], "viewer": ["1"], "operator": ["1"]}
