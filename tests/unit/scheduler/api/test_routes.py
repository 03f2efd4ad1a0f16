"""What the routes answer: shapes, parameters, errors, bodies, waits, logs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from scheduler.api import job_routes, models, site_models
from scheduler.errors import Conflict, Overloaded, Unavailable
from tests.fakes.api_site import Site
from tests.fakes.control_views import job_view, worker_view

MIB = 1024 * 1024


def get(site: Site, path: str, who: str = "operator") -> Any:
    return site.http.get(path, headers=site.bearers[who])


def post(site: Site, path: str, body: Any, who: str = "operator") -> Any:
    return site.http.post(path, json=body, headers=site.bearers[who])


def until(condition: Callable[[], bool], *, timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("path", "model", "schema"),
    [
        ("/v1/jobs", models.JobsAnswer, "suanli/jobs/1"),
        ("/v1/jobs/1", models.JobAnswer, "suanli/job/1"),
        ("/v1/jobs/last", models.JobAnswer, "suanli/job/1"),
        ("/v1/jobs/1/why", models.WhyAnswer, "suanli/why/1"),
        ("/v1/jobs/1/wait?timeout_s=0", models.JobViewAnswer, "suanli/wait/1"),
        ("/v1/reservations", site_models.ReservationsAnswer, "suanli/reservations/1"),
        ("/v1/nodes", site_models.NodesAnswer, "suanli/nodes/1"),
        ("/v1/devices", site_models.DevicesAnswer, "suanli/devices/1"),
        ("/v1/tenants", site_models.TenantsAnswer, "suanli/tenants/1"),
        ("/v1/status", site_models.StatusAnswer, "suanli/status/1"),
        ("/v1/config", site_models.ConfigAnswer, "suanli/config/1"),
        ("/v1/health", site_models.HealthAnswer, "suanli/health/1"),
    ],
)
def test_answers_have_the_documented_shape(site: Site, path: str, model: Any, schema: str) -> None:
    site.control.put(job_view("1", state="running", reason=None, workers=[worker_view()], simulated=False))
    response = get(site, path)
    assert response.status_code == 200
    assert response.json()["schema"] == schema
    model.model_validate(response.json())


NIGHT = {"name": "night", "nodes": ["edge-0"], "start_s": 1e9, "end_s": 2e9, "reason": "bench"}


def test_a_reservation_is_made_listed_and_taken_back(site: Site) -> None:
    made = post(site, "/v1/reservations", NIGHT | {"every_s": 86_400, "tenants": ["film-studio", "film-studio"]})
    assert made.json()["tenants"] == ["film-studio"]
    assert (made.status_code, made.json()["schema"]) == (201, "suanli/reservation/1")
    site_models.ReservationAnswer.model_validate(made.json())
    (listed,) = get(site, "/v1/reservations").json()["reservations"]
    assert (listed["name"], listed["nodes"], listed["every_s"], listed["by"]) == ("night", ["edge-0"], 86_400, "olga")
    assert post(site, "/v1/reservations", NIGHT).status_code == 409
    gone = site.http.delete("/v1/reservations/night", headers=site.bearers["operator"])
    assert (gone.status_code, gone.json()["name"]) == (200, "night")
    assert get(site, "/v1/reservations").json()["reservations"] == []


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"nodes": None}, None, "exactly one of `nodes` and `count` is expected"),
        ({"count": 2}, None, "exactly one of `nodes` and `count` is expected"),
        ({"device": "H100 SXM"}, None, "`device` goes with `count`"),
        ({"nodes": []}, "nodes", "nodes: List should have at least 1 item"),
        ({"name": "Night!"}, "name", "name: String should match pattern"),
        ({"start_s": "soon"}, "start_s", "start_s: Input should be a valid number"),
        ({"every_s": 1}, "every_s", "every_s: Input should be greater than or equal to 60"),
        ({"reason": ""}, "reason", "reason: String should have at least 1 character"),
    ],
)
def test_a_bad_reservation_names_its_field(site: Site, change: dict[str, Any], field: str | None, said: str) -> None:
    body = {key: value for key, value in (NIGHT | change).items() if value is not None}
    response = post(site, "/v1/reservations", body)
    assert response.status_code == 422
    assert response.json()["error"]["field"] == field
    assert said in response.json()["error"]["message"]


def test_a_service_is_scaled(site: Site) -> None:
    site.control.put(job_view("2", kind="inference", workers_min=0, workers_max=4))
    answered = post(site, "/v1/jobs/2/scale", {"replicas": 0}, who="tenant")
    assert (answered.status_code, answered.json()["workers_wanted"]) == (200, 0)
    assert answered.json()["schema"] == "suanli/scale/1"
    assert post(site, "/v1/jobs/2/scale", {"replicas": 5}).status_code == 422
    assert post(site, "/v1/jobs/2/scale", {"replicas": -1}).status_code == 422
    assert post(site, "/v1/jobs/1/scale", {"replicas": 1}).status_code == 409


def test_submitting_answers_with_the_views(site: Site) -> None:
    response = post(site, "/v1/jobs", {"job": {"name": "train"}}, who="tenant")
    assert response.status_code == 201
    answer = models.JobsAnswer.model_validate(response.json())
    assert [(view.id, view.name, view.tenant) for view in answer.jobs] == [("2", "train", "film-studio")]


def test_several_jobs_are_accepted_together_or_not_at_all(site: Site) -> None:
    jobs = [{"name": "a"}, {"name": "b", "time_limit": "never"}]
    response = post(site, "/v1/jobs", {"jobs": jobs})
    assert response.status_code == 422
    assert response.json()["error"]["field"] == "jobs[1].time_limit"
    assert response.json()["error"]["message"].startswith("job 2 of 2: time_limit:")
    assert list(site.control.views) == ["1"]
    assert len(post(site, "/v1/jobs", {"jobs": jobs[:1] * 3}).json()["jobs"]) == 3


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field", "said"),
    [
        ("POST", "/v1/jobs", b"{", 422, None, "not JSON"),
        ("POST", "/v1/jobs", b"", 422, None, "a JSON body is expected"),
        ("POST", "/v1/jobs", b"[]", 422, None, ""),
        ("POST", "/v1/jobs", b"{}", 422, None, "exactly one of"),
        ("POST", "/v1/jobs", b'{"job": {}, "jobs": [{}]}', 422, None, "exactly one of"),
        ("POST", "/v1/jobs", b'{"job": 3}', 422, "job", "dictionary"),
        ("POST", "/v1/jobs", b'{"jobs": []}', 422, "jobs", "at least 1"),
        ("POST", "/v1/jobs", b'{"job": {}, "extra": 1}', 422, "extra", "not permitted"),
        ("POST", "/v1/jobs", b'{"job": {"name": 1}}', 422, "name", "a text is expected"),
        ("POST", "/v1/jobs", b"[" * 50_000, 400, None, "parsing"),
        ("POST", "/v1/jobs", b'{"job": "\xff"}', 400, None, "parsing"),
        ("GET", "/v1/jobs?limit=0", None, 422, "limit", "greater than or equal to 1"),
        ("GET", "/v1/jobs?limit=many", None, 422, "limit", "integer"),
        ("GET", "/v1/jobs?limit=10001", None, 422, "limit", "10000"),
        ("GET", "/v1/jobs?state=asleep", None, 422, "state", "one of pending, starting"),
        ("GET", "/v1/jobs/99", None, 404, "id", "no job 99"),
        ("GET", "/v1/jobs/first", None, 422, "id", "no job id"),
        ("GET", "/v1/jobs/1;drop", None, 422, "id", "no job id"),
        ("GET", "/v1/jobs/1.2.3/why", None, 422, "id", "no job id"),
        ("GET", "/v1/jobs/%31%0a/why", None, 422, "id", "no job id"),
        ("GET", "/v1/jobs/٣", None, 422, "id", "no job id"),
        ("GET", "/v1/jobs/" + "1" * 5000, None, 422, "id", "no job id"),
        ("GET", "/v1/jobs/1/wait?timeout_s=nan", None, 422, "timeout_s", ""),
        ("GET", "/v1/jobs/1/wait?timeout_s=61", None, 422, "timeout_s", "60"),
        ("GET", "/v1/jobs/1/log?stream=both", None, 422, "stream", "stdout"),
        ("GET", "/v1/jobs/1/log?offset=-1", None, 422, "offset", ""),
        ("GET", "/v1/jobs/1/log?limit=99999999", None, 422, "limit", ""),
        ("GET", "/v1/jobs/1/log?worker=7&attempt=1", None, 404, None, "no stdout of worker 7"),
        ("POST", "/v1/jobs/cancel", b'{"ids": []}', 422, "ids", "at least 1"),
        ("POST", "/v1/jobs/cancel", b'{"ids": ["7", 8]}', 422, "ids[1]", "string"),
        ("POST", "/v1/jobs/cancel", b'{"ids": [' + b'"7",' * 20_000 + b'"7"]}', 422, "ids", "at most 20000"),
        ("POST", "/v1/jobs/1/cancel", b'{"reason": "' + b"x" * 501 + b'"}', 422, "reason", "500"),
        ("POST", "/v1/jobs/hold", b'{"ids": ["1"]}', 422, "reason", "required"),
        ("POST", "/v1/jobs/hold", b'{"ids": ["1"], "reason": ""}', 422, "reason", "at least 1"),
        ("POST", "/v1/jobs/release", b'{"ids": []}', 422, "ids", "at least 1"),
        ("POST", "/v1/jobs/requeue", b'{"ids": ["1"], "reason": "r", "hold": "so"}', 422, "hold", "boolean"),
        ("POST", "/v1/nodes/edge-0/drain", b"{}", 422, "reason", "required"),
        ("POST", "/v1/nodes/edge-0/drain", b'{"reason": ""}', 422, "reason", ""),
        ("POST", "/v1/nodes/nowhere/drain", b'{"reason": "r"}', 404, "node", "no node nowhere"),
        ("POST", "/v1/nodes/..%2f..%2fetc/resume", b"{}", 404, None, ""),
        ("POST", "/v1/nodes/a%20b/resume", b"{}", 404, "node", "no node 'a b'"),
        ("DELETE", "/v1/jobs/1", None, 405, None, "DELETE is not possible"),
        ("GET", "/v2/jobs", None, 404, None, "nothing at /v2/jobs"),
    ],
)
def test_bad_requests(
    site: Site, method: str, path: str, body: bytes | None, status: int, field: str, said: str
) -> None:
    headers = site.bearers["operator"] | ({"Content-Type": "application/json"} if body is not None else {})
    response = site.http.request(method, path, content=body, headers=headers)
    error = models.ErrorAnswer.model_validate(response.json()).error
    assert (response.status_code, error.field) == (status, field), response.text
    assert said in error.message
    assert list(site.control.views) == ["1"]


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (Conflict("already ended"), 409, "conflict"),
        (Unavailable("the disk is full: nothing was kept"), 503, "unavailable"),
        (Overloaded("too many"), 429, "overloaded"),
    ],
)
def test_failures_of_the_service_keep_their_status_and_words(
    site: Site, error: Exception, status: int, word: str
) -> None:
    site.control.broken = error
    response = get(site, "/v1/jobs")
    assert response.status_code == status
    assert response.json()["error"] == {"message": str(error), "field": None, "type": word}
    assert ("Retry-After" in response.headers) == (status in (429, 503))


def test_a_bug_is_told_by_its_number_and_logged_in_full(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.control.broken = ZeroDivisionError("secret detail")
    with caplog.at_level(logging.ERROR, logger="suanli.api"):
        response = get(site, "/v1/jobs")
    message = response.json()["error"]["message"]
    assert response.status_code == 500
    assert message.startswith("internal error, see the service log, id ")
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    assert message.rsplit(" ", 1)[1] in caplog.text
    assert "ZeroDivisionError: secret detail" in caplog.text
    site.control.broken = None
    assert get(site, "/v1/jobs").status_code == 200


# ---- bodies ------------------------------------------------------------------------------------------------------


def test_a_body_up_to_the_limit_is_read(site: Site) -> None:
    name = "x" * (MIB - 100)
    assert post(site, "/v1/jobs/dry-run", {"job": {"name": name}}).status_code == 200
    jobs = [{"name": f"{index:05}", "command": ["x" * 15_000]} for index in range(1_000)]
    assert post(site, "/v1/jobs", {"jobs": jobs}).status_code == 201


def test_a_body_over_the_limit_is_refused_by_its_length(site: Site) -> None:
    assert post(site, "/v1/jobs/dry-run", {"job": {"name": "x" * MIB}}).status_code == 413
    response = post(site, "/v1/jobs", {"job": {"name": "x" * 16 * MIB}})
    assert response.status_code == 413
    assert response.json()["error"]["type"] == "too_large"
    assert list(site.control.views) == ["1"]


# ---- waits -------------------------------------------------------------------------------------------------------


def test_a_wait_ends_with_the_job(site: Site) -> None:
    with ThreadPoolExecutor(1) as pool:
        waited = pool.submit(get, site, "/v1/jobs/last/wait?timeout_s=30")
        until(lambda: site.control.waiting == 1)
        site.control.set_state("1", "succeeded")
        assert waited.result(timeout=5).json()["state"] == "succeeded"


def test_a_wait_for_last_stays_with_the_job_that_was_last(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The poll asks in slices; a job submitted between two of them must not take the place of the one waited for."""
    monkeypatch.setattr(job_routes, "WAIT_SLICE_S", 0.05)
    with ThreadPoolExecutor(1) as pool:
        waited = pool.submit(get, site, "/v1/jobs/last/wait?timeout_s=30")
        until(lambda: site.control.waits_begun >= 1)
        site.control.put(job_view("2"))
        begun = site.control.waits_begun
        until(lambda: site.control.waits_begun >= begun + 2)
        site.control.set_state("1", "succeeded")
        assert waited.result(timeout=5).json()["id"] == "1"


