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
from scheduler.core.sorted_jobs import age, turn
from scheduler.core.waiting import Entry, Kind, WaitingLine

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

    Class by class, in three groups of which one is under way at a time: those that others went for, the starved, and
    all others by account.
    """

    __slots__ = (
        "_accounts",
        "_blocked",
        "_class",
        "_classes",
        "_held",
        "_named",
        "_now_s",
        "_out",
        "_owed",
        "_owing",
        "_policy",
        "_seeks_starved",
        "_skipping",
        "_standings",
        "_starved",
        "_usage",
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
        self._standings: dict[str, float] = {}  # of the accounts, as they are now
        self._now_s = now_s
        by_class = waiting.by_class()
        self._classes = [(priority, by_class[priority]) for priority in sorted(by_class)]  # the highest is taken first
        self._class: Collection[Kind] = ()  # of the class under way, not lined up by account yet
        self._owed: dict[int, list[tuple[PendingJob, Kind]]] = {}  # by class, the last of them first
        for job, kind in sorted(
            ((waiting.job(job_id), waiting.kind_of(job_id)) for job_id in owed if job_id in waiting),
            key=lambda owing: turn(owing[0]),
            reverse=True,
        ):
            self._owed.setdefault(kind.priority, []).append((job, kind))
        self._owing: list[tuple[PendingJob, Kind]] = []  # of the class under way, not named yet
        self._named: set[str] = set()  # those of the owed that were named
        self._seeks_starved = False
        self._starved: list[Entry] = []  # a heap by age: each kind's oldest not named yet
        # A heap by standing, then by the place of its first job: each account's heap by turn, of one entry a kind.
        self._accounts: list[tuple[float, float, int, str, list[Entry]]] = []
        self._skipping: set[Kind] = set()  # those of which some were named before it was their account's turn
        self._blocked: set[Kind] = set()  # likewise
        self._out: tuple[PendingJob, Kind] | None = None  # named last, and nothing was said of it yet

    def next(self) -> tuple[PendingJob, Kind] | None:
        """The job whose turn it is; None at the end."""
        assert self._out is None, f"what became of the job before? {self._out}"
        while True:
            if self._accounts:
                self._out = self._accounts[0][4][0][3]
            elif self._starved:
                self._out = self._starved[0][3]
            elif self._owing:
                self._out = self._owing[-1]
            elif self._go_further():
                continue
            return self._out

    def started(self, job: PendingJob, share: float) -> None:
        """The job named last starts, and raises its account's dominant share by `share`: others of it wait longer."""
        kind = self._named_last(job)
        assert share >= 0, (job.job_id, share)
        self._held[kind.account] = self._held.get(kind.account, 0.0) + share
        self._standings.pop(kind.account, None)
        self._go_on(kind)

    def passed(self, job: PendingJob) -> None:
        """The job named last waits; the next of its kind may be tried all the same."""
        self._go_on(self._named_last(job))

    def blocked(self, kind: Kind) -> None:
        """The job named last waits, and no other of its kind will be named in this pass."""
        assert self._out is not None, f"{kind} was not named last, but nothing"
        assert kind is self._out[1], f"{kind} was not named last, but {self._out[1]}"
        self._out = None
        if self._accounts:
            line = self._accounts[0][4]
            heappop(line)
            self._turn_of_next(line)
            return
        self._blocked.add(kind)
        if self._starved:
            heappop(self._starved)
        else:
            self._owing = [owing for owing in self._owing if owing[1] is not kind]

    # ---- how -----------------------------------------------------------------------------------------------------

    def _named_last(self, job: PendingJob) -> Kind:
        assert self._out is not None, f"nothing was named before job {job.job_id}"
        named, kind = self._out
        assert named.job_id == job.job_id, f"job {named.job_id} was named last, not {job.job_id}"
        return kind

    def _go_on(self, kind: Kind) -> None:
        """From the job named last to what is after it in its kind."""
        self._out = None
        if self._accounts:
            line = self._accounts[0][4]
            following = self._in_turn(kind, line[0][4] + 1)
            if following is None:
                heappop(line)
            else:
                heapreplace(line, following)
            self._turn_of_next(line)
            return
        self._skipping.add(kind)
        if self._starved:
            following = self._by_age(kind, self._starved[0][4] + 1)
            if following is None:
                heappop(self._starved)
            else:
                heapreplace(self._starved, following)
        else:
            self._named.add(self._owing.pop()[0].job_id)

    def _turn_of_next(self, line: list[Entry]) -> None:
        """Of the account whose turn it was: where its next job puts it among the others."""
        if line:
            heapreplace(self._accounts, self._account(line))
        else:
            heappop(self._accounts)

    def _go_further(self) -> bool:
        """To the next group, which may be empty, or to the next class. False where there is none."""
        if self._seeks_starved:
            self._seeks_starved = False
            self._line_up_starved()
        elif self._class:
            self._line_up()
        elif self._classes:
            priority, self._class = self._classes.pop()
            self._owing = self._owed.get(priority, [])
            self._seeks_starved = True
        else:
            return False
        return True

    def _line_up_starved(self) -> None:
        """Once those that others went for have had their turn."""
        now_s, after_s = self._now_s, self._policy.starve_after_s
        for kind in self._class:
            if now_s - kind.oldest_s > after_s and kind not in self._blocked:  # as is_starved()
                first = self._by_age(kind, 0)
                if first is not None:
                    self._starved.append(first)
        heapify(self._starved)

    def _line_up(self) -> None:
        """Once the starved have had their turn, since what of theirs started counts for the standing."""
        lines: dict[str, list[Entry]] = {}
        blocked, skipping = self._blocked, self._skipping
        for kind in self._class:
            first = None if kind in blocked else self._in_turn(kind, 0) if kind in skipping else kind.first()
            if first is not None:
                line = lines.get(kind.account)
                if line is None:
                    lines[kind.account] = [first]
                else:
                    line.append(first)
        self._class = ()
        for line in lines.values():
            heapify(line)
            self._accounts.append(self._account(line))
        heapify(self._accounts)

    def _account(self, line: list[Entry]) -> tuple[float, float, int, str, list[Entry]]:
        deadline_s, seq, job_id, (_, kind), _ = line[0]
        name = kind.account
        now = self._standings.get(name)
        if now is None:
            weight = self._policy.tenant(kind.tenant).weight
            now = standing(self._usage.get(name, 0.0), self._held.get(name, 0.0), weight)
            self._standings[name] = now
        return (now, deadline_s, seq, job_id, line)

    def _by_age(self, kind: Kind, position: int) -> Entry | None:
        """The next of the starved of that kind; those that others went for had their turn before."""
        entry = kind.by_age(position)
        while entry is not None and entry[2] in self._named:
            entry = kind.by_age(entry[4] + 1)
        return entry if entry is not None and is_starved(entry[3][0], self._policy, self._now_s) else None

    def _in_turn(self, kind: Kind, position: int) -> Entry | None:
        """The next of that kind, without the starved and those that others went for: as it was not blocked, all of
        them had their turn before."""
        entry = kind.in_turn(position)
        if kind in self._skipping:
            while entry is not None and (entry[2] in self._named or is_starved(entry[3][0], self._policy, self._now_s)):
                entry = kind.in_turn(entry[4] + 1)
        return entry
