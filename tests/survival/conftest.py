"""Every test here really kills something, most of them of one of two sites that they share, once in `make test` and ten
times over in `make nightly`; figures that were seen are shown at the end of the run.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from statistics import median
from typing import Any

import pytest

from tests.survival.sites import LONG_LEASE_S, SHORT_LEASE_S, FarMachine, Site

SEEN_S = "seconds seen"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/survival" in str(item.path):
            item.add_marker(pytest.mark.integration)
            item.add_marker(pytest.mark.timeout(3000 if item.get_closest_marker("nightly") else 180))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    all_seen_s: dict[str, list[float]] = defaultdict(list)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "teardown":
                for name, seen in report.user_properties:
                    if name == SEEN_S:
                        all_seen_s[seen[0]].append(seen[1])
    if not all_seen_s:
        return
    terminalreporter.section("survival: seconds seen (nothing is asserted of them)")
    for what, seen_s in all_seen_s.items():
        counts = f"{len(seen_s)} times, median {median(seen_s):.2f}, longest {max(seen_s):.2f}"
        terminalreporter.write_line(f"{what}: {counts}")


class Figures:
    """They go with the test's report, which may be made in another process than the summary."""

    def __init__(self, test: pytest.Item) -> None:
        self._test = test

    def saw(self, what: str, seconds: float) -> None:
        self._test.user_properties.append((SEEN_S, [what, seconds]))


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    return Figures(request.node)


@pytest.fixture(params=[1, pytest.param(10, marks=pytest.mark.nightly)], ids=["once", "ten times"])
def times(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="session")
def short_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """For tests that wait until a lease is over."""
    with _up(tmp_path_factory, SHORT_LEASE_S) as made:
        yield made


@pytest.fixture(scope="session")
def long_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """For tests of what comes back before any lease is over, however busy the machine is."""
    with _up(tmp_path_factory, LONG_LEASE_S) as made:
        yield made


@contextlib.contextmanager
def _up(tmp_path_factory: pytest.TempPathFactory, lease_s: float) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"), lease_s)
    try:
        made.up()
        yield made
        made.down()
    finally:
        made.suanli("down", "--grace", "0")
        made.discard()


@pytest.fixture(scope="session")
def shared_far(short_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarMachine]:
    short_site.is_whole()
    made = FarMachine(short_site, tmp_path_factory.mktemp("far"))
    try:
        made.join()
        yield made
    finally:
        made.discard()
