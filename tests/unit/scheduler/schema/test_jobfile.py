"""Job files: what a good one becomes, and that anything at all becomes a spec or a fault that is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.demand import Constraints, Demand, Level
from scheduler.core.jobs import Checkpoint, JobKind, JobSpec, Misfire, ModelRef, Recurrence
from scheduler.errors import BadInput
from scheduler.ports import Principal
from scheduler.schema.job_models import JobShape, ResourcesShape
from scheduler.schema.jobfile import check_shape, job_from_file, job_from_mapping, resolve_paths
from scheduler.schema.model import SiteConfig
from tests.fakes.examples import examples
from tests.fakes.job_texts import GOOD, SERVICE, parse

# ---- good ones ---------------------------------------------------------------------------------------------------


def test_defaults(site: SiteConfig, film: Principal) -> None:
    assert parse(GOOD, site, film) == JobSpec(
        name="t",
        tenant="film-studio",
        kind=JobKind.BATCH,
        priority_class="normal",
        priority=300,
        command=("/bin/true",),
        model=None,
        workers_min=1,
        workers_max=1,
        alternatives=(Demand(devices=1, cpus_milli=1000),),
        time_limit_s=60.0,
    )


def test_every_field(site: SiteConfig, operator: Principal) -> None:
    spec = parse(
        """
name: train-7
tenant: hospital
kind: training
priority_class: public-safety
command: "python train.py | tee log"
workers: {min: 2, max: 8}
resources:
  - {device: h100 sxm, count: 2, cpus: 1.5, memory: 2GiB, simulated: true, site: dongyang-subnode}
  - {device: NVIDIA, share: 0.25, node: n-1}
  - {device: cpu}
  - {device: none, cpus: 4}
time_limit: 2h30m
retries: 3
checkpoint: {dir: ckpt/../out, grace: 45s}
env: {LR: 0.001, STEPS: 60, NAME: a b}
working_dir: /srv/train/.
array: {count: 10, limit: 3}
after: [7, "8.2", 7]
after_any: 9
slo: null
""",
        site,
        operator,
    )
    assert spec == JobSpec(
        name="train-7",
        tenant="hospital",
        kind=JobKind.TRAINING,
        priority_class="public-safety",
        priority=700,
        command=("/bin/sh", "-c", "python train.py | tee log"),
        model=None,
        workers_min=2,
        workers_max=8,
        alternatives=(
            Demand(None, "H100 SXM", 2, 0, 1500, 2 << 30, True, None, "dongyang-subnode"),
            Demand("nvidia", None, 0, 250, 1000, 0, False, "n-1", None),
            Demand("cpu", None, 1),
            Demand(None, None, 0, 0, 4000),
        ),
        time_limit_s=9000.0,
        retries=3,
        checkpoint=Checkpoint("/srv/train/out", 45.0),
        env=(("LR", "0.001"), ("STEPS", "60"), ("NAME", "a b")),
        working_dir="/srv/train",
        array_size=10,
        array_limit=3,
        after=("7", "8.2"),
        after_any=("9",),
    )


def test_where_and_when(site: SiteConfig, film: Principal) -> None:
    spec = parse(
        GOOD
        + """
deadline: 6h
within: rack
spread: node
one_per: island
apart_from: [db-a, db-b, db-a]
reservation: night-1
resources:
  - {device: H100 SXM, labels: {tier: gold, cooling: liquid}, device_labels: {hbm: "80"}, mig: 1g.10gb}
