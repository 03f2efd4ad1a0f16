"""A gateway that remembers what was published to it."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.ports import Route


class FakeGateway:
    def __init__(self) -> None:
        self.tables: list[tuple[Route, ...]] = []

    def publish(self, routes: Sequence[Route], *, epoch: int) -> None:
        self.tables.append(tuple(routes))

    def addresses(self, service: str) -> list[str]:
        """Where requests to the service go now."""
        table = self.tables[-1] if self.tables else ()
        return [replica.address for route in table if route.service == service for replica in route.replicas]
