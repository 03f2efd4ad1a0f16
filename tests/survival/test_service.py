"""The service is killed at random moments while jobs are submitted, start and end: every acknowledged job runs once."""

from __future__ import annotations

import random
import threading
import time

import pytest

from scheduler.errors import SuanliError, Unavailable
from tests.integration.instances import eventually
from tests.survival.conftest import Figures
from tests.survival.sites import Site


@pytest.fixture
def site(long_site: Site) -> Site:
    return long_site.emptied()


@pytest.mark.parametrize(
    ("jobs", "kills"), [(30, 2), pytest.param(500, 50, marks=pytest.mark.nightly)], ids=["2 kills", "50 kills"]
)
def test_the_service_is_killed_and_every_acknowledged_job_ends_exactly_once(
    site: Site, jobs: int, kills: int, figures: Figures
) -> None:
    chance = random.Random(20261128)
    long_running = site.run(workers=2)
    acknowledged: list[str] = []
    submitting = threading.Thread(target=_submit, args=(site, jobs, random.Random(7), acknowledged))
    submitting.start()
    pause_s = 0.0
    for number in range(kills):
        # Not a synchronisation: the moment of the kill is what is drawn. Never before some more were acknowledged.
        wanted = jobs * number // kills
        eventually(lambda: len(acknowledged) >= wanted, within_s=60, what="jobs are acknowledged")  # noqa: B023
        time.sleep(pause_s)
        pause_s = chance.uniform(0.0, 0.5)
        site.kill("service")
        since_s = time.monotonic()
        site.answers(within_s=60)
        figures.saw("service killed: it answers", time.monotonic() - since_s)
        site.is_whole()
        figures.saw("service killed: all agents are heard again", time.monotonic() - since_s)
    submitting.join(timeout=300)
    assert not submitting.is_alive()
    assert len(set(acknowledged)) == jobs
    for job_id in acknowledged:
        ended = site.ended(job_id, within_s=120)
        assert (ended["state"], ended["attempt"]) == ("succeeded", 1), ended
        assert (len(site.starts(job_id)), len(site.ends(job_id))) == (1, 1), job_id
    site.succeeds_where_it_was(long_running)


def _submit(site: Site, jobs: int, chance: random.Random, acknowledged: list[str]) -> None:
    """One after another, until so many are acknowledged. Of one that was not nobody knows whether it runs."""
    while len(acknowledged) < jobs:
        try:
            acknowledged.extend(site.post(site.spec("--lasts", f"{chance.uniform(0.0, 2.0):.2f}")))
        except (Unavailable, SuanliError):
            time.sleep(0.05)
