"""What a queue says of the jobs that it was told of is what one says that was told of the present ones alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.decisions import RunningJob
from scheduler.core.demand import Placement
from scheduler.core.queue import Queue

TENANTS, NAMES = ("lab", "studio"), ("", "a", "b", "c")

runs = st.builds(
    RunningJob,
    job_id=st.sampled_from("12345"),
    tenant=st.sampled_from(TENANTS),
    priority=st.just(1),
    started_s=st.just(0.0),
    ends_by_s=st.none(),
    saved_s=st.just(0.0),
    placements=st.integers(0, 3).map(lambda node: (Placement(0, f"n{node}", (0,), 0, 1_000, 0, 0),)),
    name=st.sampled_from(NAMES),
    apart_from=st.sets(st.sampled_from(NAMES[1:])).map(lambda names: tuple(sorted(names))),
    stopping=st.booleans(),
    simulated=st.booleans(),
    workers_max=st.sampled_from([None, 1, 2]),
    workers_wanted=st.sampled_from([None, 0, 1]),
)


def _kept_apart(queue: Queue) -> list[set[str]]:
    return [queue.kept_apart(tenant, name or None, NAMES[1:]) for tenant in TENANTS for name in NAMES]


@given(st.lists(st.one_of(runs, st.sampled_from("12345"), st.none()), max_size=30))
def test_it_answers_as_one_built_anew(happened: list[RunningJob | str | None]) -> None:
    """A job runs, or one ends, or (None) somebody asks meanwhile."""
    queue, running = Queue(), dict[str, RunningJob]()
    for each in happened:
        if each is None:
            _kept_apart(queue)
        elif isinstance(each, RunningJob):
            queue.run(each)
            running[each.job_id] = each
        else:
            queue.end(each)
            running.pop(each, None)
    anew = Queue((), running.values())
    assert _kept_apart(queue) == _kept_apart(anew)
    assert queue.elastic == anew.elastic
    assert queue.shrinking == anew.shrinking
    for tenant in TENANTS:
        assert queue.held.jobs(tenant) == anew.held.jobs(tenant)
        for simulated in (False, True):
            assert queue.held.held(tenant, simulated) == anew.held.held(tenant, simulated)
            assert queue.held.staying_milli(tenant, simulated) == anew.held.staying_milli(tenant, simulated)
