"""A plan without estimates is the same plan: only expected starts are fewer."""

from __future__ import annotations

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
