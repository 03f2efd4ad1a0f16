"""suanli nodes and reservations against a served API: what stands there, what is kept free, and what is said of it."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.control_views import job_view, node_view, worker_view
from tests.fakes.shell_words import rows

if TYPE_CHECKING:
    from tests.unit.scheduler.cli.conftest import Shell


def simulated_node(**more: Any) -> dict[str, Any]:
    node = node_view("h100-0", devices=8, simulated=True, **more)
    for index in (0, 1):
        node["devices"][index] |= {"used_milli": 1000, "jobs": ["7"]}
    node["devices"][2] |= {"used_milli": 250, "jobs": ["8"]}
    return node


def test_nodes_says_what_stands_there_and_never_passes_off_a_simulated_card(shell: Shell) -> None:
    shell.control.node_views["h100-0"] = simulated_node(notes=["runs as one user"])
    header, real, simulated = rows(shell.out("nodes"))
    assert header == ["NODE", "SITE", "STATE", "DEVICES", "USED", "CPUS-FREE", "MEMORY-FREE", "JOBS", "REASON"]
    assert real == ["edge-0", "dongyang-subnode", "ready", "2 x H100 SXM", "0/2", "12/16", "100 GiB", "-", "-"]
    assert simulated[3:5] == ["8 x H100 SXM (simulated)", "2.25/8"]
    assert simulated[7:] == ["7 8", "-"]
    assert ["h100-0", "note", "runs as one user", "-", "-"] in rows(shell.out("nodes", "--reasons"))


def test_what_health_found_is_told_with_what_to_do_and_what_is_not_done(shell: Shell) -> None:
    found = {
        "device": 3,
        "uuid": "GPU-3",
        "rule": "fallen-off-bus",
        "use": "cordoned",
        "jobs": "move",
        "lifts": "reset",
        "reason": "XID 79",
        "advice": "restart the node",
        "since_s": 0.0,
        "undone": "",
    }
    budget = {**found, "device": None, "uuid": None, "rule": "too-few-devices", "undone": "the budget is spent"}
    shell.control.node_views["h100-0"] = simulated_node(health=[found, budget])
    text = shell.out("nodes", "--reasons")
    told = [row[:4] for row in rows(text) if row[0] == "h100-0"]
    assert told[0] == ["h100-0", "cordoned", "device 3: XID 79; restart the node (fallen-off-bus)", "health"]
    assert told[1][1] == "found"
    assert "nothing is done: the budget is spent" in " ".join(text.split())
    assert "device 3: XID 79" in " ".join(shell.out("nodes", "h100-0").split())


def test_one_node_shows_readings_and_why_one_is_missing(shell: Shell) -> None:
    readings = {
        "power_watts": {"value": 412.3, "unit": "watts", "at_s": 1.0, "quality": "simulated"},
        "memory_used_bytes": {"value": 2**30, "unit": "bytes", "at_s": 1.0, "quality": "measured"},
        "clock_megahertz": {"unavailable": "not supported by this device"},
    }
    shell.control.node_views["h100-0"] = simulated_node(readings={"h100-0-0": readings})
    text = shell.out("nodes", "h100-0")
    assert "node:    h100-0 (simulated)" in text
    assert "shares:  advisory: nothing holds a job to its share of a card" in text
    assert "power 412.3 watts (simulated); memory used 1 GiB; no clock: not supported by this device" in text
    assert shell.run("nodes", "nowhere").exit_code == 4


def test_reservations_are_made_listed_and_cancelled(shell: Shell) -> None:
    said = shell.out("reserve", "fans", "--nodes", "edge-0", "--start", "in 2h", "--for", "90m", "--reason", "new fans")
    assert said.startswith("reserved edge-0 for fans: ")
    assert said.endswith("\n  for jobs of operators alone\n")
    (made,) = shell.control.reserved.values()
    assert made["end_s"] - made["start_s"] == 5400
    assert abs(made["start_s"] - time.time() - 7200) < 60
    night = (
        "--count",
        "1",
        "--start",
        "2036-12-01T02:00+08:00",
        "--for",
        "3600",
        "--every",
        "day",
        "--reason",
        "bench",
        "--tenant",
        "film-studio",
        "--tenant",
        "hospital",
    )
    assert shell.out("reserve", "night", *night).endswith(", again every 1d0h\n  for jobs of film-studio, hospital\n")
    assert shell.control.reserved["night"]["start_s"] == 2_111_680_800
    header, first, second = rows(shell.out("reserve", "list"))
    assert header == ["NAME", "STATE", "START", "END", "EVERY", "NODES", "TENANTS", "JOBS", "BY", "REASON"]
    assert (first[0], first[1], first[6], first[-1]) == ("fans", "upcoming", "operators alone", "new fans")
    assert (second[0], *second[4:7]) == ("night", "1d0h", "edge-0", "film-studio, hospital")
    assert (
        shell.run("reserve", "fans", "--nodes", "edge-0", "--start", "now", "--for", "1h", "--reason", "x").exit_code
        == 5
    )
    assert shell.run("reserve", "cancel", "fans").exit_code == 0
    assert shell.run("reserve", "cancel", "fans").exit_code == 4


@pytest.mark.parametrize(
    ("nodes", "waiting", "said"),
    [
        ("edge-0", [], "edge-0 takes any job again\n"),
        (
            "edge-0",
            ["7"],
            "edge-0 takes any job again\n  job 7 still waits for it: cancel it, or reserve anew under that name\n",
        ),
        (
            "edge-0,edge-1",
            ["7", "9"],
            "edge-0, edge-1 take any job again\n"
            "  jobs 7, 9 still wait for it: cancel them, or reserve anew under that name\n",
        ),
    ],
)
def test_cancelling_a_reservation_names_the_jobs_that_wait_for_it(
    shell: Shell, nodes: str, waiting: list[str], said: str
) -> None:
    """A job that runs was once said to wait."""
    shell.control.node_views["edge-1"] = node_view("edge-1")
    shell.out("reserve", "fans", "--nodes", nodes, "--start", "now", "--for", "1h", "--reason", "x")
    shell.control.reserved["fans"] |= {"jobs": ["3", *waiting], "waiting": waiting}
    assert shell.out("reserve", "cancel", "fans") == f"reservation fans is cancelled: {said}"


def test_what_may_be_in_the_way_of_a_reservation_is_said(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    make = shell.control.reserve
    monkeypatch.setattr(
        shell.control,
        "reserve",
        lambda wanted, by: make(wanted, by) | {"running_past_start": ["7", "9"], "waiting": ["4"]},
    )
    said = shell.out("reserve", "fans", "--nodes", "edge-0", "--start", "in 2h", "--for", "1h", "--reason", "x")
    assert "jobs 7, 9 may still run there when it starts: their time limits allow it" in said
    assert "job 4 names it already, and may run there" in said


@pytest.mark.parametrize(
    ("start", "lasts", "said"),
    [
        ("2026-12-01T02:00", "1h", '--start: expected a time with its zone such as "2026-12-01T02:00+08:00", "in 2h"'),
        ("in 2 weeks", "1h", "--start in: expected a duration"),
        ("now", "long", "--for: expected a duration: seconds (90) or text such as"),
    ],
)
def test_times_of_a_reservation_that_are_none(shell: Shell, start: str, lasts: str, said: str) -> None:
    argv = ("reserve", "x", "--nodes", "edge-0", "--start", start, "--for", lasts, "--reason", "r")
    result = shell.run(*argv)
    assert result.exit_code == 2
    assert said in result.stderr


def test_nodes_show_their_reservations_labels_and_partitions(shell: Shell) -> None:
    night = {"name": "night", "start_s": 2e9, "end_s": 2e9 + 3600, "reason": "bench"}
    view = node_view("edge-0", simulated=True, rack="r1", labels={"tier": "gold"}, reservations=[night])
    view["devices"][1] |= {"mig_profile": "1g.10gb", "labels": {"nvlink": "yes"}}
    shell.control.node_views |= {"edge-0": view, "edge-1": node_view("edge-1")}
    header, row, other = rows(shell.out("nodes"))
    assert (header[2], row[2], other[2]) == ("RACK", "r1", "-")
    assert row[4] == "1 x H100 SXM (simulated), 1 x MIG 1g.10gb of H100 SXM (simulated)"
    assert row[-1].startswith("reserved for night, 2033-05-1")
    assert row[-1].endswith(": bench")
    one = shell.out("nodes", "edge-0")
    assert "rack:    r1" in one
    assert "labels:  tier=gold" in one
    (header, *devices) = rows(one)[-3:]
    assert [line[header.index("LABELS")] for line in devices] == ["-", "nvlink=yes"]
    assert "LABELS" not in shell.out("nodes", "edge-1")
    assert rows(shell.out("nodes", "--reasons"))[1][:2] == ["edge-0", "reserved"]


def test_a_service_is_scaled_within_its_bounds(shell: Shell) -> None:
    shell.control.put(job_view("2", name="svc", kind="inference", state="running", workers_min=0, workers_max=4))
    shell.control.views["2"]["workers"] = [worker_view(phase="ready")]
    assert shell.out("scale", "2", "--replicas", "3") == "job 2 (svc) is to have 3: 1/3 placed now\n"
    assert rows(shell.out("queue"))[2][6] == "1/3"
    assert "scaled to:" in shell.out("show", "2")
    assert shell.run("scale", "2", "--replicas", "5").exit_code == 2
    assert shell.run("scale", "2", "--replicas", "-1").exit_code == 2
    assert shell.run("scale", "1", "--replicas", "1").exit_code == 5


def test_show_says_where_and_when(shell: Shell) -> None:
    near = {"within": "rack", "spread": "node", "one_per": None, "apart_from": ["db"]}
    shell.control.put(job_view("1", constraints=near, reservation="night", deadline_s=2e9, preemptions=2))
    text = shell.out("show", "1")
    assert re.search(r"placed: +within one rack, spread over nodes, on no node with db\n", text)
    assert re.search(r"reservation: +night\n", text)
    assert re.search(r"deadline: +2033-05-1", text)
    assert re.search(r"preempted: +2 times\n", text)
