"""In which order waiting jobs are considered.

By class first, the higher before the lower. Within a class: jobs for which others were preempted, and have gone, since
what was freed is theirs; jobs that wait longer than `starve_after_s`, in the order
of submission and whoever's they are; then the account with the lowest standing (see `fair_share.py`), whose use in the
past and starts in this very pass both count; then the earliest deadline, of those that have one; then submission.

The factors are those of Slurm's multifactor priority (Yoo, Jette, Grondona, "SLURM: Simple Linux Utility for Resource
Management", JSSPP 2003), but compared one after the other instead of weighed against each other, so that an operator
can tell the order: a class never waits for a lower one, and no factor is outvoted by the sum of others. That needs a
word against starvation, since a tenant that used much could wait for ever behind one that submits little but always:
hence the fixed age from which submission alone counts. Earliest deadline first is Liu and Layland's rule ("Scheduling
Algorithms for Multiprogramming in a Hard-Real-Time Environment", JACM 20(1), 1973).

`Line` walks in this order and looks at no more jobs than the pass does; `in_order` is the same order in plain words,
for the checks and for showing it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from heapq import heapify, heappop, heapreplace

from scheduler.core.decisions import PendingJob, Policy
from scheduler.core.fair_share import account, standing
from scheduler.core.quotas import is_simulated
from scheduler.core.waiting import Kind, WaitingLine, age, turn

_NOTHING: Mapping[str, float] = {}


def in_order(
    pending: Iterable[PendingJob],
    policy: Policy | None = None,
    usage: Mapping[str, float] = _NOTHING,
    held_share: Mapping[str, float] = _NOTHING,
    now_s: float = -math.inf,
    owed: Collection[str] = (),
) -> list[PendingJob]:
    """The jobs, first to be considered first, as long as none of them starts. `usage` and `held_share`: by account,
    the decayed average and the present dominant share. Without `now_s` nothing has waited too long. Sorts all of them:
    not for a pass."""
    policy = policy or Policy()

    def place(job: PendingJob) -> tuple[object, ...]:
        if job.job_id in owed:
            return (-job.priority, -1, *turn(job))
        if is_starved(job, policy, now_s):
            return (-job.priority, 0, *age(job))
        name = account(job.tenant, is_simulated(job.alternatives))
        weight = policy.tenant(job.tenant).weight
        return (-job.priority, 1, standing(usage.get(name, 0.0), held_share.get(name, 0.0), weight), *turn(job))

    return sorted(pending, key=place)


def is_starved(job: PendingJob, policy: Policy, now_s: float) -> bool:
    """Whether it waits for so long that fair share no longer holds it back within its class."""
    return now_s - job.submitted_s > policy.starve_after_s


class Line:
    """One pass's walk through what waits. The line itself must not change meanwhile.

    `next()` names a job; one of `started`, `passed` and `blocked` then says what became of it, and so on until `next()`
    says None. Each kind is looked at only as far as the walk gets in it: the cost is that of the kinds plus that of the
    jobs named, with the logarithm of the number of kinds.
    """

    __slots__ = (
        "_accounts",
        "_aged",
        "_blocked",
        "_class",
        "_classes",
        "_held",
        "_lined_up",
        "_named",
        "_now_s",
        "_out",
        "_out_job",
        "_owed",
        "_owing",
        "_policy",
        "_starved",
        "_turns",
        "_usage",
        "_weights",
    )

    def __init__(
        self,
        waiting: WaitingLine,
        policy: Policy,
        usage: Mapping[str, float],
        held_share: Mapping[str, float],
        now_s: float,
        owed: Iterable[str] = (),
    ) -> None:
        """`usage` and `held_share`: by fair-share account, the decayed average and the dominant share held now. `owed`:
        ids of those for which others have gone."""
        self._policy = policy
        self._usage = usage
        self._held = dict(held_share)
        self._weights: dict[str, float] = {}  # of the accounts' tenants
        self._now_s = now_s
        classes: dict[int, list[Kind]] = {}
        for kind in waiting.kinds():
            classes.setdefault(kind.priority, []).append(kind)
        self._classes = sorted(classes.items())  # the highest class is last, and taken first
        self._class: list[Kind] = []  # of the class under way, not lined up by account yet
        self._owed: dict[int, list[tuple[PendingJob, Kind]]] = {}  # by class, the last of them first
        for job, kind in sorted(
            ((waiting.job(job_id), waiting.kind_of(job_id)) for job_id in owed if job_id in waiting),
            key=lambda owing: turn(owing[0]),
            reverse=True,
        ):
            self._owed.setdefault(kind.priority, []).append((job, kind))
        self._owing: list[tuple[PendingJob, Kind]] = []  # of the class under way, not named yet
        self._named: set[str] = set()  # those of the owed that were named
        self._starved: list[tuple[float, int, str, Kind]] = []  # a heap by age: each kind's oldest not named yet
        self._aged: dict[Kind, int] = {}  # how many of a kind's oldest were named
        self._accounts: list[tuple[float, float, int, str, str]] = []  # a heap: standing, its first job's turn, account
        self._lined_up: dict[str, list[tuple[float, int, str, Kind]]] = {}  # account -> a heap by turn, one a kind
        self._turns: dict[Kind, int] = {}  # how many of a kind, in turn, were named or skipped
        self._blocked: set[Kind] = set()
        self._out: Kind | None = None
        self._out_job: PendingJob | None = None

    def next(self) -> tuple[PendingJob, Kind] | None:
        """The job whose turn it is; None at the end."""
        assert self._out is None, f"what became of the job before? {self._out}"
        while True:
            if self._owing:
                job, kind = self._owing[-1]
                break
            if self._class and not self._aged:
                self._line_up_starved()
            if self._starved:
                kind = self._starved[0][-1]
                job = kind.by_age(self._aged[kind])
                break
            if self._class:
                self._line_up()
            if self._accounts:
                kind = self._lined_up[self._accounts[0][-1]][0][-1]
                job = kind.in_turn(self._turns[kind])
                break
            if not self._classes:
                return None
            self._open_class()
        self._out, self._out_job = kind, job
        return job, kind

    def started(self, job: PendingJob, share: float) -> None:
        """The job named last starts, and raises its account's dominant share by `share`: others of it wait longer."""
        kind = self._named_last(job)
        assert share >= 0, (job.job_id, share)
        self._held[kind.account] = self._held.get(kind.account, 0.0) + share
        self._go_on(kind, 1)

    def passed(self, job: PendingJob) -> None:
        """The job named last waits; the next of its kind may be tried all the same."""
        self._go_on(self._named_last(job), 1)

    def blocked(self, kind: Kind) -> None:
        """The job named last waits, and no other of its kind will be named in this pass."""
        assert kind is self._out, f"{kind} was not named last, but {self._out}"
        self._blocked.add(kind)
        self._out = None
        if self._owing:
            self._owing = [owing for owing in self._owing if owing[1] is not kind]
            return
        if self._starved:
            heappop(self._starved)
            return
        line = self._lined_up[kind.account]
        heappop(line)
        self._turn_of_next(line)

    # ---- how -----------------------------------------------------------------------------------------------------

    def _named_last(self, job: PendingJob) -> Kind:
        kind, named = self._out, self._out_job
        assert kind is not None, f"nothing was named before job {job.job_id}"
        assert named is not None, kind
        assert named.job_id == job.job_id, f"job {named.job_id} was named last, not {job.job_id}"
        return kind

    def _go_on(self, kind: Kind, by: int) -> None:
        self._out = None
        if self._owing:
            self._named.add(self._owing.pop()[0].job_id)
            return
        if self._starved:
            self._aged[kind] += by
            replaced = self._first_starved(kind)
            if replaced is None:
                heappop(self._starved)
            else:
                heapreplace(self._starved, replaced)
            return
        line = self._lined_up[kind.account]
        self._turns[kind] += by
        following = self._first_in_turn(kind)
        if following is None:
            heappop(line)
        else:
            heapreplace(line, following)
        self._turn_of_next(line)

    def _turn_of_next(self, line: list[tuple[float, int, str, Kind]]) -> None:
        """Of the account whose turn it was: where its next job puts it among the others."""
        if line:
            heapreplace(self._accounts, self._entry(line[0]))
        else:
            heappop(self._accounts)

    def _open_class(self) -> None:
        priority, self._class = self._classes.pop()
        self._owing = self._owed.get(priority, [])
        self._aged = {}

    def _line_up_starved(self) -> None:
        """Once those that others went for have had their turn."""
        self._aged = dict.fromkeys(self._class, 0)
        now_s, after_s = self._now_s, self._policy.starve_after_s
        for kind in self._class:
            if now_s - kind.oldest().submitted_s > after_s and kind not in self._blocked:  # as is_starved()
                first = self._first_starved(kind)
                if first is not None:
                    self._starved.append(first)
        heapify(self._starved)

    def _line_up(self) -> None:
        """Once the starved have had their turn, since what of theirs started counts for the standing."""
        self._turns = dict.fromkeys(self._class, 0)
        self._lined_up = {}
        for kind in self._class:
            first = None if kind in self._blocked else self._first_in_turn(kind)
            if first is not None:
                self._lined_up.setdefault(kind.account, []).append(first)
        self._class = []
        for line in self._lined_up.values():
            heapify(line)
        self._accounts = [self._entry(line[0]) for line in self._lined_up.values()]
        heapify(self._accounts)

    def _entry(self, first: tuple[float, int, str, Kind]) -> tuple[float, float, int, str, str]:
        deadline_s, seq, job_id, kind = first
        name = kind.account
        weight = self._weights.get(name)
        if weight is None:
            weight = self._weights[name] = self._policy.tenant(kind.tenant).weight
        return (standing(self._usage.get(name, 0.0), self._held.get(name, 0.0), weight), deadline_s, seq, job_id, name)

    def _first_starved(self, kind: Kind) -> tuple[float, int, str, Kind] | None:
        for position in range(self._aged[kind], len(kind)):
            job = kind.by_age(position)
            if not is_starved(job, self._policy, self._now_s):
                return None
            if job.job_id not in self._named:
                self._aged[kind] = position
                return (*age(job), kind)
        return None

    def _first_in_turn(self, kind: Kind) -> tuple[float, int, str, Kind] | None:
        """The starved ones had their turn before: they are skipped, and no more of them than were named then."""
        position = self._turns[kind]
        if not self._aged[kind] and not self._named:
            if position >= len(kind):
                return None
            job = kind.in_turn(position)
            return (math.inf if job.deadline_s is None else job.deadline_s, job.seq, job.job_id, kind)  # as turn()
        count = len(kind)
        aged = self._aged[kind] > 0
        while position < count:
            job = kind.in_turn(position)
            if job.job_id not in self._named and not (aged and is_starved(job, self._policy, self._now_s)):
                self._turns[kind] = position
                return (*turn(job), kind)
            position += 1
        return None
