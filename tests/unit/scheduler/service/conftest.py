"""Every test here ends by asking whether the service met with a bug: the loop survives them, tests must not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.fakes.service_world import World


@pytest.fixture
def make() -> Iterator[Callable[..., World]]:
    worlds: list[World] = []

    def build(*nodes: object, **given: object) -> World:
        worlds.append(World(*nodes, **given))  # type: ignore[arg-type]
        return worlds[-1]

    yield build
    for world in worlds:
        world.no_bugs()


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    """One node with four devices."""
    return make()
