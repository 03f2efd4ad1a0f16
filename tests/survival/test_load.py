"""Many clients submit at once: each submission is acknowledged, and then runs once, or is cleanly refused."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import aiohttp
import pytest

from tests.integration.instances import eventually
from tests.survival.conftest import Figures
from tests.survival.sites import Site


@pytest.fixture
def site(long_site: Site) -> Site:
    return long_site.emptied()


@pytest.mark.parametrize(
    ("submissions", "clients"), [(500, 50), pytest.param(10_000, 200, marks=pytest.mark.nightly)], ids=["500", "10000"]
)
def test_many_clients_submit_at_once(site: Site, submissions: int, clients: int, figures: Figures) -> None:
    """10,000 in a minute from 200 clients is what must be borne. Most of the jobs are still waiting at the end, and are
    cancelled then.
    """
    site.kill("service")  # its figures are of the passes since its start
    site.is_whole()
    site.run()
    began_s = time.monotonic()
    statuses, acknowledged = asyncio.run(_submit_all(site, submissions, clients))
    figures.saw(f"{submissions} submissions from {clients} clients", time.monotonic() - began_s)
    assert set(statuses) <= {201, 429}, statuses
    assert statuses[201] == len(acknowledged) == len(set(acknowledged)) > 0
    assert statuses.total() == submissions
    passes = site.get("/v1/status")["loop"]["pass_s"]
    figures.saw(f"{submissions} submissions: p99 of the loop's passes", passes["p99_s"])
    figures.saw(f"{submissions} submissions: longest of the loop's passes", passes["longest_s"])
    known = {str(job["id"]) for job in site.get("/v1/jobs?limit=10000")["jobs"]}
    for job_id in set(acknowledged) - known:  # no more are listed at once
        assert site.job(job_id)["id"] == job_id
    eventually(lambda: any(site.ends(job_id) for job_id in acknowledged), within_s=60, what="one of them has run")
    site.cancel_all(within_s=300)
    assert all(len(site.starts(job_id)) <= 1 for job_id in acknowledged)
    ran = [job_id for job_id in acknowledged if site.job(job_id)["state"] == "succeeded"]
    assert all(len(site.ends(job_id)) == 1 for job_id in ran)


async def _submit_all(site: Site, submissions: int, clients: int) -> tuple[Counter[int], list[str]]:
    """Each client sends one submission after another; a refused one counts as answered."""
    started = site.home.started()
    assert started is not None
    headers = {"Authorization": f"Bearer {site.home.operator_token.read_text().strip()}"}
    body = {"job": site.spec("--lasts", "0.05")}
    statuses: Counter[int] = Counter()
    acknowledged: list[str] = []
    left = iter(range(submissions))

    async def client(session: aiohttp.ClientSession) -> None:
        for _ in left:
            async with session.post(f"{started.api}/v1/jobs", json=body) as response:
                statuses[response.status] += 1
                said = await response.json()
                if response.status == 201:
                    acknowledged.extend(str(job["id"]) for job in said["jobs"])
                else:
                    assert said["error"]["message"]

    timeout = aiohttp.ClientTimeout(total=120)
    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return statuses, acknowledged
