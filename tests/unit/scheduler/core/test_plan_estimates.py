"""A plan without estimates, or without what is no decision, is the same plan: it only says less."""

from __future__ import annotations

import pytest

from scheduler.core.plan import plan
from tests.fakes.cluster_table import cluster


def test_without_estimates_every_decision_is_the_same() -> None:
    table = cluster(nodes=2, devices=4).run("low", "n0", 4, priority=0, ends_in=50).run("r", "n1", 3, priority=5)
    table.submit("gang", workers=2, devices=4, priority=3).submit("small", devices=1, priority=3, limit=20)
    for i in range(6):
        table.submit(f"w{i}", devices=i % 4 + 1, priority=0, limit=500.0 + i)
    full = plan(table.state, table.kept, table.settings, now_s=table.now_s)
    bare = plan(table.state, table.kept, table.settings, now_s=table.now_s, estimates=False)
    assert (bare.starts, bare.preemptions, bare.resizes, bare.releases) == (
        full.starts,
        full.preemptions,
        full.resizes,
        full.releases,
    )
    assert full.starts or full.preemptions
    assert dict(bare.reasons) == dict(full.reasons)
    assert bare.expected_start_s.items() <= full.expected_start_s.items()
    assert len(bare.expected_start_s) < len(full.expected_start_s)


def test_promises_that_nobody_comes_near_are_left_out_where_only_decisions_are_wanted() -> None:
    table = cluster(nodes=2, prefix="h", model="H100 SXM").nodes(2, prefix="a", model="A100")
    table.run("h", "h0", 8, priority=5, ends_in=50.0).run("a", "a0", 8, priority=5, ends_in=50.0)
    table.submit("wide-h", workers=2, devices=8, model="H100 SXM", priority=5, limit=100.0)
    table.submit("wide-a", workers=2, devices=8, model="A100", priority=5, limit=100.0)
    table.submit("small-a", devices=8, model="A100", priority=5, limit=1_000.0)
    full = plan(table.state, table.kept, table.settings, now_s=table.now_s)
    bare = plan(table.state, table.kept, table.settings, now_s=table.now_s, only_decisions=True)
    assert full.starts == bare.starts == ()  # what is free of the A100s is promised
    assert {job_id: reason.kind for job_id, reason in bare.reasons.items()} == {
        job_id: reason.kind for job_id, reason in full.reasons.items()
    }
    assert bare.expected_start_s.keys() == {"wide-a"}  # somebody wanted what it is to have
    assert full.expected_start_s.keys() >= {"wide-h", "wide-a"}


@pytest.mark.parametrize("what", ["something leaves there", "it must be apart from others"])
def test_who_is_promised_at_once_heeds_the_promises_that_were_put_off_to_those_ahead(what: str) -> None:
    table = cluster(nodes=1, prefix="h", model="H100 SXM").nodes(1, prefix="a", model="A100")
    table.run("h", "h0", 8, ends_in=100.0).run("a", "a0", range(6), ends_in=1_000.0)
    leaves = what == "something leaves there"
    table.run("b", "a0", [6], ends_in=1_000.0, stopping=leaves)
    table.submit("ahead", devices=8, model="H100 SXM", limit=None)
    table.submit("either", devices=8, limit=100.0, apart_from=() if leaves else ("another",))
    table.submit("long", devices=1, model="A100", limit=5_000.0)
    full = plan(table.state, table.kept, table.settings, now_s=table.now_s)
    bare = plan(table.state, table.kept, table.settings, now_s=table.now_s, only_decisions=True)
    assert full.starts == bare.starts == ()  # "either" is to have the A100s, as the H100s are promised
    for each in (full, bare):
        assert each.expected_start_s["ahead"] - table.now_s == 100.0
        assert each.expected_start_s["either"] - table.now_s == 1_000.0
