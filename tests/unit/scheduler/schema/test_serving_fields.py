"""The fields of a job file that say what a replica is."""

from __future__ import annotations

import pytest

from node_agent.messages import ProbeSpec, ServingSpec
from scheduler.core.jobs import JobSpec, Probe, Serving
from scheduler.errors import BadInput
from scheduler.ports import Principal
from scheduler.schema.jobfile import job_from_mapping
from scheduler.schema.model import SiteConfig
from scheduler.schema.yaml_source import parse_yaml
from scheduler.service.dispatch import serving_spec
from scheduler.store.encoding import spec_from_text, spec_to_text

MODEL = "name: m\nkind: inference\nmodel: /srv/m.py:M\n"
COMMAND = "name: c\nkind: inference\ncommand: [vllm, serve]\n"
BATCH = "name: b\nkind: batch\ncommand: [/bin/true]\ntime_limit: 1h\n"


def parse(text: str, site: SiteConfig, by: Principal) -> JobSpec:
    document = parse_yaml(text, "job.yaml")
    return job_from_mapping(document.data, source="job.yaml", lines=document.lines, site=site, principal=by)


@pytest.mark.parametrize(
    ("text", "serving"),
    [
        (MODEL, None),
        (MODEL + "batching: {max: 16, max_wait: 5ms}\n", Serving(batch_max=16, batch_wait_s=0.005)),
        (MODEL + "batching: {max_wait: 0}\n", Serving(batch_wait_s=0.0)),
        (MODEL + "liveness: {timeout: 2m}\n", Serving(liveness=Probe(None, 5.0, 120.0))),
        (COMMAND + "port: 8000\n", Serving(port=8000)),
        (COMMAND + "readiness: /health\n", Serving(readiness=Probe("/health", 1.0, 600.0))),
        (
            COMMAND + "readiness: {path: /health, interval: 200ms, timeout: 60s, status: 204}\n",
            Serving(readiness=Probe("/health", 0.2, 60.0, 204)),
        ),
        (
            COMMAND + "liveness: {path: '/live?x=1', interval: 2s, failures: 5}\n",
            Serving(liveness=Probe("/live?x=1", 2.0, 5.0, 200, 5)),
        ),
    ],
)
def test_what_a_replica_is(text: str, serving: Serving | None, site: SiteConfig, operator: Principal) -> None:
    spec = parse(text, site, operator)
    assert spec.serving == serving
    assert spec_from_text(spec_to_text(spec)) == spec  # it survives the store


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BATCH + "port: 8000\n", "port: is for kind inference"),
        (BATCH + "batching: {max: 2}\n", "batching: is for kind inference"),
        (BATCH + "readiness: /health\n", "readiness: is for kind inference"),
        (BATCH + "liveness: /health\n", "liveness: is for kind inference"),
        (MODEL + "port: 8000\n", "port: is for a command that serves by itself"),
        (MODEL + "readiness: /health\n", "readiness: is for a command that serves by itself"),
        (MODEL + "liveness: /health\n", "liveness: of a model only {timeout: DURATION} can be said"),
        (MODEL + "liveness: {timeout: 1m, failures: 2}\n", "liveness.failures: is for a command"),
        (MODEL + "batching: {max: 0}\n", "batching.max"),
        (MODEL + "batching: {max: 1.5}\n", "batching.max"),
        (MODEL + "batching: {max_wait: -1}\n", "batching.max_wait"),
        (MODEL + "batching: {max_wait: 1h}\n", "batching.max_wait"),
        (MODEL + "batching: {most: 3}\n", "batching.most"),
        (COMMAND + "batching: {max: 2}\n", "batching: is for a model"),
        (COMMAND + "port: 80\n", "port: expected"),
        (COMMAND + "port: 65536\n", "port: expected"),
        (COMMAND + "port: http\n", "port: expected"),
        (COMMAND + "readiness: health\n", "readiness.path: expected a path"),
        (COMMAND + "readiness: {path: '/a b'}\n", "readiness.path: expected a path"),
        (COMMAND + 'readiness: {path: "/a\\r\\nX: y"}\n', "readiness.path: expected a path"),
        (COMMAND + "readiness: {interval: 1ms}\n", "readiness.interval: expected"),
        (COMMAND + "readiness: {timeout: 0}\n", "readiness.timeout: expected"),
        (COMMAND + "readiness: {status: 99}\n", "readiness.status: expected"),
        (COMMAND + "readiness: {failures: 3}\n", "readiness.failures"),
        (COMMAND + "liveness: {interval: 1s}\n", "liveness.path: required for a command"),
        (COMMAND + "liveness: {path: /health, failures: 0}\n", "liveness.failures: expected"),
    ],
)
def test_what_is_wrong_is_named(text: str, says: str, site: SiteConfig, operator: Principal) -> None:
    with pytest.raises(BadInput) as caught:
        parse(text, site, operator)
    assert says in str(caught.value.message)


def test_the_node_is_told(site: SiteConfig, operator: Principal) -> None:
    spec = parse(COMMAND + "port: 8000\nreadiness: /health\nslo: {p99_ms: 50}\n", site, operator)
    assert serving_spec(spec) == ServingSpec(8000, ProbeSpec("/health", 1.0, 600.0), slo_ms=50.0)
    assert serving_spec(parse(MODEL, site, operator)) == ServingSpec()
