"""A second machine: its cable is pulled for less than the lease and for longer, it loses its raylet, its power, and it
leaves in good order. Where this does not run as root there is no cable to pull, and those tests are skipped.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import pytest

from tests.integration.instances import eventually, program_of
from tests.survival.conftest import Figures
from tests.survival.sites import FAR, HERE, FarMachine, Site, alive

ANY = {"device": "any", "count": 1, "cpus": 0.1}
ON_FAR = {**ANY, "node": FAR}


@pytest.fixture
def site(short_site: Site) -> Site:
    return short_site.emptied()


@pytest.fixture
def far(site: Site, shared_far: FarMachine) -> FarMachine:
    """The second machine, ready; a test that takes it out brings it back."""
    shared_far.is_ready()
    return shared_far


def with_cable(far: FarMachine) -> Any:
    if far.cable is None:
        pytest.skip("only root can make a network namespace, so no cable can be pulled here")
    return far.cable


def on_far(site: Site, *told: str, **fields: Any) -> str:
    """A job that may run anywhere, and that runs on the far machine."""
    site.client().post(f"/v1/nodes/{HERE}/drain", {"reason": "the test wants it elsewhere"})
    try:
        job_id = site.run(*told, resources=ANY, **fields)
    finally:
        site.client().post(f"/v1/nodes/{HERE}/resume", {})
    return job_id


def test_a_network_cut_for_less_than_the_lease_kills_nothing_and_starts_nothing_twice(
    site: Site, far: FarMachine, times: int, figures: Figures
) -> None:
    cable = with_cable(far)
    for _ in range(times):
        job_id = on_far(site, kind="training")
        (process,) = site.starts(job_id)
        cable.pull()
        figures.saw("network cut: the node counts as down", far.is_noticed_to_be_away(within_s=30))
        cable.plug_in()
        since_s = time.monotonic()
        far.is_ready()
        figures.saw("network cut for less than the lease: the node is back", time.monotonic() - since_s)
        site.in_state(job_id, "running")
        assert alive([process.pid]) == [process.pid]
        site.succeeds_where_it_was(job_id)


def test_a_network_cut_for_longer_than_the_lease_moves_training_after_it_and_leaves_serving_alone(
    site: Site, far: FarMachine, times: int, figures: Figures
) -> None:
    cable = with_cable(far)
    for _ in range(times):
        _cut_for_longer(site, far, cable, figures)


def _cut_for_longer(site: Site, far: FarMachine, cable: Any, figures: Figures) -> None:
    serving, lease = _service_on_far(site), f"lease {site.lease_s:g} s"
    saved = site.directory / f"saved-{time.monotonic_ns()}"
    job_id = on_far(site, "--steps", kind="training", checkpoint={"dir": str(saved), "grace": "2s"})
    (first,) = site.starts(job_id)
    eventually(lambda: list(saved.rglob("step-*")), within_s=10, what="a checkpoint")
    cable.pull()
    since_s = time.monotonic()
    eventually(lambda: not alive([first.pid]), within_s=site.lease_s + 10, what="training stops at the lease")
    figures.saw(f"network cut for longer: training stopped, {lease}", time.monotonic() - since_s)
    eventually(lambda: len(site.starts(job_id)) == 2, within_s=site.lease_s + 30, what="it goes on elsewhere")
    figures.saw(f"network cut for longer: training goes on elsewhere, {lease}", time.monotonic() - since_s)
    assert alive([serving]) == [serving]
    cable.plug_in()
    far.is_ready()
    site.finish(job_id)
    ended = site.ended(job_id)
    assert (ended["state"], ended["attempt"], ended["failures"]) == ("succeeded", 2, 0), ended
    assert int(site.ends(job_id)[-1].text) >= 10  # it went on from its checkpoint
    assert alive([serving]) == [serving]
    site.client().post("/v1/jobs/cancel", {"ids": [_service_id(site)]})
    eventually(lambda: not alive([serving]), within_s=30, what="the service ends when it is told to")


def _service_on_far(site: Site) -> int:
    """The pid of a replica that serves there."""
    model = site.directory / "model.py"
    model.write_text(
        "import os, pathlib\n"
        "class Model:\n"
        f"    def __init__(self): pathlib.Path({str(site.marks)!r}, f'replica-{{os.getpid()}}').touch()\n"
        "    def predict(self, inputs): return inputs\n"
    )
    before = set(site.marks.glob("replica-*"))
    spec = site.spec(name="serving", kind="inference", model=f"{model}:Model", replicas=1, resources=ON_FAR)
    for batch_field in ("command", "time_limit"):
        del spec[batch_field]
    (job_id,) = site.post(spec)
    site.in_state(job_id, "running")
    (mark,) = eventually(lambda: set(site.marks.glob("replica-*")) - before, within_s=30, what="a replica serves")
    return int(mark.name.rpartition("-")[2])


def _service_id(site: Site) -> str:
    return next(str(job["id"]) for job in site.get("/v1/jobs")["jobs"] if job["name"] == "serving")


def test_a_machine_that_returns_has_stale_workers_stopped_before_it_gets_work(
    site: Site, far: FarMachine, times: int
) -> None:
    cable = with_cable(far)
    for _ in range(times):
        _returns_with_a_stale_worker(site, far, cable)


def _returns_with_a_stale_worker(site: Site, far: FarMachine, cable: Any) -> None:
    job_id = site.run(resources=ON_FAR)
    (stale,) = site.starts(job_id)
    cable.pull()
    far.is_noticed_to_be_away(within_s=30)
    site.client().post(f"/v1/jobs/{job_id}/cancel", {})
    (next_id,) = site.post(site.spec("--lasts", "0", resources=ON_FAR))
    assert alive([stale.pid]) == [stale.pid]  # nobody has told it
    cable.plug_in()
    began = eventually(lambda: site.starts(next_id), within_s=60, what="the next job has started there")
    assert began
    assert alive([stale.pid]) == []
    assert site.ended(next_id)["state"] == "succeeded"
    assert site.ended(job_id)["state"] == "cancelled"


def test_a_far_raylet_is_killed_and_launcher_and_jobs_are_left_alone(
    site: Site, far: FarMachine, times: int, figures: Figures
) -> None:
    for _ in range(times):
        _far_raylet_is_killed(site, far, figures)


def _far_raylet_is_killed(site: Site, far: FarMachine, figures: Figures) -> None:
    job_id = on_far(site)
    launcher = site.agent(FAR)["launcher_pid"]
    raylet = program_of(far.keeper(), "raylet")
    since_s = time.monotonic()
    raylet.signal(signal.SIGKILL)
    assert raylet.wait_gone(5)
    site.can_start_jobs(resources=ON_FAR)
    figures.saw("a far raylet killed: a new job has ended there", time.monotonic() - since_s)
    assert site.agent(FAR)["launcher_pid"] == launcher
    site.in_state(job_id, "running")
    site.succeeds_where_it_was(job_id)


def test_a_machine_loses_its_power_and_its_jobs_go_on_from_their_checkpoints(
    site: Site, far: FarMachine, times: int, figures: Figures
) -> None:
    for number in range(times):
        _power_is_lost(site, far, figures, at_once=number % 2 == 0)


def _power_is_lost(site: Site, far: FarMachine, figures: Figures, *, at_once: bool) -> None:
    """`at_once`: the machine is back before its lease is over, and knows nothing of the job; else the job goes on
    elsewhere when the lease is over.
    """
    saved = site.directory / f"saved-{time.monotonic_ns()}"
    job_id = on_far(site, "--steps", kind="training", checkpoint={"dir": str(saved), "grace": "2s"})
    eventually(lambda: list(saved.rglob("step-*")), within_s=10, what="a checkpoint")
    since_s = time.monotonic()
    far.power_off()
    far.is_noticed_to_be_away(within_s=30)
    figures.saw("power lost: the node counts as down", time.monotonic() - since_s)
    if at_once:
        far.join()
    eventually(lambda: len(site.starts(job_id)) == 2, within_s=site.lease_s + 30, what="it goes on")
    back = "back at once" if at_once else f"away, lease {site.lease_s:g} s"
    figures.saw(f"power lost: its job goes on, machine {back}", time.monotonic() - since_s)
    if not at_once:
        far.join()
    site.finish(job_id)
    ended = site.ended(job_id)
    assert (ended["state"], ended["attempt"], ended["failures"]) == ("succeeded", 2, 0), ended
    assert int(site.ends(job_id)[-1].text) >= 10  # it went on from its checkpoint
    site.can_start_jobs(resources=ON_FAR)


MEETS = """
import os, pathlib, socket, sys, time
rank, where = int(os.environ["RANK"]), (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if rank == 0:
    with socket.create_server(("", where[1])) as door:
        peer, _ = door.accept()
else:
    until_s = time.monotonic() + 20
    while True:
        try:
            peer = socket.create_connection(where, timeout=5)
            break
        except OSError:
            assert time.monotonic() < until_s
            time.sleep(0.05)
peer.sendall(os.environ["SUANLI_NODE"].encode())
print(rank, "met", peer.recv(100).decode(), flush=True)
name = "-".join(["met", os.environ["SUANLI_JOB_ID"], str(rank), os.environ["SUANLI_ATTEMPT"], str(os.getpid())])
pathlib.Path(sys.argv[1], name).touch()
if os.environ["SUANLI_ATTEMPT"] == "1":
    peer.recv(1)  # until the other one ends
    sys.exit(1)
"""


def test_a_gang_over_two_machines_meets_and_ends_together_when_a_worker_of_it_is_killed(
    site: Site, far: FarMachine, times: int
) -> None:
    for _ in range(times):
        _gang_over_two_machines(site)


def _gang_over_two_machines(site: Site) -> None:
    gang = {"kind": "training", "workers": 2, "one_per": "node", "retries": 1, "resources": ANY}
    (job_id,) = site.post(site.spec(**gang, command=[sys.executable, "-c", MEETS, str(site.marks)]))

    def met(attempt: int) -> list[int]:
        names = [path.name.split("-") for path in site.marks.glob(f"met-{job_id}-*")]
        return [int(pid) for _, _, _, tried, pid in sorted(names) if int(tried) == attempt]

    first = eventually(lambda: len(met(1)) == 2 and met(1), within_s=40, what="the two meet")
    nodes = {run["node"] for run in site.job(job_id)["workers"]}
    assert nodes == {HERE, FAR}
    os.kill(first[1], signal.SIGKILL)
    eventually(lambda: len(met(2)) == 2, within_s=40, what="they meet again")
    assert not alive(first)
    ended = site.ended(job_id)
    assert (ended["state"], ended["attempt"], ended["failures"]) == ("succeeded", 2, 1), ended


@pytest.mark.nightly
def test_a_machine_that_leaves_in_good_order_says_so_and_its_jobs_need_not_wait_for_the_lease(
    site: Site, far: FarMachine, figures: Figures
) -> None:
    job_id = on_far(site)
    far.leave()
    since_s = time.monotonic()
    assert far.processes() == []
    eventually(lambda: len(site.starts(job_id)) == 2, within_s=site.lease_s * 0.8, what="it goes on elsewhere")
    figures.saw("left in good order: its job goes on elsewhere", time.monotonic() - since_s)
    site.finish(job_id)
    assert site.ended(job_id)["state"] == "succeeded"
    far.join()
