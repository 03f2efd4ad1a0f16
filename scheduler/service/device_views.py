"""What is told of every device: where it is, whether it may be used and why not, whose jobs it has, what it reads.

In two steps, as there may be ten thousand: `seats` is what only the thread that owns the state can say, and no more;
what is built of it and of the readings is built by whoever asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from node_agent.devices.quantities import Quantity
from node_agent.health.verdicts import NODE, SEVERITY, Finding, Use
from scheduler.core.demand import WHOLE_DEVICE_MILLI, NodeFacts, Placement
from scheduler.errors import BadInput
from scheduler.ports import Json, ReadingRow, Readings
from scheduler.service.health_book import Acted
from scheduler.service.machine import known_node
from scheduler.service.state import ServiceState
from scheduler.service.views import node_word

MOST_DEVICES = 20_000
DEFAULT_FIELDS: tuple[str, ...] = (
    Quantity.UTILISATION_PERCENT.value,
    Quantity.MEMORY_USED_BYTES.value,
    Quantity.MEMORY_TOTAL_BYTES.value,
    Quantity.POWER_WATTS.value,
    Quantity.TEMPERATURE_CELSIUS.value,
    Quantity.CLOCK_MEGAHERTZ.value,
    Quantity.ENERGY_JOULES.value,
    Quantity.ECC_UNCORRECTED_VOLATILE.value,
    Quantity.FAULTS.value,
)
_FIELDS = frozenset(quantity.value for quantity in Quantity)
SILENT_NODE = "the service has not heard any readings of its node"
SILENT_DEVICE = "its node's agent tells nothing of it"


@dataclass(frozen=True, slots=True)
class Seat:
    """A node as it was at one moment. `held`: (job, tenant, place) of those that may be seen."""

    facts: NodeFacts
    word: str
    acted: Acted
    findings: tuple[Finding, ...]
    held: tuple[tuple[str, str, Placement], ...]


def known_fields(fields: Sequence[str] | None) -> tuple[str, ...]:
    """Each once; None: what is shown where nothing is asked for. Raises BadInput."""
    if not fields:
        return DEFAULT_FIELDS
    for name in fields:
        if name not in _FIELDS:
            raise BadInput(
                f"devices have no reading called {name[:80]!r}; there are {', '.join(sorted(_FIELDS))}", field="fields"
            )
    return tuple(dict.fromkeys(fields))


def seats(
    state: ServiceState, *, site: str | None = None, node: str | None = None, tenant: str | None = None
) -> list[Seat]:
    """By node. `tenant`: whose jobs alone may be seen. Raises NotFound for a `node` that is not known."""
    if node is not None:
        known = [known_node(state, node)]
    else:
        known = sorted(state.nodes.values(), key=lambda status: status.name)
    found = []
    for status in known:
        facts = status.facts
        if facts is None or (site is not None and facts.site != site):
            continue
        held = tuple(
            (job_id, job.spec.tenant, place)
            for job_id, place in state.cluster.placements_on(status.name)
            if (job := state.jobs.get(job_id)) is not None and (tenant is None or job.spec.tenant == tenant)
        )
        health = state.health
        found.append(
            Seat(facts, node_word(state, status), health.on(status.name), health.found.get(status.name, ()), held)
        )
    return found


def devices_view(
    there: Sequence[Seat],
    readings: Readings,
    fields: Sequence[str],
    *,
    at_s: float,
    model: str | None = None,
    most: int = MOST_DEVICES,
) -> Json:
    """`model`: only devices of this one, however it is capitalised. Of more than `most` the rest is left out."""
    told = readings.rows([seat.facts.name for seat in there], fields)
    wanted = None if model is None else model.casefold()
    shown: list[Json] = []
    truncated = False
    for seat in there:
        rows = told.get(seat.facts.name)
        views = _seat_views(seat, rows, fields, wanted)
        if len(shown) + len(views) > most:
            shown += views[: most - len(shown)]
            truncated = True
            break
        shown += views
    return {"at_s": at_s, "fields": list(fields), "devices": shown, "truncated": truncated}


def _seat_views(
    seat: Seat, rows: Mapping[str, ReadingRow] | None, fields: Sequence[str], model: str | None
) -> list[Json]:
    facts = seat.facts
    jobs = _jobs_by_device(seat)
    unread = _unread(fields, SILENT_NODE if rows is None else SILENT_DEVICE)
    healthy = not seat.findings and seat.acted.whole is None and not seat.acted.barred
    views = []
    for device in facts.devices:
        if model is not None and device.model.casefold() != model:
            continue
        row = unread if rows is None else rows.get(device.uuid, unread)
        use, reason = ("schedulable", "") if healthy else _health(seat, device.index, device.uuid)
        views.append(
            {
                "node": facts.name,
                "site": facts.site,
                "rack": facts.rack,
                "index": device.index,
                "uuid": device.uuid,
                "model": device.model,
                "vendor": device.vendor,
                "simulated": device.simulated,
                "node_state": seat.word,
                "use": use,
                "reason": reason,
                "jobs": jobs.get(device.index, []),
                "quality": row.quality,
                "read_at_s": row.read_at_s,
                "values": row.values,
                "unavailable": row.unavailable,
            }
        )
    return views


def _unread(fields: Sequence[str], why: str) -> ReadingRow:
    return ReadingRow([None] * len(fields), dict.fromkeys(fields, why), None, None)


def _jobs_by_device(seat: Seat) -> dict[int, list[Json]]:
    """Several workers of one job on a device are one entry, with what they hold together."""
    found: dict[int, dict[str, Json]] = {}
    for job_id, tenant, place in seat.held:
        for index in place.devices:
            entry = found.setdefault(index, {}).setdefault(job_id, {"id": job_id, "tenant": tenant, "share_milli": 0})
            entry["share_milli"] += place.share_milli or WHOLE_DEVICE_MILLI
    return {index: list(of.values()) for index, of in found.items()}


def _health(seat: Seat, index: int, uuid: str) -> tuple[str, str]:
    """What the device may be used for by health's word, and the reason. Where nothing is done (for it is only told, or
    the budget is spent), the reason of the worst that is found."""
    done = seat.acted.whole
    if index in seat.acted.barred:
        barred = seat.acted.barred[index][1]
        if done is None or SEVERITY[barred.use] > SEVERITY[done.use]:
            done = barred
    if done is not None:
        return done.use.value, done.reason
    about = [finding for finding in seat.findings if finding.device in (NODE, uuid)]
    worst = max(about, key=lambda finding: (SEVERITY[finding.use], -finding.since_s), default=None)
    return Use.SCHEDULABLE.value, "" if worst is None else worst.reason
