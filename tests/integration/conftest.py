"""Instances for the integration tests: one shared by the session, and one of its own for a test that may break it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.instances import Instance


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/integration" in str(item.path):
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    made = Instance(tmp_path_factory.mktemp("instance"))
    made.up()
    yield made
    made.down()


@pytest.fixture
def own_instance(tmp_path: Path) -> Iterator[Instance]:
    """An instance that the test may break; whatever it did, nothing is left of it."""
    made = Instance(tmp_path)
    yield made
    made.suanli("down")
    assert made.leftovers() == {"processes": [], "runtime": []}
