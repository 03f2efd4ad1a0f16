"""Every test here really kills something, most of them of one site that they share, once in `make test` and ten times
over in `make nightly`; figures that were seen are shown at the end of the run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import median
from typing import Any

import pytest

from tests.survival.sites import FarMachine, Site

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
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    try:
        made.up()
        yield made
        made.down()
    finally:
        made.suanli("down", "--grace", "0")
        made.discard()


@pytest.fixture
def site(shared_site: Site) -> Site:
    """Whole, and empty: a test that failed has left nothing to the next one."""
    shared_site.is_whole()
    shared_site.cancel_all()
    return shared_site


@pytest.fixture(scope="session")
def shared_far(shared_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarMachine]:
    shared_site.is_whole()
    made = FarMachine(shared_site, tmp_path_factory.mktemp("far"))
    try:
        made.join()
        yield made
    finally:
        made.discard()


@pytest.fixture
def far(site: Site, shared_far: FarMachine) -> FarMachine:
    """The second machine, ready; a test that takes it out brings it back."""
    shared_far.is_ready()
    return shared_far
