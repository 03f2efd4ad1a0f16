"""What is carried over from pass to pass: it spares the search where nothing changed, and never changes an answer."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.core import blocked
from scheduler.core.decisions import Plan
from scheduler.core.plan import plan
from scheduler.core.timeline import Timeline
from tests.fakes.cluster_table import ClusterTable, cluster
from tests.fakes.examples import examples
from tests.unit.scheduler.core.test_properties import rebuilt, said


class Searches:
    """How often the two costly questions were asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slots = self.victims = 0
        first_slot, choose_victims = Timeline.first_slot, blocked.choose_victims

        def counted_slot(*args: object, **more: object) -> object:
            self.slots += 1
            return first_slot(*args, **more)  # type: ignore[arg-type]

        def counted_victims(*args: object, **more: object) -> object:
            self.victims += 1
            return choose_victims(*args, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(Timeline, "first_slot", counted_slot)
        monkeypatch.setattr(blocked, "choose_victims", counted_victims)

    def of(self, table: ClusterTable) -> tuple[int, int]:
        """Slots and victims looked for in one pass more; its plan is checked against one that carries nothing over."""
        self.slots = self.victims = 0
        made = plan(table.state, table.kept, table.settings, now_s=table.now_s, estimates=False)
        counted = self.slots, self.victims
        anew = plan(rebuilt(table), table.queue, table.settings, now_s=table.now_s, estimates=False)
        assert said(made) == said(anew)
        return counted


def two_pools() -> ClusterTable:
    """Both full; of each a gang that waits for nearly all of it. With all gone that are of a class below it would have
    the devices, but not the CPUs."""
    table = cluster(nodes=2, prefix="h", model="H100 SXM").nodes(2, prefix="a", model="A100")
    for prefix in "ha":
        table.run(f"{prefix}low", f"{prefix}0", 8, priority=1, ends_in=1_000.0)
        table.run(f"{prefix}same", f"{prefix}1", 1, cpus=60, priority=5, ends_in=2_000.0)
    table.submit("wide-h", workers=2, devices=7, cpus=8, model="H100 SXM", priority=5, limit=100.0)
    table.submit("wide-a", workers=2, devices=7, cpus=8, model="A100", priority=5, limit=100.0)
    return table


def test_a_quiet_pass_searches_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    searches, table = Searches(monkeypatch), two_pools()
    assert searches.of(table) == (2, 2)
    assert searches.of(table.after(10.0)) == (0, 0)
    assert searches.of(table.after(500.0)) == (0, 0)


def test_what_happens_in_one_pool_is_searched_for_there_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    searches, table = Searches(monkeypatch), two_pools()
    searches.of(table)
    table.after(10.0).gone("alow")
    assert searches.of(table) == (1, 0)  # nobody below it is left there
    table.after(10.0).submit("small-a", devices=1, model="A100", limit=10.0)
    table.expect(started="small-a").apply()  # it is over before what is promised begins
    assert searches.of(table.after(1.0)) == (1, 1)


def test_a_job_that_is_asked_to_go_is_seen_though_nothing_came_free(monkeypatch: pytest.MonkeyPatch) -> None:
    searches, table = Searches(monkeypatch), two_pools()
    searches.of(table)
    table.after(10.0).submit("urgent", devices=8, model="A100", priority=9, limit=50.0)
    table.expect(preempted="asame").apply()
    assert table.after(1.0).plan().preemptions == ()
    searches.of(table)


def test_a_job_that_was_preempted_before_may_go_once_it_has_run_for_long_enough() -> None:
    table = cluster().policy(min_run_before_preemption_s=60.0)
    table.run("low", devices=8, priority=1, ends_in=None, preempted=1)
    table.submit("high", devices=8, priority=9, limit=10.0)
    table.expect(preempted="").after(30.0).expect(preempted="").after(29.0).expect(preempted="")
    table.after(1.0).expect(preempted="low")


Event = tuple[str, str | None, float]


def decided(made: Plan) -> tuple[object, ...]:
    """What is decided, and of what kind each reason is."""
    kinds = {job_id: reason.kind for job_id, reason in made.reasons.items()}
    return made.starts, made.preemptions, made.resizes, made.releases, kinds


@settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["submit", "apart", "gang", "urgent", "one is to go", "one leaves", "due leave", "quiet"]),
            st.sampled_from(["H100 SXM", "A100", "A100", None]),
            st.sampled_from([0.0, 1.0, 20.0, 60.0]),
        ),
        min_size=4,
        max_size=24,
    ),
    st.sampled_from(["easy", "conservative", "none"]),
)
def test_over_any_story_of_two_pools_plans_are_those_made_anew(story: list[Event], backfill: str) -> None:
    table = two_pools().policy(backfill=backfill, min_run_before_preemption_s=30.0)
    for number, (what, model, later_s) in enumerate(story):
        table.after(later_s)
        if what == "submit":
            table.submit(f"s{number}", devices=1 + number % 4, model=model, priority=number % 3, limit=later_s or None)
        elif what == "gang":
            table.submit(f"g{number}", workers=2, devices=4, model=model, priority=5, limit=later_s * 3 or None)
        elif what == "urgent":
            table.submit(f"u{number}", devices=4, model=model, priority=9, limit=10.0)
        elif what == "apart":
            table.submit(f"a{number}", devices=8, model=model, priority=5, limit=later_s or None, apart_from=("x",))
        elif what == "one is to go" and table.running:
            table.asked_to_go(sorted(table.running)[number % len(table.running)])
        elif what == "one leaves" and table.running:
            table.gone(sorted(table.running)[number % len(table.running)], requeued=bool(number % 2))
        elif what == "due leave":
            table.all_due_leave()
        for estimates in (False, True):
            made = plan(table.state, table.kept, table.settings, now_s=table.now_s, estimates=estimates)
            anew = plan(rebuilt(table), table.queue, table.settings, now_s=table.now_s, estimates=estimates)
            assert said(made) == said(anew)
        bare = plan(table.state, table.kept, table.settings, now_s=table.now_s, only_decisions=True)
        assert decided(bare) == decided(anew)
        table.plan()
        table.apply()
