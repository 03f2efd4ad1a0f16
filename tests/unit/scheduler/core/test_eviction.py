"""Which idle services go: the least recently used, as few as will do, and never one that is in use."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.eviction import KEPT_HIGHER_S, KEPT_S, IdleService, choose

NOW_S = 1_000.0
idle = st.lists(
    st.tuples(st.integers(0, 2), st.floats(0.0, 200.0), st.integers(1, 4), st.integers(0, 2)), min_size=0, max_size=8
)


@given(idle, st.integers(0, 2), st.integers(1, 8))
def test_what_holds_for_every_choice(told: list[tuple[int, float, int, int]], priority: int, wanted: int) -> None:
    """Services hold devices on three nodes; `wanted` of them must come free on one node."""
    services = [IdleService(str(i), cls, NOW_S - ago_s) for i, (cls, ago_s, _, _) in enumerate(told)]
    holds = {str(i): (devices, node) for i, (_, _, devices, node) in enumerate(told)}

    def makes_room(ids: Sequence[str]) -> bool:
        return any(sum(holds[i][0] for i in ids if holds[i][1] == node) >= wanted for node in range(3))

    chosen = choose(services, priority, NOW_S, makes_room)
    may_go = [
        each.job_id
        for each in services
        if NOW_S - each.used_s >= (KEPT_HIGHER_S if each.priority > priority else KEPT_S)
    ]
    if chosen is None:
        assert not makes_room(may_go)
        return
    assert makes_room(chosen)
    assert set(chosen) <= set(may_go)
    assert all(not makes_room([other for other in chosen if other != each]) for each in chosen if len(chosen) > 1)
    used_s = {each.job_id: each.used_s for each in services}
    alone = [each for each in may_go if makes_room([each])]
    if alone:
        assert len(chosen) == 1
        assert used_s[chosen[0]] == min(used_s[each] for each in alone)


def test_nobody_where_there_is_nobody() -> None:
    assert choose([], 1, NOW_S, lambda _: True) is None
