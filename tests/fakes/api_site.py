"""An API over a fake service, with a token for each kind of caller."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient

from scheduler.api.app import create_app
from scheduler.tokens import TokenTable, issue
from tests.fakes.control_views import job_view
from tests.fakes.fake_control import OPERATOR, OTHER_TENANT, TENANT, VIEWER, FakeControl, parse_job

PRINCIPALS = {"operator": OPERATOR, "tenant": TENANT, "other": OTHER_TENANT, "viewer": VIEWER}


@dataclass(frozen=True, slots=True)
class Site:
    """`tokens` and `bearers` (header lines) by caller: operator, tenant, other, viewer; bearers also nobody, stranger.

    Job 1 is there, and belongs to `tenant`.
    """

    http: TestClient
    app: FastAPI
    control: FakeControl
    tokens: dict[str, str]
    bearers: dict[str, dict[str, str]]
    token_file: Path


def first_job() -> dict[str, object]:
    return job_view("1", tenant=TENANT.tenant)


def make_site(directory: Path, *, max_waits: int = 64) -> Site:
    token_file = directory / "tokens.json"
    control = FakeControl()
    control.put(first_job())
    tokens = {word: issue(token_file, principal) for word, principal in PRINCIPALS.items()}
    bearers = {word: {"Authorization": f"Bearer {token}"} for word, token in tokens.items()}
    bearers |= {"nobody": {}, "stranger": {"Authorization": "Bearer suanli_" + "A" * 43}}
    config = {"priority_classes": ["normal"], "tenants": ["film-studio"]}
    app = create_app(control, TokenTable(token_file), parse_job, config, version="0.1.0", max_waits=max_waits)
    return Site(TestClient(app), app, control, tokens, bearers, token_file)
