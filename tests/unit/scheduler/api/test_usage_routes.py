"""/v1/usage: shapes, rights, and what a month may not be closed with."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.api import usage_models
from tests.fakes.api_site import Site

RATE = {
    "model": "H100 SXM",
    "gflops": "612000.125",
    "precision": "bf16",
    "on": "accelerator",
    "run": "night-1",
    "recorded_s": 1.5,
    "devices": 3,
}


def get(site: Site, path: str, who: str = "operator") -> Any:
    return site.http.get(path, headers=site.bearers[who])


def close(site: Site, body: Any, who: str = "operator") -> Any:
    return site.http.post("/v1/usage/close", json=body, headers=site.bearers[who])


@pytest.mark.parametrize(
    ("path", "model", "schema"),
    [
        ("/v1/usage", usage_models.UsageAnswer, "suanli/usage/1"),
        ("/v1/usage?month=2026-10&of=service&tenant=hospital", usage_models.UsageAnswer, "suanli/usage/1"),
        ("/v1/usage/entries?month=2026-11", usage_models.UsageEntriesAnswer, "suanli/usage-entries/1"),
        ("/v1/usage/entries?limit=1&offset=2", usage_models.UsageEntriesAnswer, "suanli/usage-entries/1"),
    ],
)
def test_answers_have_the_documented_shape(site: Site, path: str, model: Any, schema: str) -> None:
    response = get(site, path)
    assert response.status_code == 200, response.text
    assert response.json()["schema"] == schema
    model.model_validate(response.json())


def test_a_month_is_closed_by_operators_once(site: Site) -> None:
    for who in ("tenant", "viewer"):
        assert close(site, {"month": "2026-10"}, who).status_code == 403
    response = close(site, {"month": "2026-10", "rates": [RATE]})
    assert response.status_code == 200, response.text
    usage_models.UsageAnswer.model_validate(response.json())
    assert response.json()["closed"]["intact"] is True
    assert response.json()["rates"] == [RATE]
    again = close(site, {"month": "2026-10"})
    assert (again.status_code, again.json()["error"]["type"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "month"),
        ({"month": "2026-1"}, "month"),
        ({"month": "2026-10", "rates": [RATE | {"gflops": "NaN"}]}, "rates[0].gflops"),
        ({"month": "2026-10", "rates": [RATE | {"gflops": "-1"}]}, "rates[0].gflops"),
        ({"month": "2026-10", "rates": [RATE | {"gflops": 612000.0}]}, "rates[0].gflops"),
        ({"month": "2026-10", "rates": [RATE | {"on": "paper"}]}, "rates[0].on"),
        ({"month": "2026-10", "rates": [RATE | {"devices": 0}]}, "rates[0].devices"),
        ({"month": "2026-10", "rates": [RATE, RATE]}, "rates"),
    ],
)
def test_what_is_wrong_with_a_closing_is_named(site: Site, body: Any, field: str) -> None:
    response = close(site, body)
    assert response.status_code == 422
    assert response.json()["error"]["field"] == field


@pytest.mark.parametrize("query", ["month=2026-13", "of=planet", "month=", "tenant=" + "x" * 101])
def test_what_is_wrong_with_a_question_is_named(site: Site, query: str) -> None:
    assert get(site, f"/v1/usage?{query}").status_code == 422


def test_a_tenant_sees_its_own_alone(site: Site) -> None:
    own = get(site, "/v1/usage?month=2026-11", "tenant").json()
    assert {each["name"] for each in own["sums"]} == {"film-studio"}
    assert get(site, "/v1/usage?tenant=hospital", "tenant").status_code == 403
    assert get(site, "/v1/usage/entries?tenant=hospital", "tenant").status_code == 403
