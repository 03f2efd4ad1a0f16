"""What is to be seen of the site: its nodes, its devices, and how the service itself is?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from scheduler.ports import Clock, Engine, Json, Principal, Store
from scheduler.service import deployment_views, device_views, machine, node_views, views
from scheduler.service.loop import ServiceLoop
from scheduler.service.state import ServiceState


class SiteLooks:
    """`status_extra`: what the composer knows and `status` is to show. `loop` is asked for anew each time."""

    def __init__(
        self, store: Store, engine: Engine, clock: Clock, loop: Callable[[], ServiceLoop], status_extra: Json
    ) -> None:
        self._store = store
        self._engine = engine
        self._clock = clock
        self._loop = loop
        self._status_extra = status_extra

    def nodes(self, by: Principal, *, readings: bool = True) -> Json:
        read, now_s = self._engine.readings(), self._clock.now_s()
        tenant = by.tenant if by.role == "tenant" else None
        seats, booked, idle = self._loop().call(
            lambda state: (
                node_views.node_seats(state, tenant),
                node_views.booked(state, now_s),
                views.fragmentation_view(state),
            )
        )
        shown = [node_views.node_view(seat, booked, read) for seat in seats]
        for view in shown if readings else ():
            view["readings"] = read.node(view["name"])
        return {"nodes": shown, "fragmentation": idle}

    def node(self, node: str, by: Principal) -> Json:
        read, now_s = self._engine.readings(), self._clock.now_s()
        tenant = by.tenant if by.role == "tenant" else None

        def ask(state: ServiceState) -> tuple[node_views.NodeSeat, list[node_views.Booked]]:
            seat = node_views.node_seat(state, machine.known_node(state, node), tenant)
            return seat, node_views.booked(state, now_s)

        return node_views.node_view(*self._loop().call(ask), read) | {"readings": read.node(node)}

    def devices(
        self,
        by: Principal,
        *,
        site: str | None = None,
        node: str | None = None,
        model: str | None = None,
        fields: Sequence[str] | None = None,
    ) -> Json:
        asked = device_views.known_fields(fields)
        tenant = by.tenant if by.role == "tenant" else None
        there = self._loop().call(lambda state: device_views.seats(state, site=site, node=node, tenant=tenant))
        now_s = self._clock.now_s()
        return device_views.devices_view(there, self._engine.readings(), asked, at_s=now_s, model=model)

    def status(self, by: Principal) -> Json:
        loop = self._loop()

        def ask(state: ServiceState) -> Json:
            fragmentation = views.fragmentation_view(state)
            return {
                "epoch": state.epoch,
                "jobs": views.counts(state),
                "nodes": views.node_counts(state),
                "devices": views.device_counts(state),
                "fragmentation": fragmentation,
                "dispatch": loop.tallies.figures(),
                "services": deployment_views.counts_view(state),
            }

        return {
            **self._status_extra,
            **loop.call(ask),
            "agents": list(self._engine.agents()),
            "writes": {of: asdict(figures) for of, figures in self._store.writes().items()},
            "loop": {
                "bugs": loop.bugs,
                "store_error": loop.store_error,
                "backlog": loop.backlog(),
                "pass_s": loop.pass_times.figures(),
            },
        }
