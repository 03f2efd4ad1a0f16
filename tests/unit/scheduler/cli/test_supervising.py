"""The supervisor on real processes that are really killed, in a time that the test sets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from scheduler.backoff import FIRST_S
from scheduler.cli.instance import ProcessId, Started
from scheduler.cli.parts import WATCHED
from scheduler.cli.supervising import LONGEST_IF_UP_S, Supervisor
from scheduler.errors import Conflict, Unavailable


class Site:
    """An instance whose parts are processes that sleep."""

    def __init__(self) -> None:
        self.children: list[subprocess.Popen[bytes]] = []
        self.told: list[str] = []
        self.refuse: Exception | None = None
        self.started = Started("", "", "", "", "")
        self.now_s = 100.0
        for name in WATCHED:
            self._start(name)
        self.is_up = False
        self.supervisor = Supervisor(self.start, lambda _name: self.is_up)

    def _start(self, name: str) -> None:
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        self.children.append(child)
        process = ProcessId.of(child.pid)
        assert process is not None
        self.started = replace(self.started, processes={**self.started.processes, name: process})

    def start(self, name: str) -> None:
        self.told.append(name)
        if self.refuse is not None:
            raise self.refuse
        self._start(name)

    def kill(self, name: str) -> None:
        process = self.started.processes[name]
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait_gone(10.0)

    def look(self, after_s: float = 0.0) -> list[str]:
        """What was started by looking after that time."""
        self.now_s += after_s
        self.told.clear()
        self.supervisor.look(self.started, self.now_s)
        return list(self.told)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    for child in made.children:
        child.kill()
        child.wait()


def test_nothing_is_started_while_all_live(site: Site) -> None:
    assert site.look() == site.look(3600.0) == []


@pytest.mark.parametrize("name", WATCHED)
def test_what_ran_for_long_is_started_at_once(site: Site, name: str) -> None:
    site.look()
    site.now_s += 60.0
    site.kill(name)
    assert site.look() == [name]
    assert site.look() == []
    assert site.started.processes[name].alive()


def test_what_dies_soon_after_its_start_rests_first_and_for_longer_each_time(site: Site) -> None:
    site.look()
    for rest_s in (FIRST_S, 2 * FIRST_S, 4 * FIRST_S):
        site.kill("service")
        assert site.look() == []
        assert site.look(rest_s * 0.9) == []
        assert site.look(rest_s * 0.2) == ["service"]
        assert site.look() == []


def test_what_was_up_never_rests_for_long(site: Site) -> None:
    site.is_up = True
    site.look()
    for _ in range(12):
        site.kill("service")
        site.look()
        site.look(LONGEST_IF_UP_S)
        assert site.started.processes["service"].alive()
        site.look()


def test_one_that_rests_holds_up_no_other(site: Site) -> None:
    site.look()
    site.kill("service")
    assert site.look() == []
    site.now_s += FIRST_S / 2
    site.kill("ray")
    site.kill("gateway")
    assert site.look() == []
    assert site.look(FIRST_S * 0.6) == ["service"]
    assert site.look(FIRST_S * 0.6) == ["ray", "gateway"]


def test_while_up_or_down_is_at_work_it_looks_again(site: Site) -> None:
    site.look()
    site.now_s += 60.0
    site.kill("gateway")
    site.refuse = Conflict("at work")
    assert site.look() == site.look(0.1) == ["gateway"]
    site.refuse = None
    assert site.look(0.1) == ["gateway"]
    assert site.look(0.1) == []


def test_a_start_that_fails_is_tried_again_later(site: Site) -> None:
    site.look()
    site.now_s += 60.0
    site.kill("gateway")
    site.refuse = Unavailable("no memory")
    assert site.look() == ["gateway"]
    assert site.look(FIRST_S / 2) == []
    site.refuse = None
    assert site.look(FIRST_S) == ["gateway"]


def test_what_somebody_else_started_meanwhile_is_left_alone(site: Site) -> None:
    site.look()
    site.kill("service")
    assert site.look() == []
    site._start("service")  # `up` did
    assert site.look(10.0) == []
