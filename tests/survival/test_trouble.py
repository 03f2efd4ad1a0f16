"""A full disk, a store that somebody holds, a clock that is set: submission says no with a reason, what runs runs on,
and all is well again without anybody's help.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scheduler.errors import Unavailable
from tests.integration.instances import eventually
from tests.survival.conftest import Figures
from tests.survival.sites import Site, alive, filled


@pytest.fixture
def site(short_site: Site) -> Site:
    return short_site.emptied()


def test_the_store_s_disk_is_full(site: Site, times: int) -> None:
    if site.store_disk is None:
        pytest.skip("only root can mount a small disk for the store to fill")
    for _ in range(times):
        running, ends_meanwhile = site.run(kind="training"), site.run()
        pids = [mark.pid for mark in site.starts(running)]
        with filled(site.store_disk):
            _is_refused(site, "Free some disk space")
            site.finish(ends_meanwhile)
            eventually(lambda: site.ends(ends_meanwhile), within_s=30, what="it ends")  # noqa: B023
            time.sleep(site.lease_s * 1.2)  # not a synchronisation: leases must be renewed for longer than one lasts
            assert alive(pids) == pids
            _is_refused(site, "Free some disk space")
        _recovers(site, running, ends_meanwhile)


def test_somebody_else_holds_the_store(site: Site, times: int, figures: Figures) -> None:
    for _ in range(times):
        running, ends_meanwhile = site.run(kind="training"), site.run()
        holder = sqlite3.connect(site.store_file, isolation_level=None)
        try:
            holder.execute("BEGIN IMMEDIATE")
            site.finish(ends_meanwhile)
            _is_refused(site, "Another process holds the store")
            assert site.job(running)["state"] == "running"  # questions are answered
        finally:
            holder.close()
        since_s = time.monotonic()
        _recovers(site, running, ends_meanwhile)
        figures.saw("store held by another and released: a new job has ended", time.monotonic() - since_s)


@pytest.mark.parametrize("step_s", [-600.0, 600.0], ids=["back", "forward"])
def test_the_clock_is_set(site: Site, step_s: float, times: int) -> None:
    if not site.set_clock(0.0):
        pytest.skip("there is no C compiler to make a clock with that can be set for this site alone")
    service = site.part("service")
    assert "clock.so" in Path(f"/proc/{service.pid}/maps").read_text()
    try:
        for _ in range(times):
            running, ends_meanwhile = site.run(kind="training"), site.run(time_limit="60s")
            site.set_clock(step_s)
            assert abs(_time_of(site) - time.time() - step_s) < 60
            site.can_start_jobs()
            assert site.job(running)["state"] == "running"
            site.finish(ends_meanwhile)
            assert site.ended(ends_meanwhile)["state"] == "succeeded"
            site.set_clock(0.0)
            site.can_start_jobs()
            site.succeeds_where_it_was(running)
    finally:
        site.set_clock(0.0)


def _time_of(site: Site) -> float:
    """What the time is for the site's processes."""
    argv = [sys.executable, "-c", "import time; print(time.time())"]
    return float(subprocess.run(argv, env=site.environment, capture_output=True, check=True).stdout)


def _is_refused(site: Site, reason: str) -> None:
    """Each submission, until the trouble is over: the first may have been in time."""

    def refused() -> str:
        try:
            site.post(site.spec("--lasts", "0"))
        except Unavailable as error:
            return error.message
        return ""

    said = eventually(refused, within_s=30, what="a submission is refused")
    assert reason in said


def _recovers(site: Site, running: str, ends_meanwhile: str) -> None:
    def accepted() -> bool:
        try:
            return site.ended(site.post(site.spec("--lasts", "0"))[0])["state"] == "succeeded"
        except Unavailable:
            return False

    eventually(accepted, within_s=60, what="a submission is accepted again, and runs")
    assert site.ended(ends_meanwhile)["state"] == "succeeded"
    assert len(site.starts(ends_meanwhile)) == 1
    site.succeeds_where_it_was(running)
