"""Every kind of store, opened again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scheduler.ports import (
    Store,
)
from scheduler.store.sql import open_store
from tests.fakes.fake_store import FakeStore

Open = Callable[[], Store]


@pytest.fixture(params=["sqlite", "postgres", "fake"])
def open_one(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same store each time."""
    if request.param == "fake":
        return FakeStore().reopened
    url = f"sqlite:///{tmp_path / 'home' / 'store.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").new_database()
    return lambda: open_store(url)


@pytest.fixture
def reopen(open_one: Open) -> Iterator[Open]:
    """Opens the same store again and again, as a service that restarts does."""
    opened: list[Store] = []

    def again() -> Store:
        if opened:
            opened[-1].close()
        opened.append(open_one())
        return opened[-1]

    yield again
    if opened:
        opened[-1].close()


@pytest.fixture
def two(open_one: Open) -> Iterator[tuple[Store, Store]]:
    """The same store, opened by two services at once."""
    both = open_one(), open_one()
    yield both
    for store in both:
        store.close()


@pytest.fixture
def store(reopen: Open) -> Store:
    return reopen()
