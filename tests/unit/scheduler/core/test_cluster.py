"""The books: taking, giving back, nodes that leave and come back."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.claims import Claim, OneWorker
from scheduler.core.cluster import ClusterState, DeviceUse
from scheduler.core.demand import Demand, Level, NodeFacts, Placement
from scheduler.core.free_columns import FreeColumns
from scheduler.core.node_columns import NodeColumns
from tests.fakes.cluster_table import GIB, node_facts


def columns(state: ClusterState) -> tuple[list[object], ...]:
    free = state.free
    return free.milli.tolist(), free.whole.tolist(), free.cpus_milli.tolist(), free.memory_bytes.tolist()


def whole(worker: int, node: str, *devices: int) -> Placement:
    return Placement(worker, node, devices, 0, 1000, GIB, 0)


def share(worker: int, node: str, device: int, milli: int) -> Placement:
    return Placement(worker, node, (device,), milli, 500, 0, 0)


def two_nodes() -> ClusterState:
    return ClusterState([node_facts("n0", 2), node_facts("n1", 4)])


def test_columns_of_an_empty_cluster() -> None:
    state = two_nodes()
    assert state.free.milli.tolist() == [[1000, 1000, -1, -1], [1000] * 4]
    assert state.free.milli.dtype == np.int32
    assert state.free.whole.tolist() == [2, 4]
    assert state.node_names == ("n0", "n1")
    assert state.facts("n1").devices[3].uuid == "n1-3"


def test_take_and_give_back() -> None:
    state = two_nodes()
    empty = columns(state)
    state.take("7", [whole(0, "n0", 1), share(1, "n1", 2, 250)])
    assert state.free.milli.tolist() == [[1000, 0, -1, -1], [1000, 1000, 750, 1000]]
    assert state.free.whole.tolist() == [1, 3]
    assert state.free_cpus_milli("n0") == 63_000
    assert state.device_use("n1")[2] == DeviceUse(2, 250, ("7",))
    assert state.jobs_on("n0") == ("7",)
    state.give_back_workers("7", (0,))
    assert state.free.whole.tolist() == [2, 3]
    assert [p.worker for p in state.held("7")] == [1]
    state.give_back("7")
    state.give_back("7")
    state.give_back_workers("7", (1,))
    assert columns(state) == empty
    assert state.holders == frozenset()


@pytest.mark.parametrize(
    "placements",
    [
        [whole(1, "n0", 0)],
        [share(1, "n0", 0, 1)],
        [share(1, "n1", 0, 600), share(2, "n1", 0, 600)],
        [whole(1, "n1", 0), whole(2, "n1", 0)],
        [Placement(1, "n1", (0,), 0, 64_001, 0, 0)],
        [Placement(1, "n1", (0,), 0, 0, 513 * GIB, 0)],
    ],
)
def test_over_commit_is_refused_and_changes_nothing(placements: list[Placement]) -> None:
    state = two_nodes()
    state.take("1", [whole(0, "n0", 0)])
    before = columns(state)
    with pytest.raises(AssertionError, match="job 2 would over-commit"):
        state.take("2", placements)
    assert columns(state) == before
    assert state.held("2") == ()


def test_a_pass_that_gave_away_too_much_is_not_taken_over() -> None:
    state = two_nodes()
    state.take("1", [whole(0, "n0", 0)])
    free = state.free.tried()
    free.take(Claim.of(state.nodes, [whole(0, "n0", 0)]))
    with pytest.raises(AssertionError, match="given away more than there is"):
        state.take_over(free)
    assert state.free.whole.tolist() == [1, 4]


def test_who_is_on_a_node_is_the_same_whenever_it_is_first_asked_for() -> None:
    early, late = two_nodes(), two_nodes()
    assert early.jobs_on("n0") == ()
    for state in (early, late):
        state.take("1", [whole(0, "n0", 0), whole(1, "n1", 0)])
        state.take("2", [whole(0, "n0", 1)])
        state.give_back_workers("1", (1,))
    assert late.jobs_on("n0") == early.jobs_on("n0") == ("1", "2")
    assert late.jobs_on("n1") == early.jobs_on("n1") == ()


def test_a_worker_is_placed_once() -> None:
    state = two_nodes()
    state.take("1", [whole(0, "n0", 0)])
    with pytest.raises(AssertionError, match="already placed"):
        state.take("1", [whole(0, "n1", 0)])
    state.take("1", [whole(1, "n1", 0)])
    assert len(state.held("1")) == 2


def test_a_node_that_comes_back_finds_its_devices_still_held() -> None:
    state = two_nodes()
    state.take("1", [whole(0, "n0", 0), whole(1, "n1", 0)])
    before = columns(state)
    state.remove_node("n0")
    assert state.node_names == ("n1",)
    assert "n0" not in state
    assert [p.node for p in state.held("1")] == ["n0", "n1"]
    state.add_node(node_facts("n0", 2))
    assert state.node_names == ("n1", "n0")
    assert sorted(state.free.milli.tolist()) == sorted(before[0])
    state.give_back("1")
    assert state.free.whole.tolist() == [4, 2]


def test_giving_back_while_the_node_is_away() -> None:
    state = two_nodes()
    state.take("1", [whole(0, "n0", 0), whole(1, "n1", 0)])
    state.remove_node("n0")
    state.give_back("1")
    state.add_node(node_facts("n0", 2))
    assert sorted(state.free.whole.tolist()) == [2, 4]


def test_a_node_that_comes_back_smaller() -> None:
    state = two_nodes()
    state.take("1", [whole(0, "n1", 3), whole(1, "n1", 0)])
    state.add_node(node_facts("n1", 2))
    assert state.free.milli.tolist()[1][:2] == [0, 1000]
    state.give_back("1")
    assert state.free.whole.tolist() == [2, 2]
    assert state.free_cpus_milli("n1") == 64_000


def test_taking_before_the_node_joins_counts_when_it_does() -> None:
    state = ClusterState()
    state.take("1", [whole(0, "n0", 1)])
    state.add_node(node_facts("n0", 2))
    assert state.free.milli.tolist() == [[1000, 0]]


def test_schedulable_reasons() -> None:
    state = two_nodes()
    state.set_schedulable("n1", "draining: disk swap")
    assert state.schedulable.tolist() == [True, False]
    state.add_node(node_facts("n1", 4))
    assert state.unschedulable_reason("n1") == "draining: disk swap"
    state.set_schedulable("n1", None)
    assert state.schedulable.tolist() == [True, True]
    state.set_schedulable("n0", "down")
    state.remove_node("n0")
    state.add_node(node_facts("n0", 2))
    assert state.unschedulable_reason("n0") is None


def test_a_copy_is_independent() -> None:
    state = two_nodes()
    state.take("1", [whole(0, "n0", 0)])
    before = columns(state)
    copy = state.copy()
    copy.take("2", [whole(0, "n1", 0)])
    copy.give_back("1")
    copy.set_schedulable("n0", "down")
    copy.remove_node("n1")
    assert columns(state) == before
    assert state.holders == {"1"}
    assert state.jobs_on("n0") == ("1",)
    assert state.schedulable.all()


steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "give", "worker", "leave", "join"]),
        st.integers(0, 5),  # job
        st.integers(0, 2),  # node
        st.lists(st.integers(0, 3), min_size=0, max_size=4, unique=True),
        st.sampled_from([0, 200, 500]),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_the_free_columns_always_are_what_the_books_leave(story: list[tuple[str, int, int, list[int], int]]) -> None:
    facts = [node_facts(f"n{i}", 4, cpus=6, memory_gib=8) for i in range(3)]
    state = ClusterState(facts)
    for worker, (what, job, node, devices, milli) in enumerate(story):
        name = f"n{node}"
        match what:
            case "take":
                used = tuple(devices[:1] if milli else devices)
                try:
                    state.take(str(job), [Placement(worker, name, used, milli if used else 0, 700, GIB, 0)])
                except AssertionError:
                    assert name in state
            case "give":
                state.give_back(str(job))
            case "worker":
                for placement in state.held(str(job))[:1]:
                    state.give_back_workers(str(job), (placement.worker,))
            case "leave" if name in state:
                state.remove_node(name)
            case "join" if name not in state:
                state.add_node(facts[node])
            case _:
                pass
        fresh = ClusterState(state.facts(n) for n in state.node_names)
        for holder in state.holders:
            here = [p for p in state.held(holder) if p.node in state]
            for placement in here:
                row = fresh.nodes.row_of[placement.node]
                for device in placement.devices:
                    fresh.free.milli[row, device] -= placement.share_milli or 1000
                fresh.free.cpus_milli[row] -= placement.cpus_milli
                fresh.free.memory_bytes[row] -= placement.memory_bytes
        assert state.free.milli.tolist() == fresh.free.milli.tolist()
        assert state.free.cpus_milli.tolist() == fresh.free.cpus_milli.tolist()
        assert state.free.memory_bytes.tolist() == fresh.free.memory_bytes.tolist()
        assert state.free.whole.tolist() == (state.free.milli == 1000).sum(axis=1).tolist()
    for holder in list(state.holders):
        state.give_back(holder)
    for fact in facts:
        if fact.name not in state:
            state.add_node(fact)
    assert (state.free.milli == 1000).all()
    assert (state.free.cpus_milli == 6000).all()


# ---- many nodes at once ------------------------------------------------------------------------------------------


def assorted(count: int) -> list[NodeFacts]:
    return [
        node_facts(
            f"n{i}",
            i % 5,
            model=["H100", "A100", "910B", "H100", "A100"][: i % 5],
            site="north" if i % 3 else "south",
            rack=[None, "a", "b"][i % 3],
            island=[None, "x", f"n{i}"][i % 3],
            mig=[None, "1g.10gb", None, None, "1g.10gb"][: i % 5],
            simulated=i % 7 == 0,
            labels={"driver": str(i % 2)},
            cpus=i,
        )
        for i in range(count)
    ]


def test_nodes_that_join_together_are_what_they_are_one_by_one() -> None:
    facts = assorted(30)
    together = NodeColumns().with_nodes(facts[:20]).with_nodes(facts[20:])
    one_by_one = NodeColumns()
    for each in facts:
        one_by_one = one_by_one.with_node(each)
    for columns in (together, ClusterState(facts).nodes):
        for name in NodeColumns.__slots__:
            value = getattr(columns, name)
            if isinstance(value, np.ndarray):
                assert value.tolist() == getattr(one_by_one, name).tolist(), name
                assert value.dtype == getattr(one_by_one, name).dtype
        assert (columns.names, columns.row_of) == (one_by_one.names, one_by_one.row_of)


def test_without_a_node_the_columns_are_those_of_the_others() -> None:
    facts = assorted(10)
    less = NodeColumns().with_nodes(facts).without_node("n4")
    others = NodeColumns().with_nodes(facts[:4] + facts[5:])
    for level in Level:
        mine, theirs = (each.topology.cells.domains[level] for each in (less, others))
        assert [a == b for a in mine for b in mine] == [a == b for a in theirs for b in theirs]
    for wants in (Demand(model="H100"), Demand(mig_profile="1g.10gb"), Demand(node_labels=(("driver", "1"),))):
        assert less.pool(wants).nodes.tolist() == others.pool(wants).nodes.tolist()


def test_a_name_joins_once() -> None:
    with pytest.raises(AssertionError, match="already here"):
        NodeColumns().with_nodes([node_facts("n0"), node_facts("n0")])
    assert len(ClusterState([node_facts("n0", 2), node_facts("n0", 4)]).nodes) == 1


# ---- stamps ------------------------------------------------------------------------------------------------------


def test_equal_stamps_are_equal_rows_over_copies_and_what_is_made_from_them() -> None:
    state = two_nodes()
    nodes = state.nodes
    seen: dict[int, tuple[object, ...]] = {}

    def look(free: FreeColumns) -> list[int]:
        for row, stamp in enumerate(free.stamps.tolist()):
            content = (row, free.milli[row].tolist(), int(free.cpus_milli[row]), int(free.memory_bytes[row]))
            assert seen.setdefault(stamp, content) == content
        assert free.whole.tolist() == (free.milli == 1000).sum(axis=1).tolist()
        return free.stamps.tolist()

    one = Claim.of(nodes, [whole(0, "n0", 1)])
    cpu_only = Claim.of(nodes, [Placement(0, "n1", (), 0, 500, 0, 0)])
    free, copy = state.free, state.free.copy()
    before = look(free)
    free.take(one)
    copy.take(one)
    assert look(free)[1] == look(copy)[1] == before[1]
    assert free.stamps[0] == copy.stamps[0]  # the same was taken from the same
    copy.take(cpu_only)
    assert look(copy)[1] != before[1]
    least = free.replaced(
        np.minimum(free.milli, copy.milli),
        np.minimum(free.cpus_milli, copy.cpus_milli),
        np.minimum(free.memory_bytes, copy.memory_bytes),
    )
    assert look(least)[0] == free.stamps[0]
    assert least.stamps[1] not in (free.stamps[1], copy.stamps[1])
    free.give(one)
    assert look(free)[0] not in before
    assert (
        look(least.replaced(free.milli.copy(), least.cpus_milli.copy(), least.memory_bytes.copy()))[1]
        == least.stamps[1]
    )
    look(free.with_rows_of(nodes.with_node(node_facts("n2", 1))))
    assert free.without_rows((0,)).stamps.tolist() == [free.stamps[1]]


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([-1, 1])), max_size=12))
def test_who_follows_is_told_of_every_row_that_changes(changes: list[tuple[int, int]]) -> None:
    nodes = two_nodes().nodes
    gang = Claim.of(nodes, [share(0, "n0", 1, 300), share(1, "n1", 0, 200)])
    alone = Claim.of(nodes, [share(0, "n1", 0, 200), share(1, "n1", 2, 200)])
    claims = [Claim.of(nodes, [whole(0, "n0", 1)]), Claim.of(nodes, [share(0, "n1", 2, 250)]), gang, alone]
    claims.append(gang.where(gang.rows == 1, gang.worker_rows == 1))
    free = FreeColumns.empty(nodes)
    free.followed = deque(maxlen=100)
    for number, sign in changes:
        before = free.stamps.tolist()
        if number == len(claims):
            free.lower_row(1, [0, 700, 700, 700], 1000, GIB)
            free.move_worker(nodes, whole(0, "n0", 0), sign)
        elif sign < 0:
            free.take(claims[number])
        else:
            free.give(claims[number])
        changed = {row for row, stamp in enumerate(free.stamps.tolist()) if stamp != before[row]}
        assert changed == set(free.followed)
        assert free.copy().followed is None
        free.followed.clear()


@given(st.data())
def test_stamps_tell_contents_apart_and_every_change_to_the_original_since_a_pass_began(data: st.DataObject) -> None:
    """Copies and their original are changed in any order; whoever kept the latest stamp when a pass began sees that
    the original was changed since."""
    nodes = two_nodes().nodes
    seen: dict[tuple[int, int], tuple[object, ...]] = {}

    def look(free: FreeColumns) -> None:
        for row, stamp in enumerate(free.stamps.tolist()):
            content = (free.milli[row].tolist(), int(free.cpus_milli[row]), int(free.memory_bytes[row]))
            assert seen.setdefault((row, stamp), content) == content
        assert free.whole.tolist() == (free.milli == 1000).sum(axis=1).tolist()

    gang = [share(0, "n0", 1, 300), share(1, "n1", 0, 200), share(2, "n0", 1, 100)]
    changes = [[whole(0, "n0", 1)], [share(0, "n1", 2, 250)], [Placement(0, "n1", (), 0, 500, 0, 0)], gang, gang[:2]]
    original = FreeColumns.empty(nodes)
    copies = [original]
    latest = int(original.stamps.max())
    for _ in range(data.draw(st.integers(1, 20))):
        if data.draw(st.booleans()):
            latest = int(original.stamps.max())
            copies = [original, original.tried(), original.copy()]
        free = data.draw(st.sampled_from(copies))
        placements = data.draw(st.sampled_from(changes))
        claim = Claim.of(nodes, placements)
        way = data.draw(st.integers(0, 2))
        if way == 2:
            free.give(claim)
        elif way == 1 and len(placements) == 1:
            free.move_worker(nodes, placements[0], -1)
        else:
            free.take(claim)
        for each in copies:
            look(each)
        if free is original:
            assert int(original.stamps.max()) > latest


def test_a_claim_of_one_worker_has_the_columns_of_any_other() -> None:
    nodes = two_nodes().nodes
    for placement in (whole(0, "n0", 1, 0), share(0, "n1", 2, 250), Placement(0, "n1", (), 0, 500, 7, 0)):
        usual = Claim.of(nodes, [placement])
        row, milli = nodes.row_of[placement.node], placement.share_milli or 1000
        one = Claim.of_one(OneWorker(row, placement.devices, milli, placement.cpus_milli, placement.memory_bytes))
        for name in ("rows", "devices", "milli", "worker_rows", "cpus_milli", "memory_bytes"):
            mine, theirs = getattr(one, name), getattr(usual, name)
            assert mine.dtype == theirs.dtype
            assert mine.tolist() == theirs.tolist(), name
        with pytest.raises(AttributeError):
            one.nonsense  # noqa: B018


def test_claims_of_placements_that_are_not_there() -> None:
    nodes = two_nodes().nodes
    claim = Claim.of(nodes, [whole(0, "n0", 1, 3), whole(1, "gone", 0), share(2, "n1", 2, 250), whole(3, "n1")])
    assert claim.rows.tolist() == [0, 1]
    assert claim.devices.tolist() == [1, 2]
    assert claim.milli.tolist() == [1000, 250]
    assert claim.worker_rows.tolist() == [0, 1, 1]
    assert claim.cpus_milli.tolist() == [1000, 500, 1000]
    assert len(Claim.of(nodes, []).rows) == len(Claim.of(nodes, []).worker_rows) == 0
