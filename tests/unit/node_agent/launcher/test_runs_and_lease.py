"""Which runs end when their service falls silent or is replaced, and which go on?"""

from __future__ import annotations

import signal
import time

import pytest

from tests.fakes.launcher_rig import LauncherRig
from tests.fakes.processes import lives


def test_a_lower_epoch_is_refused_also_by_the_next_launcher(rig: LauncherRig) -> None:
    rig.start()
    rig.epoch = 5
    rig.launch("a", "exec sleep 300")
    rig.epoch = 4
    for op, fields in (
        ("launch", {"order": rig.order("b", "true").to_json()}),
        ("signal", {"key": "a", "signal": 9}),
        ("renew", {"lease_s": 5.0, "stamp_s": 0.0}),
        ("forget", {"key": "a"}),
    ):
        answer = rig.ask(op, **fields)
        assert (answer["kind"], answer["epoch"]) == ("stale_epoch", 5), op
    rig.kill()
    rig.start()
    assert rig.ask("signal", key="a", signal=9)["kind"] == "stale_epoch"
    assert list(rig.table()) == ["a"]
    rig.epoch = 5
    assert rig.ask("signal", key="a", signal=9)["ok"]


def test_a_lapsed_lease_ends_training_and_not_inference(rig: LauncherRig) -> None:
    rig.start()
    rig.launch("gentle", "trap 'exit 0' TERM; while :; do sleep 0.02; done")
    rig.launch("stubborn", "trap '' TERM; while :; do sleep 0.02; done", grace_s=0.2)
    replica = rig.launch("replica", "exec sleep 300", lease_bound=False)
    assert rig.renew(0.3)["ok"]
    assert rig.outcome("gentle")[0] == "lease"
    assert rig.outcome("stubborn") == ("lease", 9)
    assert lives(replica)
    assert rig.table()["replica"].exit is None


def test_a_renewed_lease_goes_on(rig: LauncherRig) -> None:
    pid = rig.start().launch("a", "exec sleep 300")
    until = time.monotonic() + 1.2
    while time.monotonic() < until:
        assert rig.renew(0.4)["ok"]
        time.sleep(0.05)
    assert lives(pid)
    assert rig.renew(60.0)["ok"]


def test_a_lease_runs_from_when_the_service_heard_the_node_s_clock(rig: LauncherRig) -> None:
    """A renewal that was an hour on its way lets nothing run; the test would otherwise wait for an hour."""
    rig.start(lease_s=7200.0).launch("a", "exec sleep 300")
    assert rig.renew(3600.0, age_s=3601.0)["ok"]
    assert rig.outcome("a") == ("lease", signal.SIGTERM)
    assert rig.renew(3600.0, age_s=3602.0)["ok"]
    assert not rig.ask("launch", order=rig.order("b", "true").to_json())["ok"]
    assert rig.renew(3600.0)["ok"]
    rig.launch("b", "exit 4")
    assert rig.outcome("b") == ("exit", 4)


def test_launches_do_not_extend_the_lease_and_a_late_one_is_refused(rig: LauncherRig) -> None:
    rig.start()
    rig.launch("a", "exec sleep 300")
    assert rig.renew(0.5)["ok"]
    until = time.monotonic() + 15.0
    number = 0
    while (answer := rig.ask("launch", order=rig.order(f"b{number}", "true").to_json()))["ok"]:
        assert time.monotonic() < until, "launching renewed the lease"
        time.sleep(0.02)
        number += 1
    assert answer["kind"] == "refused"
    assert "lease lapsed" in answer["error"]
    assert rig.outcome("a")[0] == "lease"
    rig.launch("replica", "true", lease_bound=False)
    assert rig.outcome("replica") == ("exit", 0)
    assert rig.renew(60.0)["ok"]
    rig.launch(f"b{number}", "exit 4")  # what was refused was not used up
    assert rig.outcome(f"b{number}") == ("exit", 4)


@pytest.mark.parametrize("renewed", [True, False])
def test_a_launcher_that_comes_back_does_not_begin_a_new_lease(rig: LauncherRig, renewed: bool) -> None:
    """Not even when the one before had never heard a renewal: its lease began with itself."""
    rig.start(lease_s=60.0 if renewed else 3.0).launch("a", "trap 'exit 0' TERM; while :; do sleep 0.02; done")
    if renewed:
        assert rig.renew(1.0)["ok"]
    rig.kill()
    rig.start(lease_s=60.0)
    assert rig.outcome("a")[0] == "lease"
