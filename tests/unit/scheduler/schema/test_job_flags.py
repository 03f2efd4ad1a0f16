"""Flags of `suanli submit` give the mapping that a job file would hold, and lie over one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scheduler.errors import BadInput
from scheduler.ports import Principal
from scheduler.schema.jobfile import check_shape, job_from_mapping, mapping_from_flags, overlay, resolve_paths
from scheduler.schema.model import SiteConfig
from scheduler.schema.yaml_source import parse_yaml


@pytest.mark.parametrize(
    ("flags", "mapping"),
    [
        (
            {"command": ["python", "src/train.py", "--steps", "60"], "time_limit": "90"},
            {
                "command": ["python", "src/train.py", "--steps", "60"],
                "time_limit": 90,
                "kind": "batch",
                "name": "train.py",
            },
        ),
        ({"shell": "echo hi"}, {"command": "echo hi", "kind": "batch", "name": "shell"}),
        ({"command": ["/usr/bin/ls"]}, {"command": ["/usr/bin/ls"], "kind": "batch", "name": "ls"}),
        ({"model": "m.py:Net"}, {"model": "m.py:Net", "kind": "inference", "name": "Net"}),
        (
            {"name": "n", "kind": "training", "workers": "2-4", "count": "2", "share": None, "cpus": "0.5"},
            {"name": "n", "kind": "training", "workers": {"min": 2, "max": 4}, "resources": {"count": 2, "cpus": 0.5}},
        ),
        (
            {"name": "n", "kind": "batch", "env": ["A=1", "B=x=y"], "after": ["7", "8.1"], "memory": "2GiB"}
            | {"after_any": ["9"]},
            {
                "name": "n",
                "kind": "batch",
                "env": {"A": "1", "B": "x=y"},
                "after": ["7", "8.1"],
                "after_any": ["9"],
                "resources": {"memory": "2GiB"},
            },
        ),
        (
            {"name": "n", "kind": "batch", "checkpoint_dir": "c", "grace": "30s", "simulated": True, "array": "3"},
            {
                "name": "n",
                "kind": "batch",
                "checkpoint": {"dir": "c", "grace": "30s"},
                "resources": {"simulated": True},
                "array": 3,
            },
        ),
        (
            {"name": "n", "kind": "batch", "array": "1000%50"},
            {"name": "n", "kind": "batch", "array": {"count": 1000, "limit": 50}},
        ),
        (
            {"name": "n", "kind": "batch", "schedule": "0 2 * * *", "zone": "UTC"},
            {"name": "n", "kind": "batch", "schedule": {"cron": "0 2 * * *", "zone": "UTC"}},
        ),
        (
            {"name": "n", "kind": "batch", "deadline": "6h", "within": "rack", "spread": "node", "one_per": "island"}
            | {"apart_from": ["a", "b"], "reservation": "night", "labels": ["tier=gold"], "mig": "1g.10gb"}
            | {"device_labels": ["hbm=80"]},
            {
                "name": "n",
                "kind": "batch",
                "resources": {"labels": {"tier": "gold"}, "device_labels": {"hbm": "80"}, "mig": "1g.10gb"},
                "deadline": "6h",
                "within": "rack",
                "spread": "node",
                "one_per": "island",
                "apart_from": ["a", "b"],
                "reservation": "night",
            },
        ),
    ],
)
def test_flags_as_a_mapping(flags: dict[str, Any], mapping: dict[str, Any]) -> None:
    assert mapping_from_flags(**flags) == mapping


def test_flags_and_file_give_the_same_job(site: SiteConfig, film: Principal) -> None:
    flags = mapping_from_flags(
        name="t", command=["/bin/true"], workers="2", device="H100 SXM", count="1", simulated=True, time_limit="1h"
    )
    document = parse_yaml(
        "name: t\nkind: batch\ncommand: [/bin/true]\nworkers: 2\ntime_limit: 1h\n"
        "resources: {device: H100 SXM, count: 1, simulated: true}\n",
        "j",
    )
    specs = [
        job_from_mapping(resolve_paths(data, Path("/w")), source="j", lines=None, site=site, principal=film)
        for data in (flags, document.mapping())
    ]
    assert specs[0] == specs[1]


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ({"env": ["A"]}, "flags: env: expected NAME=VALUE; got 'A'"),
        ({"env": ["A=1", "A=2"]}, "flags: env.A: is given twice"),
        ({"command": ["x"], "shell": "y"}, "flags: command: expected either a command after --"),
    ],
)
def test_bad_flags(flags: dict[str, Any], part: str) -> None:
    with pytest.raises(BadInput) as caught:
        mapping_from_flags(**flags)
    assert part in caught.value.message


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ({"workers": "two"}, "flags: workers: expected a whole number"),
        ({"workers": "4-2"}, "flags: workers.max: expected at least min, which is 4"),
        ({"count": "0"}, "flags: resources.count: expected a whole number"),
        ({"share": "1.5"}, "flags: resources.share: expected a share"),
        ({"time_limit": "soon"}, "flags: time_limit: expected a duration"),
        ({"retries": "-1"}, "flags: retries: expected a whole number"),
    ],
)
def test_values_of_flags_are_judged_as_in_a_file(flags: dict[str, Any], part: str) -> None:
    given = {"command": ["/bin/true"], "time_limit": "1m"} | flags
    with pytest.raises(BadInput) as caught:
        check_shape(mapping_from_flags(**given), "flags", None)
    assert part in caught.value.message


FILE = """name: t
kind: training
command: [/bin/true]
time_limit: 1m
resources: {device: any, count: 2, cpus: 4}
"""


def test_flags_lie_over_a_file() -> None:
    document = parse_yaml(FILE, "j.yaml")
    flags = mapping_from_flags(device="H100 SXM", share="0.5", workers="3", time_limit="5m", defaults=False)
    data, _ = overlay(document.mapping(), document.lines, flags)
    assert data == {
        "name": "t",
        "kind": "training",
        "command": ["/bin/true"],
        "time_limit": "5m",
        "workers": 3,
        "resources": {"device": "H100 SXM", "share": 0.5, "cpus": 4},
    }
    assert document.mapping()["time_limit"] == "1m"


def test_a_fault_of_a_flag_is_not_blamed_on_a_line_of_the_file() -> None:
    document = parse_yaml(FILE + "retries: -1\n", "j.yaml")
    flags = mapping_from_flags(time_limit="soon", cpus="-1", defaults=False)
    data, lines = overlay(document.mapping(), document.lines, flags)
    with pytest.raises(BadInput) as caught:
        check_shape(data, "j.yaml", lines)
    starts = [line.split(" expected")[0] for line in caught.value.message.splitlines()]
    assert starts == ["j.yaml: resources.cpus:", "j.yaml: time_limit:", "j.yaml:6: retries:"]


def test_a_command_replaces_a_model() -> None:
    data, _ = overlay({"model": "m.py:M"}, {}, mapping_from_flags(command=["x"], defaults=False))
    assert data == {"command": ["x"]}


def test_a_flag_cannot_choose_among_alternatives() -> None:
    with pytest.raises(BadInput, match="flags: resources: the job file lists alternatives"):
        overlay({"resources": [{}, {}]}, {}, mapping_from_flags(device="any", defaults=False))
