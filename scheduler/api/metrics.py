"""The service in Prometheus' text format (0.0.4): what `status` says, and what each tenant holds.

Every series of a fixed set is always there, also at 0: one that comes and goes cannot be alerted on. Real and simulated
devices are never added up. What is not known has no line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from node_agent.exporter import label_text
from scheduler.api.job_routes import ENDED, STATES

Labels = Mapping[str, str]
Sample = tuple[str, Labels, float | int | None]


def prometheus_text(
    status: Mapping[str, Any], tenants: Iterable[Mapping[str, Any]], services: Sequence[Mapping[str, Any]] = ()
) -> str:
    """`status` as ServiceControl.status answers it; `tenants` and `services` as its methods of that name list them."""
    lines: list[str] = []
    families = (*_service(status), *_dispatch(status), *_tenants(tenants), *_serving(status["services"], services))
    for name, kind, help_text, samples in families:
        lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
        lines += [
            f"{name}{suffix}{_labels(labels)} {_number(value)}"
            for suffix, labels, value in samples
            if value is not None
        ]
    return "\n".join(lines) + "\n"


Family = tuple[str, str, str, list[Sample]]


def _service(status: Mapping[str, Any]) -> Iterable[Family]:
    loop, passes = status["loop"], status["loop"]["pass_s"]
    yield "suanli_build_info", "gauge", "The running version.", [("", {"version": status["version"]}, 1)]
    yield (
        "suanli_epoch",
        "gauge",
        "Starts of a service on this store so far: who leads now.",
        [("", {}, status["epoch"])],
    )
    live = dict.fromkeys((state for state in STATES if state not in ENDED), 0) | dict(status["jobs"])
    yield "suanli_jobs", "gauge", "Jobs that have not ended, by state.", _by("state", live)
    yield "suanli_nodes", "gauge", "Nodes by state.", _by("state", status["nodes"])
    devices = status["devices"]
    yield (
        "suanli_devices",
        "gauge",
        "Devices on nodes that answer; simulated ones apart.",
        [("", {"kind": kind}, each["total"]) for kind, each in devices.items()],
    )
    yield (
        "suanli_devices_used",
        "gauge",
        "Devices that jobs hold, shares as fractions.",
        [("", {"kind": kind}, each["used_milli"] / 1000) for kind, each in devices.items()],
    )
    yield (
        "suanli_devices_stranded",
        "gauge",
        "Idle devices that typical work could not use, as fractions.",
        [("", {"kind": kind}, each["stranded_milli"] / 1000) for kind, each in status["fragmentation"].items()],
    )
    yield (
        "suanli_loop_pass_seconds",
        "summary",
        "How long the deciding loop's passes take, commit included; quantiles of the last few thousand.",
        [
            ("", {"quantile": "0.5"}, passes["p50_s"]),
            ("", {"quantile": "0.99"}, passes["p99_s"]),
            ("_sum", {}, passes["total_s"]),
            ("_count", {}, passes["count"]),
        ],
    )
    yield "suanli_loop_last_pass_seconds", "gauge", "The newest pass of the loop.", [("", {}, passes["last_s"])]
    yield (
        "suanli_loop_longest_pass_seconds",
        "gauge",
        "The longest pass of the loop since the service was started.",
        [("", {}, passes["longest_s"])],
    )
    yield "suanli_loop_backlog", "gauge", "Events of nodes that were not looked at yet.", [("", {}, loop["backlog"])]
    yield "suanli_bugs_total", "counter", "Unexpected exceptions; see the service's log.", [("", {}, loop["bugs"])]
    yield (
        "suanli_store_writable",
        "gauge",
        "1 while the store takes commits; 0 while nothing can be kept or started.",
        [("", {}, int(loop["store_error"] is None))],
    )
    writes = status["writes"]
    yield (
        "suanli_store_write_seconds",
        "summary",
        "Transactions: the service's own commits, and groups of submissions.",
        [
            (suffix, {"of": of}, each[figure])
            for of, each in writes.items()
            for suffix, figure in (("_sum", "total_s"), ("_count", "count"))
        ],
    )
    yield (
        "suanli_store_longest_write_seconds",
        "gauge",
        "The longest transaction since the service was started.",
        [("", {"of": of}, each["longest_s"]) for of, each in writes.items()],
    )


def _dispatch(status: Mapping[str, Any]) -> Iterable[Family]:
    told = status["dispatch"]
    yield (
        "suanli_jobs_started_total",
        "counter",
        "Attempts of which every worker has started.",
        [("", {}, told["started"])],
    )
    yield (
        "suanli_jobs_requeued_total",
        "counter",
        "Attempts after which the job waits again.",
        [("", {}, told["requeued"])],
    )
    yield "suanli_jobs_ended_total", "counter", "Jobs that have ended, by how.", _by("state", told["ended"])
    yield "suanli_commands_sent_total", "counter", "Commands sent to nodes.", [("", {}, told["commands"])]
    yield (
        "suanli_dispatch_seconds",
        "histogram",
        "From the committed decision to start a job to the news that every worker runs.",
        _histogram(told["starting_s"]),
    )
    yield (
        "suanli_queue_wait_seconds",
        "histogram",
        "From a job's submission to its first start.",
        _histogram(told["waited_s"]),
    )


def _tenants(tenants: Iterable[Mapping[str, Any]]) -> Iterable[Family]:
    rows = [(each["name"], kind, each[kind]) for each in tenants for kind in ("real", "simulated") if each[kind]]
    for name, help_text, figure in (
        ("suanli_tenant_devices_held", "Devices that a tenant's jobs hold, shares as fractions.", "held_milli"),
        ("suanli_tenant_devices_queued", "Devices that a tenant's waiting jobs ask for.", "queued_milli"),
    ):
        samples: list[Sample] = [("", {"tenant": of, "kind": kind}, row[figure] / 1000) for of, kind, row in rows]
        yield name, "gauge", help_text, samples


def _serving(counts: Mapping[str, Any], services: Sequence[Mapping[str, Any]]) -> Iterable[Family]:
    """Versions that serve nothing and have nothing left are passed over."""
    rows = [
        ({"tenant": service["tenant"], "service": service["name"], "version": str(version["number"])}, version)
        for service in services
        for version in service["versions"]
        if version["weight_milli"] or version["replicas_placed"]
    ]
    for name, help_text, figure, scale in (
        ("suanli_service_replicas_wanted", "Replicas that a version is to have.", "replicas_wanted", 1),
        ("suanli_service_replicas_ready", "Replicas that answer.", "replicas_ready", 1),
        ("suanli_service_weight", "The version's part of its service's requests.", "weight_milli", 1000),
    ):
        yield name, "gauge", help_text, [("", labels, row[figure] / scale) for labels, row in rows]
    yield (
        "suanli_service_requests_per_second",
        "gauge",
        "Requests that came to a version in the last minute, refused ones too.",
        [("", labels, row["traffic"]["rate_per_s"]) for labels, row in rows],
    )
    yield (
        "suanli_service_slo_attainment",
        "gauge",
        "The part of a version's answers of the last minute that was within its SLO.",
        [("", labels, row["traffic"]["attainment"]) for labels, row in rows],
    )
    yield "suanli_service_rollouts", "gauge", "Versions that are taking over now.", [("", {}, counts["rollouts"])]
    yield (
        "suanli_service_rollbacks_total",
        "counter",
        "New versions that were given up.",
        [("", {}, counts["rollbacks"])],
    )
    yield (
        "suanli_autoscale_decisions_total",
        "counter",
        "Changes of how many replicas a service is to have, because of its load.",
        [
            ("", {"tenant": service["tenant"], "service": service["name"], "direction": way}, service[f"scaled_{way}"])
            for service in services
            for way in ("up", "down")
            if service["scaled_up"] or service["scaled_down"]
        ],
    )
    yield (
        "suanli_service_evictions_total",
        "counter",
        "Idle services that made room for one that was woken.",
        [("", {}, counts["evictions"])],
    )


def _by(label: str, counts: Mapping[str, int]) -> list[Sample]:
    return [("", {label: name}, count) for name, count in counts.items()]


def _histogram(figures: Mapping[str, Any]) -> list[Sample]:
    buckets: list[Sample] = [
        ("_bucket", {"le": "+Inf" if bound_s is None else f"{bound_s:g}"}, count)
        for bound_s, count in figures["buckets"]
    ]
    return [*buckets, ("_sum", {}, figures["total_s"]), ("_count", {}, figures["count"])]


def _labels(labels: Labels) -> str:
    told = label_text(labels)
    return f"{{{told}}}" if told else ""


def _number(value: float | int) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))