""",
        site,
        film,
    )
    assert spec.constraints == Constraints(Level.RACK, Level.NODE, Level.ISLAND, ("db-a", "db-b"))
    assert (spec.deadline_after_s, spec.deadline_at_s, spec.reservation) == (21_600.0, None, "night-1")
    (demand,) = spec.alternatives
    assert demand.node_labels == (("cooling", "liquid"), ("tier", "gold"))
    assert (demand.device_labels, demand.mig_profile) == ((("hbm", "80"),), "1g.10gb")


@pytest.mark.parametrize(
    ("written", "after_s", "at_s"),
    [
        ("90", 90.0, None),
        ("2d", 172_800.0, None),
        ("2026-12-01T02:00+08:00", None, 1_796_061_600.0),
        ("2026-11-30T18:00:00Z", None, 1_796_061_600.0),
        ("'2026-11-30 18:00+00:00'", None, 1_796_061_600.0),
    ],
)
def test_deadlines(written: str, after_s: float | None, at_s: float | None, site: SiteConfig, film: Principal) -> None:
    spec = parse(GOOD + f"deadline: {written}\n", site, film)
    assert (spec.deadline_after_s, spec.deadline_at_s) == (after_s, at_s)


def test_an_elastic_training_job_and_a_service_that_may_be_scaled_to_nothing(site: SiteConfig, film: Principal) -> None:
    text = GOOD.replace("batch", "training")
    spec = parse(text + "workers: {min: 2, max: 8}\n", site, film)
    assert (spec.workers_min, spec.workers_max) == (2, 8)
    service = parse(SERVICE + "replicas: {min: 0, max: 3}\n", site, film)
    assert (service.workers_min, service.workers_max) == (0, 3)


def test_a_service_needs_no_time_limit_and_counts_replicas(site: SiteConfig, operator: Principal) -> None:
    spec = parse(SERVICE + "replicas: {min: 2, max: 4}\nslo: {p99_ms: 200}\n", site, operator)
    assert (spec.model, spec.command) == (ModelRef("m.py", "M"), None)
    assert (spec.workers_min, spec.workers_max, spec.time_limit_s, spec.slo_p99_ms) == (2, 4, None, 200.0)


@pytest.mark.parametrize(
    "name",
    [
        "training",
        "inference",
        "batch",
        "benchmark",
        "array",
        "alternatives",
        "nightly",
        "nightly-benchmark",
        "openai-style",
    ],
)
def test_the_shipped_examples_are_good(name: str, repository: Path, site: SiteConfig, film: Principal) -> None:
    path = repository / "configs" / "jobs" / f"{name}.yaml"
    data, lines = job_from_file(path)
    check_shape(data, str(path), lines)
    drones = Principal("fleet", "drone-operator", "tenant", "low-altitude")
    spec = job_from_mapping(resolve_paths(data, repository), source=str(path), lines=lines, site=site, principal=drones)
    assert spec.working_dir == str(repository)
    # The same job as JSON, as it travels to the API, is the same spec.
    travelled = json.loads(json.dumps(resolve_paths(data, repository)))
    assert job_from_mapping(travelled, source="job", lines=None, site=site, principal=drones) == spec


def test_a_schedule_in_short_and_at_length(site: SiteConfig, operator: Principal) -> None:
    short = parse(GOOD + 'schedule: "0  2 * * *"\n', site, operator)
    assert short.schedule == Recurrence("0 2 * * *", site.time_zone, Misfire.ONCE)
    long = parse(GOOD + 'schedule: {cron: "0 2 * * 1-5", zone: Asia/Shanghai, misfire: skip}\n', site, operator)
    assert long.schedule == Recurrence("0 2 * * 1-5", "Asia/Shanghai", Misfire.SKIP)
    assert parse(GOOD, site, operator).schedule is None


# ---- anything at all ---------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.booleans().map(lambda _: 10**5000),  # longer than Python prints
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["any", "none", "H100 SXM", "training", "inference", "1m", "2GiB", "a.py:A", "normal", "/d", "\ud800"]
    ),
)
FIELDS = st.sampled_from(
    [*JobShape.model_fields, *ResourcesShape.model_fields, "dir", "grace", "signal", "p99_ms", "min", "max"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(FIELDS, st.text(max_size=5)), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=examples(150), deadline=None)
@given(extra=st.dictionaries(FIELDS, VALUES, max_size=6), anything=VALUES)
def test_any_data_gives_a_spec_or_bad_input(
    site: SiteConfig, operator: Principal, extra: dict[str, Any], anything: Any
) -> None:
    good = {"name": "t", "kind": "batch", "command": ["/bin/true"], "time_limit": 60}
    for data in ({**good, **extra}, anything):
        said = "a job"
        try:
            spec = job_from_mapping(data, source="job", lines=None, site=site, principal=operator)
            assert isinstance(spec, JobSpec)
            hash(spec)
        except BadInput as error:
            said = error.message
        assert said.encode()  # an operator's terminal can show it


@settings(max_examples=examples(100), deadline=None)
@given(st.text(alphabet=st.one_of(st.sampled_from("abn: -[]{},&*!'\"\n0179.\\"), st.characters()), max_size=40))
def test_any_text_after_a_good_job_gives_a_spec_or_bad_input(site: SiteConfig, operator: Principal, text: str) -> None:
    said = "a job"
    try:
        assert isinstance(parse(GOOD + text, site, operator), JobSpec)
    except BadInput as error:
        said = error.message
    assert said


def test_data_nested_without_end_is_refused(site: SiteConfig, operator: Principal) -> None:
    data: Any = {}
    for _ in range(5000):
        data = {"resources": [data]}
    with pytest.raises(BadInput, match="nested more than"):
        job_from_mapping(data, source="job", lines=None, site=site, principal=operator)


@pytest.mark.parametrize(
    ("written", "signal", "kill_wait_s"),
    [
        ("", "SIGUSR1", 5.0),
        (", signal: SIGUSR2", "SIGUSR2", 5.0),
        (", signal: usr2, kill_wait: 0.5s", "SIGUSR2", 0.5),
        (", signal: TERM, kill_wait: 1m", "SIGTERM", 60.0),
    ],
)
def test_a_job_says_how_it_is_asked_to_save(
    written: str, signal: str, kill_wait_s: float, site: SiteConfig, operator: Principal
) -> None:
    spec = parse(GOOD + f"checkpoint: {{dir: /c{written}}}\n", site, operator)
    assert spec.checkpoint == Checkpoint("/c", 30.0, signal, kill_wait_s)
