"""The shipped configuration, read once, and tokens to submit with."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.ports import Principal
from scheduler.schema.load import load_site
from scheduler.schema.model import SiteConfig

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="session")
def repository() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def site() -> SiteConfig:
    return load_site(ROOT / "configs" / "local.yaml")


@pytest.fixture(scope="session")
def operator() -> Principal:
    return Principal("root", "operations", "operator", "emergency")


@pytest.fixture(scope="session")
def film() -> Principal:
    return Principal("render-bot", "film-studio", "tenant", "production")
