"""What the cluster has, who holds what of it, and which nodes may be given work.

`ClusterState` joins three things: the nodes' columns (what they are), the free columns (what is left), and the books
(which worker of which job holds what). The books outlive nodes: a node that goes takes its row with it but not its
jobs' entries, so that a node that rejoins under its name finds its devices still held, and giving back is right in any
order. Taking on a node that has not joined yet (a service that restarts) is kept in the books and counts when it joins.

It also keeps what the planner makes of the nodes and needs again in the next pass: pools, packing scores, totals. These
are caches of pure functions and never change an answer; the typical shapes of work, which packing keeps room for, are
told by the owner (`set_shapes`).

Not thread-safe. The planner never changes one: it copies `free`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.core.claims import Claim
from scheduler.core.demand import WHOLE_DEVICE_MILLI, NodeFacts, Placement
from scheduler.core.fair_share import Totals
from scheduler.core.free_columns import FreeColumns
from scheduler.core.node_columns import ABSENT, Bools, Ints, NodeColumns
from scheduler.core.packing.policies import packing_named
from scheduler.core.packing.rows import NodeKinds
from scheduler.core.packing.shapes import TypicalShapes
from scheduler.core.packing.stranding import Stranding
from scheduler.core.packing_choice import PackingChoice
from scheduler.core.placement import Packing, Pools

CPU_VENDOR = "cpu"
_LOOKS_AT_SHAPES = frozenset({"default", "fgd"})
_ONE_BY_ONE = 24  # so many workers are sooner given back one by one than as columns


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """One device of a node: thousandths taken, and the jobs that hold them (each once, in the order they came)."""

    index: int
    used_milli: int
    jobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FragmentationFigure:
    """Of all devices' idle thousandths, those that a typical worker which wants devices could not use, in the
    mean over typical work: `share` = stranded / idle, 0 to 1; None where nothing is idle or no work is known yet."""

    idle_milli: int
    stranded_milli: int
    share: float | None


class ClusterState:
    """Nodes, free capacity and books. Names of nodes are unique; rows may move when a node leaves."""

    __slots__ = (
        "_choices",
        "_held",
        "_on_node",
        "_pools",
        "_stranding",
        "_totals",
        "_unschedulable",
        "free",
        "nodes",
        "schedulable",
        "shapes",
    )

    def __init__(self, nodes: Iterable[NodeFacts] = ()) -> None:
        self.nodes = NodeColumns().with_nodes(tuple({facts.name: facts for facts in nodes}.values()))
        self.free = FreeColumns.empty(self.nodes)
        self.schedulable: Bools = np.ones(len(self.nodes), np.bool_)
        self._unschedulable: dict[str, str] = {}
        self._held: dict[str, tuple[Placement, ...]] = {}
        # By node, kept from when that is first asked for, as a replay never does; there by (job, worker): a node whose
        # devices are shared may carry a thousand of them.
        self._on_node: dict[str, dict[tuple[str, int], Placement]] | None = None
        self.shapes = TypicalShapes()
        self._forget()

    def _forget(self) -> None:
        """What was made of the nodes holds no more."""
        self._totals: Totals | None = None
        self._stranding: Stranding | None = None
        self._choices: dict[tuple[str, int], Packing | None] = {}
        self._pools: dict[tuple[str, int], Pools] = {}

    def copy(self) -> ClusterState:
        """An independent state: columns and the books' outer dictionaries are copied, their immutable values shared."""
        new = ClusterState()
        new.nodes = self.nodes
        new.free = self.free.copy()
        new.schedulable = self.schedulable.copy()
        new._unschedulable = self._unschedulable.copy()
        new._held = self._held.copy()
        if self._on_node is not None:
            new._on_node = {name: there.copy() for name, there in self._on_node.items()}
        new.shapes = self.shapes
        new._forget()
        return new

    # ---- nodes ---------------------------------------------------------------------------------------------------

    @property
    def node_names(self) -> tuple[str, ...]:
        return tuple(facts.name for facts in self.nodes.facts)

    def __contains__(self, name: object) -> bool:
        return name in self.nodes.row_of

    def facts(self, name: str) -> NodeFacts:
        """Raises KeyError for a node that is not here."""
        return self.nodes.facts[self.nodes.row_of[name]]

    def add_node(self, facts: NodeFacts) -> None:
        """A node joins, or joins again. What the books hold on it counts as taken from the start.

        A node already here gets its new facts and keeps its reason for being unschedulable, if any; a new one is
        schedulable. Where it came back smaller, held devices that are gone count nothing.
        """
        self.add_nodes((facts,))

    def add_nodes(self, joining: Sequence[NodeFacts]) -> None:
        """Several at once, each named once: that costs little more than one."""
        here = [facts.name for facts in joining if facts.name in self]
        if here:
            rows = [self.nodes.row_of[name] for name in here]
            self.nodes = self.nodes.without_nodes(here)
            self.free = self.free.without_rows(rows)
            self.schedulable = np.delete(self.schedulable, rows)
        self.nodes = self.nodes.with_nodes(joining)
        self.free = self.free.with_rows_of(self.nodes)
        may_be_given_work = [facts.name not in self._unschedulable for facts in joining]
        self.schedulable = np.append(self.schedulable, may_be_given_work)
        self._forget()
        held = [placement for facts in joining for placement in self._by_node().get(facts.name, {}).values()]
        self.free.take(Claim.of(self.nodes, held))

    def remove_node(self, name: str) -> None:
        """Forget the node; its jobs keep what they hold there in the books. Raises KeyError if it is not here."""
        row = self.nodes.row_of[name]
        self.nodes = self.nodes.without_node(name)
        self.free = self.free.without_rows((row,))
        self.schedulable = np.delete(self.schedulable, row)
        self._unschedulable.pop(name, None)
        self._forget()

    def set_schedulable(self, name: str, reason: str | None) -> None:
        """None: may be given work. Otherwise why not: "down", or "draining: disk swap". Raises KeyError if unknown."""
        self.schedulable[self.nodes.row_of[name]] = reason is None
        self._pools.clear()
        if reason is None:
            self._unschedulable.pop(name, None)
        else:
            self._unschedulable[name] = reason

    def unschedulable_reason(self, name: str) -> str | None:
        return self._unschedulable.get(name)

    @property
    def unschedulable(self) -> Mapping[str, str]:
        return self._unschedulable

    # ---- books ---------------------------------------------------------------------------------------------------

    def take(self, job_id: str, placements: Sequence[Placement]) -> None:
        """Give these to the job, all or (AssertionError) nothing. It may take more workers later, never one twice."""
        held = self._held_beside(job_id, placements)
        over = self._take(placements)
        if over is not None:
            self._give(placements)
            raise AssertionError(f"job {job_id} would over-commit: {over}; placements {placements}")
        self._enter(job_id, held, placements)

    def take_over(self, free: FreeColumns) -> None:
        """All that a pass starts is taken at once: `free` is its `Plan.free_after`, and nothing was taken or given back
        since. Each start is then told to the books, by `enter`."""
        devices = self.totals.everything.devices_milli // WHOLE_DEVICE_MILLI
        assert free.nothing_overcommitted(devices), "a pass has given away more than there is"
        self.free = free

    def enter(self, job_id: str, placements: Sequence[Placement]) -> None:
        """As `take`, of what the columns are without already (`take_over`)."""
        self._enter(job_id, self._held_beside(job_id, placements), placements)

    def _held_beside(self, job_id: str, placements: Sequence[Placement]) -> tuple[Placement, ...]:
        """What the job holds, of which these are to be no part yet (AssertionError)."""
        held = self._held.get(job_id, ())
        if held or len(placements) > 1:
            workers = [placement.worker for placement in (*held, *placements)]
            assert len(set(workers)) == len(workers), f"job {job_id}: a worker of {sorted(workers)} is already placed"
        return held

    def _enter(self, job_id: str, held: tuple[Placement, ...], placements: Sequence[Placement]) -> None:
        self._held[job_id] = (*held, *placements) if held else tuple(placements)
        if self._on_node is not None:
            for placement in placements:
                self._on_node.setdefault(placement.node, {})[job_id, placement.worker] = placement

    def _take(self, placements: Sequence[Placement]) -> str | None:
        """What is below zero then."""
        if len(placements) == 1:
            return self.free.move_worker(self.nodes, placements[0], -1)
        claim = Claim.of(self.nodes, placements)
        self.free.take(claim)
        return self.free.overcommitted(claim)

    def _give(self, placements: Sequence[Placement]) -> None:
        if len(placements) <= _ONE_BY_ONE:
            for placement in placements:
                self.free.move_worker(self.nodes, placement, 1)
        else:
            self.free.give(Claim.of(self.nodes, placements))

    def give_back(self, *job_ids: str) -> None:
        """Take all devices of these jobs back: of several together for not much more than of one. Nothing happens where
        a job holds none."""
        held = self._held
        self._leave([(job_id, held.pop(job_id)) for job_id in job_ids if job_id in held])

    def give_back_workers(self, job_id: str, workers: Collection[int]) -> None:
        """Take these workers' devices back. Nothing happens where one holds none."""
        held = self._held.get(job_id, ())
        going = tuple([placement for placement in held if placement.worker in workers])
        if len(going) == len(held):
            self.give_back(job_id)
        elif going:
            self._held[job_id] = tuple([placement for placement in held if placement.worker not in workers])
            self._leave([(job_id, going)])

    def _leave(self, going: Sequence[tuple[str, tuple[Placement, ...]]]) -> None:
        """These workers of these jobs."""
        self._give([placement for _, placements in going for placement in placements])
        if self._on_node is not None:
            for job_id, placement in ((job_id, each) for job_id, placements in going for each in placements):
                there = self._on_node[placement.node]
                del there[job_id, placement.worker]
                if not there:
                    del self._on_node[placement.node]

    def _by_node(self) -> dict[str, dict[tuple[str, int], Placement]]:
        if self._on_node is None:
            self._on_node = {}
            for job_id, placements in self._held.items():
                for placement in placements:
                    self._on_node.setdefault(placement.node, {})[job_id, placement.worker] = placement
        return self._on_node

    def held(self, job_id: str) -> tuple[Placement, ...]:
        return self._held.get(job_id, ())

    @property
    def holders(self) -> frozenset[str]:
        """Ids of all jobs that hold anything."""
        return frozenset(self._held)

    def jobs_on(self, name: str) -> tuple[str, ...]:
        """Ids of the jobs with a worker on that node, each once, also where the node is not here (any more)."""
        return tuple(dict.fromkeys(job_id for job_id, _ in self._by_node().get(name, {})))

    # ---- what the planner makes of it ----------------------------------------------------------------------------

    def set_shapes(self, shapes: TypicalShapes) -> None:
        """What kinds of work the cluster typically sees: what packing keeps room for from now on."""
        if shapes != self.shapes:
            self.shapes = shapes
            self._stranding = None
            # What looks at nodes alone holds on, with all that is kept with it.
            self._choices = {key: choice for key, choice in self._choices.items() if key[0] not in _LOOKS_AT_SHAPES}
            self._pools = {key: pools for key, pools in self._pools.items() if key[0] not in _LOOKS_AT_SHAPES}

    def pools(self, packing: str, tie_seed: int) -> Pools:
        """The nodes by demand, and the packing policy over them, kept until something of it changes. Raises ValueError
        for a policy that does not exist."""
        found = self._pools.get((packing, tie_seed))
        if found is None:
            choice = self._choice(packing, tie_seed)
            found = Pools(self.nodes, self.schedulable.copy(), self.nodes.tie_rank(tie_seed), choice)
            self._pools[packing, tie_seed] = found
        return found

    def plain_pools(self, tie_seed: int) -> Pools:
        """The same with placement's own best fit."""
        return self.pools("best-fit", tie_seed)

    def _choice(self, packing: str, tie_seed: int) -> Packing | None:
        """None: placement's own best fit, also where a policy looks at typical work and none is known yet."""
        if (packing, tie_seed) not in self._choices:
            packing_named(packing)
            own = packing == "best-fit" or (packing in _LOOKS_AT_SHAPES and not self.shapes.shapes)
            tie_rank = self.nodes.tie_rank(tie_seed)
            choice = None if own else PackingChoice(packing, self.nodes, self.shapes, tie_rank)
            self._choices[packing, tie_seed] = choice
        return self._choices[packing, tie_seed]

    @property
    def totals(self) -> Totals:
        """What is installed, real and in all."""
        if self._totals is None:
            self._totals = Totals.of(self.nodes.facts)
        return self._totals

    def stranding(self) -> Stranding:
        if self._stranding is None:
            self._stranding = Stranding(self.shapes, NodeKinds.of(self.nodes), self.nodes.max_devices)
        return self._stranding

    def harm(self, there: FreeColumns, rows: Ints) -> float:
        """Of what would be idle then on these rows, the thousandths of devices that typical work could not use. Row i
        of `there` is rows[i]."""
        return self.stranding().milli_on(rows, there)

    def fragmentation(self, *, simulated: bool = False) -> FragmentationFigure:
        """The live figure, over the real (or the simulated) nodes with accelerators that may be given work. (A machine
        without any offers its cores as devices: that nobody asks for those strands nothing.)"""
        rows = self.schedulable & (self.nodes.simulated == simulated) & ~self.nodes.all_of_vendor(CPU_VENDOR)
        stranding = self.stranding()
        idle = int(np.maximum(self.free.milli, 0)[rows].sum())
        if not idle or not stranding.known:
            return FragmentationFigure(idle, 0, None)
        stranded = stranding.milli(self.free, rows)
        return FragmentationFigure(idle, round(stranded), min(1.0, stranded / idle))

    # ---- views ---------------------------------------------------------------------------------------------------

    def device_use(self, name: str) -> tuple[DeviceUse, ...]:
        """Each device of the node, by index. Raises KeyError for a node that is not here."""
        used: dict[int, int] = {}
        jobs: dict[int, dict[str, None]] = {}
        for (job_id, _), placement in self._by_node().get(name, {}).items():
            for device in placement.devices:
                used[device] = used.get(device, 0) + (placement.share_milli or WHOLE_DEVICE_MILLI)
                jobs.setdefault(device, {})[job_id] = None
        return tuple(
            DeviceUse(device.index, used.get(device.index, 0), tuple(jobs.get(device.index, ())))
            for device in self.facts(name).devices
        )

    def placements_on(self, name: str) -> list[tuple[str, Placement]]:
        """(job, place) of each worker that holds something there."""
        return [(job_id, placement) for (job_id, _), placement in self._by_node().get(name, {}).items()]

    def used_milli(self, name: str) -> int:
        """Thousandths that are taken of all the node's devices; 0 for a node that is not here."""
        if name not in self:
            return 0
        row = self.nodes.row_of[name]
        there = self.nodes.device_model[row] != ABSENT
        return int(WHOLE_DEVICE_MILLI * np.count_nonzero(there) - self.free.milli[row][there].sum())

    def free_cpus_milli(self, name: str) -> int:
        return int(self.free.cpus_milli[self.nodes.row_of[name]])

    def free_memory_bytes(self, name: str) -> int:
        return int(self.free.memory_bytes[self.nodes.row_of[name]])
