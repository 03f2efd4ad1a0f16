"""Reservations of nodes as the API asks for them: rights, which nodes, the request, the answer."""

from __future__ import annotations

from collections.abc import Callable

from scheduler.ports import Clock, Json, Principal, Reservation, ReservationRequest
from scheduler.service import reserving, views
from scheduler.service.loop import ServiceLoop
from scheduler.service.outcome import ReserveRequested, UnreserveRequested
from scheduler.service.rights import must_be_operator
from scheduler.service.state import ServiceState


class ReservationControl:
    """`loop` is asked for anew each time."""

    def __init__(self, clock: Clock, loop: Callable[[], ServiceLoop]) -> None:
        self._clock = clock
        self._loop = loop

    def all(self, by: Principal) -> Json:
        tenant = by.tenant if by.role == "tenant" else None
        now_s = self._clock.now_s()
        return {"reservations": self._loop().call(lambda state: views.reservation_views(state, now_s, tenant=tenant))}

    def make(self, wanted: ReservationRequest, by: Principal) -> Json:
        must_be_operator(by, "reserve nodes")
        now_s = self._clock.now_s()
        reserving.check_times(wanted.start_s, wanted.end_s, wanted.every_s, now_s)
        nodes = self._loop().call(lambda state: reserving.chosen_nodes(state, wanted))
        made = Reservation(
            name=wanted.name,
            nodes=nodes,
            start_s=wanted.start_s,
            end_s=wanted.end_s,
            reason=wanted.reason,
            by=by.name,
            made_s=now_s,
            every_s=wanted.every_s,
            tenants=wanted.tenants,
        )
        self._loop().request(ReserveRequested(made))
        return self._loop().call(lambda state: views.reservation_view(state, made, now_s))

    def cancel(self, name: str, by: Principal) -> Json:
        must_be_operator(by, "cancel reservations")
        now_s = self._clock.now_s()

        def ask(state: ServiceState) -> Json | None:
            found = state.reservations.get(name)
            return None if found is None else views.reservation_view(state, found, now_s)

        was = self._loop().call(ask)
        self._loop().request(UnreserveRequested(name))
        assert was is not None, name
        return was
