"""What a job file says of a service: how it is scaled by its load, how a new version takes over, its host names."""

from __future__ import annotations

import pytest

from scheduler.core.jobs import Autoscale, Canary, JobSpec
from scheduler.errors import BadInput
from scheduler.ports import Principal
from scheduler.schema.jobfile import job_from_mapping
from scheduler.schema.model import SiteConfig
from scheduler.schema.yaml_source import parse_yaml

SERVICE = "name: s\nkind: inference\nmodel: m.py:M\nworking_dir: /srv\n"
ROOM = SERVICE + "replicas: {min: 0, max: 4}\n"
TRAINING = "name: t\nkind: training\ncommand: [t]\ntime_limit: 1m\n"


def parse(text: str, site: SiteConfig, by: Principal) -> JobSpec:
    document = parse_yaml(text, "job.yaml")
    return job_from_mapping(document.data, source="job.yaml", lines=document.lines, site=site, principal=by)


@pytest.mark.parametrize(
    ("said", "autoscale"),
    [
        ("", None),
        ("autoscale: true\n", Autoscale()),
        ("autoscale: {}\n", Autoscale()),
        ("autoscale: {idle: 10m, concurrency: 8, down_after: 90s}\n", Autoscale(600.0, 8, 90.0)),
    ],
)
def test_autoscale(said: str, autoscale: Autoscale | None, site: SiteConfig, film: Principal) -> None:
    assert parse(ROOM + said, site, film).autoscale == autoscale


@pytest.mark.parametrize(
    ("said", "canary"),
    [
        ("canary: 100\n", Canary((100,))),
        ("canary: [5, 25, 100]\n", Canary((5, 25, 100))),
        ("canary: 5,25,100\n", Canary((5, 25, 100))),
        ("canary: {step: 5m}\n", Canary((100,), 300.0)),
        (
            "canary: {steps: [50, 100], step: 10s, min_requests: 0, ready_within: 1m}\n",
            Canary((50, 100), 10.0, 0, 60.0),
        ),
    ],
)
def test_canary(said: str, canary: Canary, site: SiteConfig, film: Principal) -> None:
    assert parse(SERVICE + said, site, film).canary == canary


def test_hosts_are_kept_once_and_in_lower_case(site: SiteConfig, film: Principal) -> None:
    spec = parse(SERVICE + "hosts: [Detect.example.org, detect.example.org, edge-1]\n", site, film)
    assert spec.hosts == ("detect.example.org", "edge-1")
    assert parse(SERVICE + "hosts: detect\n", site, film).hosts == ("detect",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SERVICE + "autoscale: true\n", "job.yaml:5: autoscale: needs room to scale in: replicas: {min: 1, max: 4}"),
        (SERVICE + "replicas: 2\nautoscale: true\n", "autoscale: needs room to scale in"),
        (ROOM + "autoscale: maybe\n", "job.yaml:6: autoscale: expected true, or a mapping such as {idle: 10m"),
        (
            ROOM + "autoscale: {idel: 10m}\n",
            "autoscale.idel: unknown field; expected one of idle, concurrency, down_after (did you mean idle?)",
        ),
        (ROOM + "autoscale: {idle: soon}\n", "autoscale.idle: expected a duration"),
        (ROOM + "autoscale: {concurrency: 0}\n", "autoscale.concurrency: expected a whole number from 1"),
        (
            SERVICE + "replicas: {min: 1, max: 4}\nautoscale: {idle: 10m}\n",
            "autoscale.idle: is for a service that may have no replica at all: replicas: {min: 0",
        ),
        (SERVICE + "canary: [5, 25]\n", "job.yaml:5: canary: expected per cent of the requests, rising to 100"),
        (SERVICE + "canary: [50, 25, 100]\n", "canary: expected per cent of the requests, rising to 100"),
        (SERVICE + "canary: {steps: [0, 100]}\n", "canary.steps: expected per cent of the requests"),
        (SERVICE + "canary: {steps: 5;100}\n", "canary.steps: expected per cent of the requests"),
        (SERVICE + "canary: [true, 100]\n", "whole numbers from 1 to 100"),
        (SERVICE + "canary: {step: 0}\n", "canary.step: expected a duration"),
        (SERVICE + "hosts: []\n", "hosts: expected a list of 1 to 64 host names"),
        (SERVICE + "hosts: [http://x]\n", "hosts: expected host names such as detect.example.org, without port"),
        (SERVICE + "hosts: [a..b]\n", "hosts: expected host names"),
        (TRAINING + "autoscale: true\n", "autoscale: is for kind inference; leave it out of kind training"),
        (TRAINING + "canary: 100\n", "canary: is for kind inference"),
        (TRAINING + "hosts: a\n", "hosts: is for kind inference"),
    ],
)
def test_bad_ones(text: str, said: str, site: SiteConfig, film: Principal) -> None:
    with pytest.raises(BadInput) as caught:
        parse(text, site, film)
    assert said in caught.value.message, caught.value.message
