"""For all tests: an interrupt interrupts, whoever started the run.

A shell without job control starts what goes to the background with SIGINT ignored, and children inherit that: the tests
that interrupt real processes would then wait for ever.

And hypothesis draws the same examples in every run, so that a run fails for what was changed and not by chance; new
examples are looked for at night (`make nightly` says SUANLI_HYPOTHESIS=searching).
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.fakes.postgres import PostgresServer
from tests.sharing import GROUPS, BySharing, group_of

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes, to draw and to try, is this machine's load and not the code's fault.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("any machine"), derandomize=True)
settings.register_profile("searching", settings.get_profile("any machine"), print_blob=True)
settings.load_profile(os.environ.get("SUANLI_HYPOTHESIS", "repeatable"))

gc.disable()  # while tests are collected: it would look again and again at what stays for the whole run


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()
    gc.enable()
    for group in GROUPS:
        for item in session.items:
            shares = f"tests/{group.directory}/" in item.nodeid and group.fixture in getattr(item, "fixturenames", ())
            if shares and group_of(item.nodeid) != group:
                raise pytest.UsageError(f"{item.nodeid} is in the wrong group: see tests/sharing.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> BySharing | None:
    """None: xdist takes one of its own."""
    return BySharing(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for tests that need a database each and leave the server alone."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """One that the test may kill."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()
