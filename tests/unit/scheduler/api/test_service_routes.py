"""/v1/services: shapes, rights and bad requests."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.api import service_models
from scheduler.api.metrics import prometheus_text
from tests.fakes.api_site import Site
from tests.fakes.fake_control import OPERATOR, FakeControl
from tests.fakes.service_views import rollout_view, service_view, version_view
from tests.unit.scheduler.api.test_routes import get, post

JOB = {"job": {"name": "detect"}}


def test_deploy_list_show_roll_back_scale_and_delete(site: Site) -> None:
    made = post(site, "/v1/services", JOB, who="tenant")
    assert (made.status_code, made.json()["schema"]) == (201, "suanli/service/1")
    assert service_models.ServiceAnswer.model_validate(made.json()).deployed_job == "101"
    second = post(site, "/v1/services", JOB, who="tenant").json()
    assert (second["rollout"]["from"], second["rollout"]["to"]) == (1, 2)
    service_models.ServiceAnswer.model_validate(second)
    listed = get(site, "/v1/services")
    assert [row.name for row in service_models.ServicesAnswer.model_validate(listed.json()).services] == ["detect"]
    shown = service_models.ServiceAnswer.model_validate(get(site, "/v1/services/detect").json())
    assert [version.number for version in shown.versions] == [2, 1]
    back = post(site, "/v1/services/detect/rollback", {})
    assert (back.status_code, back.json()["version"]) == (200, 1)
    assert post(site, "/v1/services/detect/rollback", {"to": 9}).status_code == 404
    pinned = post(site, "/v1/services/detect/scale", {"replicas": 3}).json()
    assert pinned["autoscaling"]["pinned"] is True
    assert post(site, "/v1/services/detect/scale", {"replicas": None}).json()["autoscaling"]["pinned"] is False
    gone = site.http.delete("/v1/services/detect", headers=site.bearers["tenant"])
    assert (gone.status_code, gone.json()["name"]) == (200, "detect")
    assert get(site, "/v1/services").json()["services"] == []


@pytest.mark.parametrize(
    ("path", "body", "who", "status"),
    [
        ("/v1/services", {}, "operator", 422),
        ("/v1/services", {"job": {"name": "x"}, "canary": 5}, "operator", 422),
        ("/v1/services", JOB, "viewer", 403),
        ("/v1/services/none/rollback", {}, "operator", 404),
        ("/v1/services/a%20b/rollback", {}, "operator", 404),
        ("/v1/services/none/rollback", {"to": 0}, "operator", 422),
        ("/v1/services/none/scale", {"replicas": -1}, "operator", 422),
        ("/v1/services/none/scale", {}, "operator", 422),
    ],
)
def test_bad_requests(site: Site, path: str, body: Any, who: str, status: int) -> None:
    assert post(site, path, body, who).status_code == status


def test_metrics_of_services() -> None:
    resting = version_view(1, state="stopped", weight_milli=0, replicas_placed=0)
    service = service_view("d", versions=[version_view(2, weight_milli=250), resting], rollout=rollout_view(2, 1))
    text = prometheus_text(FakeControl().status(OPERATOR), [], [service])
    labels = '{tenant="film-studio",service="d",version="2"}'
    for line in (
        f"suanli_service_replicas_wanted{labels} 2.0",
        f"suanli_service_replicas_ready{labels} 2.0",
        f"suanli_service_weight{labels} 0.25",
        f"suanli_service_requests_per_second{labels} 20.0",
        "suanli_service_rollouts 1",
        "suanli_service_rollbacks_total 2",
        'suanli_autoscale_decisions_total{tenant="film-studio",service="d",direction="up"} 3',
        "suanli_service_evictions_total 4",
    ):
        assert f"{line}\n" in text, line
    assert 'version="1"' not in text