def test_a_wait_that_runs_out_answers_with_the_job_as_it_is(site: Site) -> None:
    response = get(site, "/v1/jobs/1/wait?timeout_s=0.05")
    assert (response.status_code, response.json()["state"]) == (200, "pending")


def test_waits_are_limited_and_never_keep_a_submit_waiting(site: Site) -> None:
    with ThreadPoolExecutor(2) as pool:  # the fixture allows two
        waits = [pool.submit(get, site, "/v1/jobs/1/wait?timeout_s=30") for _ in range(2)]
        until(lambda: site.control.waiting == 2)
        third = get(site, "/v1/jobs/1/wait?timeout_s=30")
        submitted = post(site, "/v1/jobs", {"job": {"name": "now"}})
        site.control.set_state("1", "failed")
        assert [wait.result(timeout=5).json()["state"] for wait in waits] == ["failed", "failed"]
    assert third.status_code == 429
    assert third.headers["Retry-After"] == "1"
    assert submitted.status_code == 201
    assert get(site, "/v1/jobs/1/wait?timeout_s=30").json()["state"] == "failed"


def test_a_slow_log_read_does_not_keep_a_submit_waiting(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    hold, entered = threading.Event(), threading.Semaphore(0)
    read_log = site.control.read_log

    def slow(*args: Any, **kwargs: Any) -> Any:
        entered.release()
        hold.wait(10)
        return read_log(*args, **kwargs)

    monkeypatch.setattr(site.control, "read_log", slow)
    site.control.write_log("1", b"x")
    with ThreadPoolExecutor(8) as pool:
        reads = [pool.submit(get, site, "/v1/jobs/1/log?attempt=1") for _ in range(8)]
        for _ in reads:
            assert entered.acquire(timeout=5)
        assert post(site, "/v1/jobs", {"job": {"name": "now"}}).status_code == 201
        hold.set()
        assert [read.result(timeout=5).content for read in reads] == [b"x"] * 8


# ---- logs, metrics, docs -----------------------------------------------------------------------------------------


def test_a_log_is_read_in_chunks_to_its_end(site: Site) -> None:
    site.control.put(job_view("1", state="running", attempt=1))
    site.control.write_log("1", b"\x00\xffabc")
    first = get(site, "/v1/jobs/1/log?limit=2")
    assert (first.content, first.headers["X-Next-Offset"], first.headers["X-End"]) == (b"\x00\xff", "2", "0")
    assert first.headers["Content-Type"] == "application/octet-stream"
    assert first.headers["X-Content-Type-Options"] == "nosniff"
    second = get(site, "/v1/jobs/1/log?offset=2")
    assert (second.content, second.headers["X-Next-Offset"], second.headers["X-End"]) == (b"abc", "5", "0")
    assert second.headers["X-Skipped"] == "0"
    site.control.cut_log("1", after=4, lost=1000, rest=b"z")
    third = get(site, "/v1/jobs/1/log?offset=4")
    assert (third.content, third.headers["X-Next-Offset"], third.headers["X-Skipped"]) == (b"z", "1005", "1000")
    site.control.cuts.clear()
    site.control.set_state("1", "succeeded")
    last = get(site, "/v1/jobs/1/log?offset=5")
    assert (last.content, last.headers["X-End"]) == (b"", "1")


def test_states_may_be_repeated_or_listed(site: Site) -> None:
    for job_id, state in (("2", "running"), ("3", "failed"), ("4", "succeeded")):
        site.control.put(job_view(job_id, state=state))
    asked = {
        query: [view["id"] for view in get(site, f"/v1/jobs?{query}").json()["jobs"]]
        for query in ("", "state=running,failed", "state=running&state=failed", "tenant=nobody", "limit=2")
    }
    assert asked == {
        "": ["1", "2", "4", "3"],
        "state=running,failed": ["2", "3"],
        "state=running&state=failed": ["2", "3"],
        "tenant=nobody": [],
        "limit=2": ["1", "2"],
    }


def test_metrics_count_jobs_in_every_state(site: Site) -> None:
    response = get(site, "/metrics", who="viewer")
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = response.text.splitlines()
    assert 'suanli_jobs{state="pending"} 1' in lines
    assert 'suanli_jobs{state="running"} 0' in lines
    assert response.text.endswith("\n")


def test_readings_of_devices_are_metrics_of_their_own(site: Site) -> None:
    reading = {"value": 412.25, "unit": "watts", "at_s": 1.0, "quality": "simulated"}
    missing = {"unavailable": "not supported"}
    node = site.control.node_views["edge-0"]
    uuid = node["devices"][0]["uuid"]
    node["readings"] = {uuid: {"power_watts": reading, "clock_mhz": missing}}
    text = get(site, "/metrics/devices").text
    model = node["devices"][0]["model"]
    assert text == (
        "# HELP suanli_device_power_watts Power drawn, as averaged by the device (NVML: over 1 s).\n"
        "# TYPE suanli_device_power_watts gauge\n"
        f'suanli_device_power_watts{{node="edge-0",device="{uuid}",model="{model}",simulated="true"}} 412.25\n'
    )


def test_devices_are_asked_for_by_place_and_by_field(site: Site) -> None:
    node = site.control.node_views["edge-0"]
    uuid = node["devices"][0]["uuid"]
    watts = {"value": 412.25, "unit": "watts", "at_s": 1.5, "quality": "measured"}
    node["readings"] = {uuid: {"power_watts": watts, "faults": {"unavailable": "lost"}}}
    for query in ("fields=power_watts,faults", "fields=power_watts&fields=faults"):
        rows = get(site, f"/v1/devices?node=edge-0&{query}").json()["devices"]
        assert rows[0]["values"] == [412.25, None]
        assert rows[0]["unavailable"] == {"faults": "lost"}
        assert (rows[0]["quality"], rows[0]["read_at_s"]) == ("measured", 1.5)
    assert get(site, "/v1/devices?site=elsewhere").json()["devices"] == []
    assert get(site, "/v1/devices?node=nowhere").status_code == 404
    wrong = get(site, "/v1/devices?fields=power")
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "fields")
    assert "power_watts" in wrong.json()["error"]["message"]


def test_nodes_may_be_asked_for_without_their_readings(site: Site) -> None:
    node = site.control.node_views["edge-0"]
    node["readings"] = {node["devices"][0]["uuid"]: {"faults": {"unavailable": "lost"}}}
    assert get(site, "/v1/nodes").json()["nodes"][0]["readings"] == node["readings"]
    assert get(site, "/v1/nodes?readings=false").json()["nodes"][0]["readings"] == {}
    assert get(site, "/v1/nodes?readings=perhaps").status_code == 422


def test_the_docs_page_lists_every_operation_and_loads_nothing(site: Site) -> None:
    response = site.http.get("/docs")
    document = site.http.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method in operations:
            assert f'<span class="m">{method.upper()}</span> <code>{path}</code>' in response.text
    assert "<script" not in response.text
    assert "http://" not in response.text
    assert "https://" not in response.text
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_openapi_says_which_operations_need_a_token(site: Site) -> None:
    paths = site.http.get("/openapi.json").json()["paths"]
    free = [
        path for path, operations in paths.items() for operation in operations.values() if "security" not in operation
    ]
    assert free == ["/v1/health"]
