"""What waits: grouped by what planning looks at, in order within each group, whatever comes and goes."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core import waiting
from scheduler.core.decisions import PendingJob
from scheduler.core.demand import Constraints, Demand, Level
from scheduler.core.sorted_jobs import age, turn
from scheduler.core.waiting import WaitingLine

ONE, TWO = (Demand(),), (Demand(devices=2),)


def job(job_id: str, seq: int = 0, **changes: object) -> PendingJob:
    facts: dict[str, object] = {
        "tenant": "t",
        "priority": 0,
        "submitted_s": float(seq),
        "workers_min": 1,
        "workers_max": 1,
        "alternatives": ONE,
        "time_limit_s": 60.0,
    }
    return PendingJob(job_id=job_id, seq=seq, **(facts | changes))  # type: ignore[arg-type]


# ---- kinds and shapes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "same_kind", "same_shape"),
    [
        ({}, True, True),
        ({"deadline_s": 5.0}, True, True),
        ({"submitted_s": 99.0}, True, True),
        ({"name": "other"}, True, True),
        ({"alternatives": (Demand(),)}, True, True),  # equal, but not the same object
        ({"constraints": Constraints()}, True, True),
        ({"tenant": "u"}, False, True),
        ({"priority": 1}, False, True),
        ({"time_limit_s": None}, False, True),
        ({"may_preempt": False}, False, True),
        ({"holds_slo": True}, False, True),
        ({"alternatives": TWO}, False, False),
        ({"alternatives": ONE + TWO}, False, False),
        ({"workers_max": 2}, False, False),
        ({"workers_min": 0}, False, False),
        ({"constraints": Constraints(within=Level.NODE)}, False, False),
        ({"reservation": "night"}, False, False),
        ({"beside": ("n1",)}, False, False),
    ],
)
def test_what_tells_kinds_and_shapes_apart(changes: dict[str, object], same_kind: bool, same_shape: bool) -> None:
    line = WaitingLine([job("a", 1), job("b", 2, **changes)])
    a, b = line.kind_of("a"), line.kind_of("b")
    assert (a is b, a.shape is b.shape) == (same_kind, same_shape)
    assert (a.key == b.key) == same_kind
    assert len(list(line.kinds())) == (1 if same_kind else 2)


def test_a_name_matters_only_while_somebody_wants_to_be_apart_from_it() -> None:
    line = WaitingLine([job("a", 1, name="web"), job("b", 2, name="db"), job("c", 3, name="web", tenant="u")])
    assert line.kind_of("a") is line.kind_of("b")
    line.keep_apart("t", ["web"])  # a running job
    assert line.kind_of("a") is not line.kind_of("b")
    assert (line.kind_of("a").shape.tenant, line.kind_of("a").shape.name) == ("t", "web")
    assert line.kind_of("c").shape is line.kind_of("b").shape  # another tenant's name is another name
    line.add(job("d", 4, constraints=Constraints(apart_from=("web", "db"))))  # a waiting one
    assert line.kind_of("b").shape.name == "db"
    assert (line.kind_of("d").shape.tenant, line.kind_of("d").shape.name) == ("t", None)
    line.forget_apart("t", ["web"])
    assert line.kind_of("a").shape.name == "web"  # the waiting one is still there
    line.remove("d")
    assert line.kind_of("a") is line.kind_of("b")
    assert line.kind_of("a").shape is line.kind_of("c").shape


def test_a_job_may_be_apart_from_its_own_name() -> None:
    apart = Constraints(apart_from=("web",))
    line = WaitingLine([job(str(i), i, name="web", constraints=apart) for i in range(3)])
    assert len(list(line.kinds())) == 1
    assert line.kind_of("0").shape.name == "web"
    line.remove("0")
    assert line.kind_of("1").shape.name == "web"
    line.add(job("x", 9, name="web"))
    assert line.kind_of("x").shape.name == "web"
    line.remove("1")
    line.remove("2")
    assert line.kind_of("x").shape.name is None


def test_who_was_never_told_of_cannot_be_forgotten() -> None:
    with pytest.raises(KeyError):
        WaitingLine().forget_apart("t", ["web"])


def test_a_kind_that_comes_back_has_its_old_key_and_shape() -> None:
    line = WaitingLine([job("a", 1)])
    before = line.kind_of("a")
    line.remove("a")
    assert list(line.kinds()) == []
    line.add(job("other", 3, alternatives=TWO))
    line.add(job("b", 2, alternatives=(Demand(),)))
    assert line.kind_of("b").key == before.key
    assert line.kind_of("b").shape is before.shape


def test_shapes_that_nothing_has_any_more_are_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_KEPT_SHAPES", 10)
    line = WaitingLine([job("stays", 0)])
    kept = line.kind_of("stays").shape
    for i in range(1, 200):
        line.add(job("x", i, alternatives=(Demand(cpus_milli=i),), beside=(f"n{i}",)))
    assert len(line._shapes) <= 20
    assert len(line._alternatives) <= 20
    assert line.kind_of("stays").shape is kept
    assert line.shape_of(job("again", 999)) is kept


def test_recycled_identities_are_no_trap() -> None:
    """A tuple that dies may leave its id to another: the line must not take one for the other."""
    line = WaitingLine()
    for i in range(3_000):
        line.add(job("x", i, alternatives=(Demand(cpus_milli=1 + i % 7),)))
        assert line.kind_of("x").shape.alternatives == (Demand(cpus_milli=1 + i % 7),)


def test_a_kind_says_what_quota_and_account_it_falls_under() -> None:
    mixed = (Demand(devices=2), Demand(share_milli=0, devices=4, simulated=True))
    line = WaitingLine([job("a", 1, alternatives=mixed, workers_min=3, workers_max=5), job("b", 2)])
    a, b = line.kind_of("a"), line.kind_of("b")
    assert (a.shape.simulated, a.shape.worker_milli, a.wanted_milli, a.account) == (True, 4000, 12_000, "t/simulated")
    assert (b.shape.simulated, b.shape.worker_milli, b.wanted_milli, b.account) == (False, 1000, 1000, "t")


# ---- order and books ---------------------------------------------------------------------------------------------


def test_the_earliest_deadline_is_head_and_the_first_submitted_is_oldest() -> None:
    line = WaitingLine([job("a", 1), job("b", 2, deadline_s=9.0), job("c", 3, deadline_s=4.0, submitted_s=0.0)])
    kind = line.kind_of("a")
    assert [j.job_id for j in kind] == ["c", "b", "a"]
    assert (next(iter(kind)).job_id, kind.oldest_s) == ("c", 0.0)
    assert [each and each[2] for each in map(kind.by_age, range(4))] == ["c", "a", "b", None]
    assert [each and each[2] for each in map(kind.in_turn, range(4))] == ["c", "b", "a", None]


def test_what_waits_can_be_asked_for() -> None:
    line = WaitingLine([job("a", 1), job("b", 2)])
    assert (len(line), "a" in line, "z" in line) == (2, True, False)
    assert line.get("a") == job("a", 1)
    assert line.get("z") is None
    assert [j.job_id for j in line] == ["a", "b"]
    assert line.remove("a") == job("a", 1)
    for refused in (line.remove, line.kind_of):
        with pytest.raises(KeyError):
            refused("a")


def test_a_tenants_queue_is_counted_for_its_limits() -> None:
    line = WaitingLine([job("a", 1, alternatives=TWO, workers_min=3, workers_max=9), job("b", 2), job("c", 3)])
    line.add(job("s", 4, alternatives=(Demand(simulated=True),)))
    line.add(job("u", 5, tenant="u"))
    assert (line.queued_jobs("t"), line.queued_milli("t", False), line.queued_milli("t", True)) == (4, 8000, 1000)
    line.remove("a")
    line.add(job("b", 2, alternatives=TWO))  # replaced
    assert (line.queued_jobs("t"), line.queued_milli("t", False)) == (3, 3000)
    for job_id in "bcs":
        line.remove(job_id)
    assert (line.queued_jobs("t"), line.queued_milli("t", False), line.queued_milli("t", True)) == (0, 0, 0)
    assert (line.queued_jobs("u"), line.queued_jobs("nobody")) == (1, 0)


def test_what_is_gone_leaves_nothing_behind() -> None:
    line = WaitingLine()
    line.keep_apart("t", ["web"])
    for i in range(3_000):
        line.add(job(str(i), i, tenant=f"t{i}", name=f"name{i}", alternatives=(Demand(),)))
    for i in range(3_000):
        line.remove(str(i))
    line.forget_apart("t", ["web"])
    books = (line._jobs, line._kind_of, line._kinds, line._by_class, line._queued_jobs, line._queued_milli)
    assert [len(book or ()) for book in (*books, line._mentions, line._named)] == [0] * (len(books) + 2)
    assert len(line._recent) <= waiting._RECENT
    assert len(line._alternatives) == 1


def random_job(rng: random.Random, job_id: str, seq: int) -> PendingJob:
    return job(
        job_id,
        seq,
        tenant=rng.choice("tu"),
        priority=rng.choice([0, 5]),
        alternatives=(Demand(devices=rng.choice([1, 2])),),
        submitted_s=float(rng.randrange(20)),
        deadline_s=rng.choice([None, None, float(rng.randrange(5))]),
        name=rng.choice(["", "web", "db"]),
        constraints=Constraints(apart_from=rng.choice([(), (), ("web",), ("web", "db")])),
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 400))
def test_it_is_what_grouping_and_sorting_anew_gives(seed: int, steps: int) -> None:
    rng = random.Random(seed)
    line = WaitingLine()
    jobs: dict[str, PendingJob] = {}
    running: list[tuple[str, str]] = []  # (tenant, name) that a running job is apart from
    for seq in range(steps):
        what = rng.random()
        if what < 0.6 or not jobs:
            job_id = str(rng.randrange(200))
            jobs.pop(job_id, None)
            jobs[job_id] = random_job(rng, job_id, seq)
            line.add(jobs[job_id])
        elif what < 0.9:
            job_id = rng.choice(list(jobs)) if rng.random() < 0.5 else next(iter(next(iter(line.kinds())))).job_id
            assert line.remove(job_id) == jobs.pop(job_id)
        elif what < 0.95 or not running:
            running.append((rng.choice("tu"), rng.choice(["web", "db"])))
            line.keep_apart(running[-1][0], [running[-1][1]])
        else:
            tenant, name = running.pop(rng.randrange(len(running)))
            line.forget_apart(tenant, [name])
        for kind in line.kinds():
            assert kind.first() == kind.in_turn(0)

    mentioned = {*running, *((j.tenant, name) for j in jobs.values() for name in j.constraints.apart_from)}
    groups: dict[object, list[PendingJob]] = defaultdict(list)
    for j in jobs.values():
        name = j.name if (j.tenant, j.name) in mentioned else None
        groups[j.tenant, j.priority, j.alternatives, j.constraints, name].append(j)
    assert list(line) == list(jobs.values())
    kinds = list(line.kinds())
    assert len(kinds) == len(groups)
    assert {priority: list(same) for priority, same in line.by_class().items()} == {
        priority: [kind for kind in kinds if kind.priority == priority]
        for priority in {kind.priority for kind in kinds}
    }
    for group in groups.values():
        kind = line.kind_of(group[0].job_id)
        assert all(line.kind_of(j.job_id) is kind for j in group)
        assert list(kind) == sorted(group, key=turn)
        in_turn = [(*turn(j), (j, kind), i) for i, j in enumerate(sorted(group, key=turn))]
        by_age = [(*age(j), (j, kind), i) for i, j in enumerate(sorted(group, key=age))]
        assert [kind.in_turn(i) for i in range(len(group) + 1)] == [*in_turn, None]
        assert [kind.by_age(i) for i in range(len(group) + 1)] == [*by_age, None]
        assert (kind.first(), kind.oldest_s) == (in_turn[0], by_age[0][0])
    for tenant in "tu":
        mine = [j for j in jobs.values() if j.tenant == tenant]
        assert line.queued_jobs(tenant) == len(mine)
        assert line.queued_milli(tenant, False) == sum(1000 * j.alternatives[0].devices for j in mine)


def test_a_long_kind_gives_up_its_jobs_from_any_place() -> None:
    for order in ("front", "back", "random"):
        left = {str(i): job(str(i), i) for i in range(500)}
        line = WaitingLine(left.values())
        ids = list(left)
        if order == "back":
            ids.reverse()
        elif order == "random":
            random.Random(7).shuffle(ids)
        for n, job_id in enumerate(ids[:-1]):
            line.remove(job_id)
            del left[job_id]
            kind = line.kind_of(ids[-1])
            if n % 13 == 0:
                assert list(kind) == list(left.values()), (order, n)
            assert next(iter(kind)) is next(iter(left.values())), (order, n)
            assert len(kind._by_turn.items) <= 2 * len(kind), (order, n)  # what is gone takes no room for long
