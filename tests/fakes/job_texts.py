"""Jobs as their owners write them, and what becomes of them: a spec, or what is said of their faults."""

from __future__ import annotations

import pytest

from scheduler.core.jobs import JobSpec
from scheduler.errors import BadInput
from scheduler.ports import Principal
from scheduler.schema.jobfile import job_from_mapping
from scheduler.schema.model import SiteConfig
from scheduler.schema.yaml_source import parse_yaml

GOOD = "name: t\nkind: batch\ncommand: [/bin/true]\ntime_limit: 1m\n"
SERVICE = "name: s\nkind: inference\nmodel: m.py:M\nworking_dir: /srv\n"


def parse(text: str, site: SiteConfig, principal: Principal) -> JobSpec:
    document = parse_yaml(text, "job.yaml")
    return job_from_mapping(document.data, source="job.yaml", lines=document.lines, site=site, principal=principal)


def messages(text: str, site: SiteConfig, principal: Principal) -> list[str]:
    with pytest.raises(BadInput) as caught:
        parse(text, site, principal)
    return caught.value.message.splitlines()
