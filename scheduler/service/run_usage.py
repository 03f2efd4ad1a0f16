"""What a run that ended used, as it is shown; and where no energy of it is known, why that is so."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence

from scheduler.core.cluster import CPU_VENDOR
from scheduler.core.usage_records import UsageRecord
from scheduler.ports import Json
from scheduler.service.state import ServiceState


def shown(
    records: Sequence[UsageRecord], ask: Callable[[Callable[[ServiceState], frozenset[str]]], frozenset[str]]
) -> list[Json]:
    """The records as they are shown; `ask` runs a question about the state where the state may be looked at."""
    of_cpus = ask(lambda state: cpu_nodes(state, records)) if records else frozenset()
    return [usage_view(record, of_cpus) for record in records]


def cpu_nodes(state: ServiceState, records: Iterable[UsageRecord]) -> frozenset[str]:
    """Of the nodes of these records those whose devices are CPU cores: no record says so itself."""
    found = set()
    for node in {record.node for record in records}:
        status = state.nodes.get(node)
        devices = () if status is None or status.facts is None else status.facts.devices
        if devices and all(device.vendor == CPU_VENDOR for device in devices):
            found.add(node)
    return frozenset(found)


def why_no_energy(record: UsageRecord, of_cpus: Collection[str] = ()) -> str | None:
    """None where its joules are known."""
    if record.use is not None and record.use.joules is not None:
        return None
    if not record.devices:
        return "it held no device; the energy of processors is not metered"
    if record.node in of_cpus:
        return "CPU devices have no power meter"
    if record.share_milli:
        return "of a shared device nobody can say whose the energy was"
    if record.use is None and record.end == "unseen":
        return "nobody saw its end, and the node has not told since"
    return "its devices told no energy while it ran"


def usage_view(record: UsageRecord, of_cpus: Collection[str] = ()) -> Json:
    return {
        "attempt": record.attempt,
        "worker": record.worker,
        "node": record.node,
        "devices": list(record.devices),
        "share_milli": record.share_milli,
        "simulated": record.simulated,
        "from_s": record.from_s,
        "to_s": record.to_s,
        "seconds": record.seconds,
        "device_seconds": record.device_seconds,
        "end": record.end,
        "cause": record.cause,
        "site": record.site,
        "models": list(record.models),
        "use": None if record.use is None else dataclasses.asdict(record.use),
        "unmetered_s": record.unmetered_s,
        "no_energy": why_no_energy(record, of_cpus),
        "achieved": [dataclasses.asdict(each) for each in record.achieved],
    }
