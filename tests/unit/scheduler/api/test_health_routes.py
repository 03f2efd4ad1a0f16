"""Flags of the nights: who may post them, how many, and what is said of those that make no sense."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.api.health_routes import MOST_FLAGS, FlagsAnswer
from tests.fakes.api_site import Site

PATH = "/v1/health/flags"


def flag(**given: Any) -> dict[str, Any]:
    return {
        "device": "GPU-0",
        "rule": "slow_than_like",
        "value": 612.5,
        "expected": 700.0,
        "unit": "TFLOP/s",
        "text": "12% slower than its like",
        "since_s": 1_700_000_000.0,
        **given,
    }


def post(site: Site, body: Any, who: str = "operator") -> Any:
    return site.http.post(PATH, json=body, headers=site.bearers[who])


def test_flags_are_handed_on_with_their_figures(site: Site) -> None:
    known = next(iter(site.control.node_views.values()))["devices"][0]["uuid"]
    response = post(site, {"run": "2026-11-28", "flags": [flag(device=known), flag(rule="slow_than_before")]})
    assert response.status_code == 200
    answer = FlagsAnswer.model_validate(response.json())
    assert (answer.run, answer.taken, answer.ignored) == ("2026-11-28", 1, ["GPU-0"])
    run, flags = site.control.flagged
    assert run == "2026-11-28"
    assert [each["rule"] for each in flags] == ["slow-than-like", "slow-than-before"]
    assert flags[0]["text"] == "12% slower than its like (612.5 where 700 TFLOP/s was expected)"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"flags": []}, "run"),
        ({"run": "", "flags": []}, "run"),
        ({"run": "r", "flags": [flag(rule="slow")]}, "flags[0].rule"),
        ({"run": "r", "flags": [flag(), flag()]}, "device GPU-0 has slow_than_like twice"),
        ({"run": "r", "flags": [flag(value="fast")]}, "flags[0].value"),
        ({"run": "r", "flags": [flag(text="x" * 501)]}, "flags[0].text"),
        ({"run": "r", "flags": [flag(since_s=-1)]}, "flags[0].since_s"),
        ({"run": "r", "flags": [flag(device=f"GPU-{i}") for i in range(MOST_FLAGS + 1)]}, "20000"),
    ],
)
def test_what_makes_no_sense_is_refused_whole(site: Site, body: Any, said: str) -> None:
    response = post(site, body)
    assert response.status_code == 422
    assert said in response.json()["error"]["message"]
    assert not hasattr(site.control, "flagged")


def test_as_many_as_may_be_flagged_come_in_one_body(site: Site) -> None:
    body = {"run": "r", "flags": [flag(device=f"GPU-{i:036}") for i in range(MOST_FLAGS)]}
    assert post(site, body).json()["taken"] == 0
    assert post(site, {"run": "r" * (17 << 20), "flags": []}).status_code == 413
