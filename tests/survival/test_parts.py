"""The parts of an instance die: service, gateway, Ray's head in all ways, the supervisor, an agent, a launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scheduler.engine.keeper import environment_of
from tests.integration.instances import demand, eventually
from tests.survival.conftest import Figures
from tests.survival.sites import SIMULATED, Site, alive


@pytest.fixture
def site(long_site: Site) -> Site:
    return long_site.emptied()


def _since(since_s: float) -> float:
    return time.monotonic() - since_s


def test_ray_s_head_is_killed_and_jobs_agents_and_acknowledged_work_are_there_when_it_is_back(
    site: Site, times: int, figures: Figures
) -> None:
    for _ in range(times):
        _ray_s_head_is_killed_and_jobs_agents_and_acknowledged_work_are_there_when_it_is_back(site, figures)


def _ray_s_head_is_killed_and_jobs_agents_and_acknowledged_work_are_there_when_it_is_back(
    site: Site, figures: Figures
) -> None:
    running, ends_meanwhile = site.run(workers=2), site.run()
    service, agent = site.part("service"), site.agent(SIMULATED)["pid"]
    gcs = site.ray_process("gcs_server")
    since_s = time.monotonic()
    gcs.signal(signal.SIGKILL)
    assert gcs.wait_gone(5)
    waiting = site.post(site.spec("--lasts", "0"), site.spec("--lasts", "0", resources=demand(count=4)))
    site.finish(ends_meanwhile)
    again = site.ray_process("gcs_server")
    assert again != gcs
    for job_id in (ends_meanwhile, *waiting):
        assert site.ended(job_id)["state"] == "succeeded"
        assert len(site.starts(job_id)) == 1
    figures.saw("GCS killed: jobs submitted meanwhile have ended", _since(since_s))
    assert site.part("service") == service
    assert site.agent(SIMULATED)["pid"] == agent
    # What needs the GCS works again too: an agent that dies is started anew.
    os.kill(agent, signal.SIGKILL)
    eventually(lambda: site.agent(SIMULATED)["pid"] != agent, within_s=60, what="a new agent")
    site.succeeds_where_it_was(running)


def test_the_head_s_raylet_is_killed_and_its_jobs_are_found_again(site: Site, times: int, figures: Figures) -> None:
    for _ in range(times):
        _the_head_s_raylet_is_killed_and_its_jobs_are_found_again(site, figures)


def _the_head_s_raylet_is_killed_and_its_jobs_are_found_again(site: Site, figures: Figures) -> None:
    running = site.run(workers=2)
    service, launcher = site.part("service"), site.agent(SIMULATED)["launcher_pid"]
    raylet = site.ray_process("raylet")
    since_s = time.monotonic()
    raylet.signal(signal.SIGKILL)
    assert raylet.wait_gone(5)
    site.can_start_jobs()
    figures.saw("the head's raylet killed: a new job has ended", _since(since_s))
    assert site.part("service") == service  # its doors were open all the time
    assert site.agent(SIMULATED)["launcher_pid"] == launcher
    site.succeeds_where_it_was(running)


def test_an_agent_whose_start_was_lost_on_the_way_into_ray_is_started_all_the_same(site: Site, tmp_path: Path) -> None:
    started = site.home.started()
    assert started is not None
    starter = subprocess.Popen(
        [sys.executable, "-m", "tests.survival.lost_starter", started.ray_address, "lost", str(tmp_path)],
        env=environment_of(site.part("service").pid),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert starter.stdout is not None
        assert "joined\n" in iter(starter.stdout.readline, ""), "it ended before it had joined"
        raylet = site.ray_process("raylet")
        raylet.signal(signal.SIGKILL)
        assert raylet.wait_gone(5)
        said, complained = starter.communicate("killed\n", timeout=120)
        steps = [line for line in said.splitlines() if line in ("DEPENDENCIES_UNREADY", "made")]  # Ray prints too
        assert (starter.returncode, steps) == (0, ["DEPENDENCIES_UNREADY", "made"]), complained
    finally:
        starter.kill()
        starter.wait()
    site.can_start_jobs()


@pytest.mark.nightly
def test_all_of_ray_is_killed_and_its_jobs_are_found_again(site: Site, figures: Figures) -> None:
    for _ in range(10):
        _all_of_ray_is_killed_and_its_jobs_are_found_again(site, figures)


def _all_of_ray_is_killed_and_its_jobs_are_found_again(site: Site, figures: Figures) -> None:
    running = site.run(workers=2)
    since_s = time.monotonic()
    keeper = site.kill("ray")
    eventually(lambda: site.part("ray") != keeper, within_s=60, what="Ray is started again")
    site.can_start_jobs(within_s=120)
    figures.saw("all of Ray killed: a new job has ended", _since(since_s))
    site.succeeds_where_it_was(running)


def test_the_agent_is_killed_and_the_true_exit_codes_are_reported(site: Site, times: int, figures: Figures) -> None:
    for _ in range(times):
        _the_agent_is_killed_and_the_true_exit_codes_are_reported(site, figures)


def _the_agent_is_killed_and_the_true_exit_codes_are_reported(site: Site, figures: Figures) -> None:
    running, fails_meanwhile = site.run(), site.run()
    agent = site.agent(SIMULATED)
    since_s = time.monotonic()
    os.kill(agent["pid"], signal.SIGKILL)
    site.finish(fails_meanwhile, code=7)
    ended = site.ended(fails_meanwhile)
    figures.saw("an agent killed: an exit of meanwhile is known", _since(since_s))
    assert (ended["state"], ended["cause"]) == ("failed", "exit code")
    assert "7" in ended["detail"]
    assert site.agent(SIMULATED)["pid"] != agent["pid"]
    assert site.agent(SIMULATED)["launcher_pid"] == agent["launcher_pid"]
    site.succeeds_where_it_was(running)


def test_the_launcher_is_killed_its_jobs_live_on_and_an_exit_that_nobody_saw_is_unknown(site: Site, times: int) -> None:
    for _ in range(times):
        _the_launcher_is_killed_its_jobs_live_on_and_an_exit_that_nobody_saw_is_unknown(site)


def _the_launcher_is_killed_its_jobs_live_on_and_an_exit_that_nobody_saw_is_unknown(site: Site) -> None:
    adopted, unseen = site.run(), site.run()
    launcher = site.launcher(SIMULATED)
    (process,) = site.starts(adopted)
    os.kill(launcher, signal.SIGKILL)
    site.finish(unseen)
    # It cost a try without being the job's fault: it is tried again although its policy allows no failure.
    ended = site.ended(unseen)
    assert (ended["state"], ended["attempt"], ended["failures"]) == ("succeeded", 2, 0), ended
    assert [(run["attempt"], run["cause"]) for run in ended["usage"]] == [(1, "unknown"), (2, "succeeded")]
    new = site.launcher(SIMULATED)
    assert new not in (0, launcher)
    assert alive([new, process.pid]) == [new, process.pid]
    assert site.job(adopted)["state"] == "running"
    assert len(site.starts(adopted)) == 1
    # Nobody is its parent any more: that it ends is seen, and its exit code is not.
    site.finish(adopted)
    ended = site.ended(adopted)
    assert (ended["state"], ended["attempt"]) == ("succeeded", 2), ended
    assert [(run["attempt"], run["cause"]) for run in ended["usage"]] == [(1, "unknown"), (2, "succeeded")]


def test_the_supervisor_is_killed_nothing_else_dies_and_up_brings_it_back(site: Site) -> None:
    running = site.run()
    before = {name: site.part(name) for name in ("ray", "gateway", "service")}
    supervisor = site.kill("supervisor")
    gateway = site.kill("gateway")
    answer = site.suanli("up", "--config", str(site.config))
    assert answer.code == 0, answer.err
    assert site.part("supervisor") != supervisor
    assert site.part("gateway") != gateway
    assert (site.part("ray"), site.part("service")) == (before["ray"], before["service"])
    site.succeeds_where_it_was(running)


def test_a_worker_of_a_gang_is_killed_the_gang_ends_together_and_goes_on_from_its_checkpoint(
    site: Site, times: int
) -> None:
    for number in range(times):
        _a_worker_of_a_gang_is_killed_the_gang_ends_together_and_goes_on_from_its_checkpoint(site, number)


def _a_worker_of_a_gang_is_killed_the_gang_ends_together_and_goes_on_from_its_checkpoint(
    site: Site, number: int
) -> None:
    saved = site.directory / f"gang-{number}-{time.monotonic_ns()}"
    job_id = site.run("--steps", kind="training", workers=3, retries=1, checkpoint={"dir": str(saved), "grace": "10s"})
    eventually(lambda: list(saved.rglob("attempt-1/step-*")), within_s=30, what="a checkpoint")
    first = site.starts(job_id)
    victim = next(mark for mark in first if mark.rank == 1)
    os.kill(victim.pid, signal.SIGKILL)
    eventually(lambda: not alive([mark.pid for mark in first]), within_s=30, what="the gang ends")
    eventually(lambda: len(site.starts(job_id)) == 6, within_s=30, what="the gang starts again")
    site.finish(job_id)
    ended = site.ended(job_id)
    assert (ended["state"], ended["attempt"], ended["failures"]) == ("succeeded", 2, 1), ended
    assert sorted((mark.rank, mark.attempt) for mark in site.starts(job_id)) == [
        (rank, attempt) for rank in range(3) for attempt in (1, 2)
    ]
    assert all(int(mark.text) >= 10 for mark in site.ends(job_id)), site.ends(job_id)  # it went on from there
