"""What the service needs of the world, as protocols: a store, an engine, a gateway to steer, a clock.

`scheduler.service` knows these and nothing behind them; `store`, `engine` and `gateway` implement them; the simulator
gives simulated ones. What the API and the CLI may ask of a running service is `ServiceControl`.

One file a port; others import from here.
"""

from scheduler.ports.clock import Clock
from scheduler.ports.control import Principal, ReservationRequest, Role, ServiceControl
from scheduler.ports.edge import Json
from scheduler.ports.engine import Engine, EngineEvent, NodeDown, NodeUp, RunEvent, node_facts
from scheduler.ports.gateway import GatewayControl, Replica, Route, ServiceLoad
from scheduler.ports.readings import NoReadings, ReadingRow, Readings
from scheduler.ports.store import (
    Change,
    ClosedMonth,
    Drain,
    HealthNotes,
    NextTime,
    Reservation,
    Schedule,
    ServedDay,
    Store,
    StoredEvent,
    Submission,
    Usage,
    WriteFigures,
    no_time,
    task_ids,
)

__all__ = [
    "Change",
    "Clock",
    "ClosedMonth",
    "Drain",
    "Engine",
    "EngineEvent",
    "GatewayControl",
    "HealthNotes",
    "Json",
    "NextTime",
    "NoReadings",
    "NodeDown",
    "NodeUp",
    "Principal",
    "ReadingRow",
    "Readings",
    "Replica",
    "Reservation",
    "ReservationRequest",
    "Role",
    "Route",
    "RunEvent",
    "Schedule",
    "ServedDay",
    "ServiceControl",
    "ServiceLoad",
    "Store",
    "StoredEvent",
    "Submission",
    "Usage",
    "WriteFigures",
    "no_time",
    "node_facts",
    "task_ids",
]
