"""Every test here really kills something of one site that all of them share, once in `make test` and ten times over in
`make nightly`; figures that were seen are shown at the end of the run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import median
from typing import Any

import pytest

from tests.survival.sites import FarMachine, Site

_SEEN_S: dict[str, list[float]] = defaultdict(list)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/survival" in str(item.path):
            item.add_marker(pytest.mark.integration)
            item.add_marker(pytest.mark.timeout(3000 if item.get_closest_marker("nightly") else 180))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _SEEN_S:
        return
    terminalreporter.section("survival: seconds seen (nothing is asserted of them)")
    for what, seen_s in _SEEN_S.items():
        counts = f"{len(seen_s)} times, median {median(seen_s):.2f}, longest {max(seen_s):.2f}"
        terminalreporter.write_line(f"{what}: {counts}")


class Figures:
    def saw(self, what: str, seconds: float) -> None:
        _SEEN_S[what].append(seconds)


@pytest.fixture
def figures() -> Figures:
    return Figures()


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
