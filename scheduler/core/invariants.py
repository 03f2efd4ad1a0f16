"""What must hold of every plan, whatever the policy: checked in tests and in the simulator after each pass.

`check` works from the plan's words (placements, ids, reasons) and the facts, with plain loops on purpose: it shares no
arithmetic with the columns that made the plan. What is looked up and counted for it is in `plain_facts.py` and
`plain_room.py`.

Rules of a start are in `_check_starts` and what it calls, of who goes before whom in `_check_order`, of promises in
`_check_promises`, of victims in `_check_victims`, of what running jobs give back or gain in `_check_resizes`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import PendingJob, Plan, Policy, RunningJob, Start
from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.plain_facts import PlanFacts, held_milli, is_simulated, least_milli, wants_devices
from scheduler.core.plain_room import (
    Room,
    mismatch,
    serves,
    sibling_domains,
)
from scheduler.core.queue import Queue
from scheduler.core.reasons import (
    BehindReservation,
    JobLimitReached,
    NodesReserved,
    NoFit,
    QuotaReached,
    Reason,
    ReservationTooShort,
    Unsatisfiable,
    WaitingForReservation,
    WaitingForVictims,
)


def check(cluster: ClusterState, queue: Queue, plan: Plan, policy: Policy, now_s: float) -> None:
    """Raise AssertionError, with the facts, if `plan` breaks a promise that holds for every plan of this cluster and
    queue. All three are as they were when the plan was made."""
    _Check(cluster, queue, plan, policy, now_s).all()


class _Check(PlanFacts):
    def all(self) -> None:
        self._check_starts()
        self._check_room()
        self._check_quotas()
        self._check_reasons()
        self._check_victims()
        self._check_order()
        self._check_promises()
        self._check_resizes()
        self._check_releases()

    # ---- each start --------------------------------------------------------------------------------------------------

    def _check_starts(self) -> None:
        assert len(self.started) == len(self.plan.starts), f"a job starts twice: {list(self.started)}"
        for job_id in self.started:
            assert job_id in self.pending, f"job {job_id} starts but does not wait"
        for start in self.plan.starts:
            job = self.pending[start.job_id]
            self._check_gang(job, start)
            self._check_constraints(job, start)
            self._check_apart(job, start)
            self._check_reserved(job, start)

    def _check_gang(self, job: PendingJob, start: Start) -> None:
        count = len(start.placements)
        assert job.workers_min <= count <= job.workers_max, f"job {job.job_id}: partial gang, {count} workers of {job}"
        workers = [placement.worker for placement in start.placements]
        assert workers == list(range(count)), f"job {job.job_id}: workers are numbered {workers}"
        for placement in start.placements:
            assert placement.node in self.cluster, f"job {job.job_id} on {placement.node}, which is not here"
            why = self.cluster.unschedulable_reason(placement.node)
            assert why is None, f"job {job.job_id} on {placement.node}, which is {why}"
            demand = job.alternatives[placement.alternative]
            wrong = mismatch(self.cluster.facts(placement.node), demand, placement)
            assert wrong is None, f"job {job.job_id}: {placement} does not meet {demand}: {wrong}"

    def _check_constraints(self, job: PendingJob, start: Start) -> None:
        wanted = job.constraints
        siblings = self.siblings(job)
        if wanted.within is not None:
            level = wanted.within
            stands = set().union(*(self.domains(placement, level) for placement in start.placements))
            assert len(stands) == 1, f"job {job.job_id}: not within one {level}: {stands}"
            among = {domain for node in siblings for domain in sibling_domains(node, level)}
            assert not siblings or stands <= among, f"job {job.job_id}: not in the {level} of its siblings: {stands}"
        if wanted.one_per is not None:
            level = wanted.one_per
            taken = {domain for node in siblings for domain in sibling_domains(node, level)}
            for placement in start.placements:
                domains = self.domains(placement, level)
                assert not domains & taken, f"job {job.job_id}: more than one worker in {domains & taken}"
                taken |= domains

    def _check_apart(self, job: PendingJob, start: Start) -> None:
        nodes = {placement.node for placement in start.placements}
        others = [
            (running.job_id, running.tenant, running.name, running.apart_from, running.placements)
            for running in self.running.values()
        ]
        for other in self.plan.starts:
            mate = self.pending[other.job_id]
            others.append((mate.job_id, mate.tenant, mate.name, mate.constraints.apart_from, other.placements))
        for job_id, tenant, name, apart_from, placements in others:
            if job_id == job.job_id or tenant != job.tenant:
                continue
            if (name and name in job.constraints.apart_from) or (job.name and job.name in apart_from):
                shared = nodes & {placement.node for placement in placements}
                assert not shared, f"job {job.job_id} is to be apart from job {job_id}, and both are on {shared}"

    def _check_reserved(self, job: PendingJob, start: Start) -> None:
        end_s = self.end_s(job, self.now_s)
        nodes = {placement.node for placement in start.placements}
        own = self.reservation(job)
        if job.reservation is not None:
            assert own is not None, f"job {job.job_id} starts, but there is no reservation {job.reservation}"
            inside = own.start_s <= self.now_s and end_s <= own.end_s and nodes <= set(own.nodes)
            assert inside, f"job {job.job_id} on {nodes} until {end_s} is not within {own}"
        foreign = nodes & self.kept_by_others(job, self.now_s)
        assert not foreign, f"job {job.job_id} until {end_s} on {foreign}, reserved: {self.policy.reservations}"

    def _check_room(self) -> None:
        for (node, device), milli in self.after.devices.items():
            assert milli >= 0 or milli == self.before.devices[node, device], (
                f"device {device} of node {node} holds {WHOLE_DEVICE_MILLI - milli} of {WHOLE_DEVICE_MILLI} thousandths"
            )
        for node in {placement.node for start in self.plan.starts for placement in start.placements}:
            cpus, memory = self.after.cpus[node], self.after.memory[node]
            assert cpus >= min(0, self.before.cpus[node]), f"node {node} is {-cpus} milli-CPUs over"
            assert memory >= min(0, self.before.memory[node]), f"node {node} is {-memory} bytes over"

    # ---- quotas ------------------------------------------------------------------------------------------------------

    def _check_quotas(self) -> None:
        """What a tenant holds, with all that starts and all that victims go for, is within its maximum; or nothing that
        wants devices starts."""
        used, asked = self.used(), self.given()
        running = Counter(job.tenant for job in self.running.values())
        new = Counter(self.pending[start.job_id].tenant for start in self.plan.starts)
        for preempt in self.plan.preemptions:
            job = self.pending[preempt.for_job]
            asked[job.tenant, is_simulated(job)] += least_milli(job)
            new[job.tenant] += 1
        for (tenant, simulated), milli in asked.items():
            maximum = self.policy.tenant(tenant).maximum_milli
            total = used[tenant, simulated] + milli
            assert not milli or maximum is None or total <= maximum, (
                f"tenant {tenant} holds {used[tenant, simulated]} of at most {maximum} thousandths and is given {milli}"
            )
        for tenant, jobs in new.items():
            most = self.policy.tenant(tenant).max_running_jobs
            assert most is None or running[tenant] + jobs <= most, (
                f"tenant {tenant} runs {running[tenant]} of at most {most} jobs and starts {jobs}"
            )

    # ---- reasons -----------------------------------------------------------------------------------------------------

    def _check_reasons(self) -> None:
        waiting = {job.job_id for job in self.waiting}
        assert waiting == set(self.reasons), f"reasons are for {sorted(self.reasons)}, waiting are {sorted(waiting)}"
        assert len(self.plan.reasons) == len(waiting), f"{len(self.plan.reasons)} reasons for {len(waiting)} jobs"
        strangers = set(self.plan.expected_start_s) - waiting
        assert not strangers, f"jobs {strangers} do not wait, but are expected to start"
        for job in self.waiting:
            wrong = self._wrong_reason(job, self.reasons[job.job_id])
            assert wrong is None, f"job {job.job_id} waits for {self.reasons[job.job_id]}, but {wrong}: {job}"

    def _wrong_reason(self, job: PendingJob, reason: Reason) -> str | None:
        """What the facts say against it; None where nothing does."""
        limits = self.policy.tenant(job.tenant)
        own = self.reservation(job)
        match reason:
            case QuotaReached():
                used = self.used()[job.tenant, is_simulated(job)]
                fits = limits.maximum_milli is None or reason.used_milli + least_milli(job) <= limits.maximum_milli
                return "it is within its maximum" if fits or reason.used_milli < used else None
            case JobLimitReached():
                below = limits.max_running_jobs is None or reason.running < limits.max_running_jobs
                return "its tenant runs fewer" if below else None
            case BehindReservation(ahead=ahead):
                there = ahead in self.reasons and ahead != job.job_id
                return None if there else "what is ahead of it does not wait"
            case WaitingForVictims(victims=victims):
                leaving = {job_id for job_id, running in self.running.items() if running.stopping} | self.victims
                return None if victims and set(victims) <= leaving else "its victims are not leaving"
            case NodesReserved(name=name):
                known = any(each.name == name and each.end_s > self.now_s for each in self.policy.reservations)
                return None if known and name != job.reservation else "nothing is reserved by that name"
            case WaitingForReservation():
                return "its reservation has begun" if own is not None and own.start_s <= self.now_s else None
            case ReservationTooShort():
                fits = own is not None and self.end_s(job, self.now_s) <= own.end_s
                return "it would be over in time" if fits else None
            case NoFit() | Unsatisfiable():
                return None  # see _check_order
            case _:
                return "that is not for a planner to say"

    # ---- who goes before whom ----------------------------------------------------------------------------------------

    def _check_order(self) -> None:
        """Nobody started on what a job before it in the order, which still waits, could have had for its whole gang;
        and nobody waits for room that there is."""
        something_leaves = any(self.leaves_s(job) <= self.now_s for job in self.running.values())
        for job in self._first_of_each_kind():
            reason = self.reasons[job.job_id]
            if isinstance(reason, QuotaReached | JobLimitReached | WaitingForReservation | ReservationTooShort):
                continue
            later = [start for start in self.plan.starts if self.is_before(job, self.pending[start.job_id])]
            for start in later:
                assert not self._passed_over(job, start, reason), (
                    f"job {start.job_id} started on {start.placements} while job {job.job_id}, before it in the queue, "
                    f"fits there: {reason}; {job}; {self.pending[start.job_id]}"
                )
            if isinstance(reason, NoFit | Unsatisfiable) and not something_leaves and not self.victims:
                room = self.after.copy()
                for start in later:
                    room.give(start.placements)
                assert not self.surely_fits(room, job), f"job {job.job_id} fits, but waits for {reason}: {job}"

    def _first_of_each_kind(self) -> list[PendingJob]:
        """Of waiting jobs that differ only in their place in line, the first: what holds for it holds for all."""
        kinds: dict[tuple[object, ...], PendingJob] = {}
        for job in self.waiting:
            starved = self.starved(job)
            key: tuple[object, ...] = (
                job.tenant,
                job.priority,
                job.alternatives,
                job.workers_min,
                job.constraints,
                job.time_limit_s,
            )
            key = (*key, job.name, job.reservation, job.beside, starved, type(self.reasons[job.job_id]))
            if key not in kinds or self.is_before(job, kinds[key]):
                kinds[key] = job
        return list(kinds.values())

    def _passed_over(self, job: PendingJob, start: Start, reason: Reason) -> bool:
        """Whether `job`, which waits, could have had what the later `start` took; unless that is backfill."""
        passer = self.pending[start.job_id]
        if passer.reservation is not None and passer.reservation != job.reservation:
            return False  # on nodes that are kept for its like
        behind = isinstance(reason, BehindReservation | NodesReserved | WaitingForVictims)
        if behind and self.end_s(passer, self.now_s) < self.end_s(job, self.now_s):
            return False
        if self.policy.backfill == "none" and behind and wants_devices(job) != wants_devices(passer):
            return False  # what is closed is one kind of resource
        return self.surely_fits(Room.only(start.placements), job)

    # ---- promises ----------------------------------------------------------------------------------------------------

    def _check_promises(self) -> None:
        """What a job is promised or expected to get it can have: at that time there is room for its gang beside all
        that started in this pass. So no backfill delayed it."""
        expected = sorted(self.plan.expected_start_s.items(), key=lambda each: each[1])
        leaving = sorted(self.running.values(), key=self.leaves_s)
        room = self.after.copy()
        starts = sorted(self.plan.starts, key=lambda start: self.end_s(self.pending[start.job_id], self.now_s))
        for job_id, start_s in expected:
            assert self.now_s <= start_s < math.inf, f"job {job_id} is expected to start at {start_s}"
            while leaving and self.leaves_s(leaving[0]) <= start_s:
                room.give(self.cluster.held(leaving.pop(0).job_id))
            while starts and self.end_s(self.pending[starts[0].job_id], self.now_s) <= start_s:
                room.give(starts.pop(0).placements)
            job = self.pending[job_id]
            assert self.might_fit(room, job, start_s), (
                f"job {job_id} is expected to start at {start_s}, but there is no room for it then: {job}"
            )

    # ---- victims -----------------------------------------------------------------------------------------------------

    def _check_victims(self) -> None:
        gone: set[str] = set()
        staying = self.used(staying=True) + self.given()
        for preempt in self.plan.preemptions:
            job = self.pending.get(preempt.for_job)
            assert job is not None, f"job {preempt.for_job} preempts but does not wait"
            assert job.job_id not in self.started, f"job {job.job_id} both starts and preempts"
            self._check_preemptor(job)
            reason = self.reasons[job.job_id]
            said = isinstance(reason, WaitingForVictims) and set(preempt.victims) <= set(reason.victims)
            assert said, f"job {job.job_id} preempts {preempt.victims}, but waits for {reason}"
            assert preempt.victims, f"job {job.job_id} preempts nobody"
            for victim_id in preempt.victims:
                assert victim_id not in gone, f"job {victim_id} is a victim twice"
                gone.add(victim_id)
                assert victim_id in self.running, f"victim {victim_id} of job {job.job_id} does not run"
                self._check_victim(job, self.running[victim_id])
            equal = [self.running[v] for v in preempt.victims if self.running[v].priority == job.priority]
            self._check_reclaimed(job, equal, staying)
            for victim_id in preempt.victims:
                victim = self.running[victim_id]
                staying[victim.tenant, victim.simulated] -= held_milli(victim.placements)
        room = self.after.copy()
        for running in self.running.values():
            if running.job_id in self.victims or self.leaves_s(running) <= self.now_s:
                room.give(self.cluster.held(running.job_id))
        for preempt in self.plan.preemptions:
            job = self.pending[preempt.for_job]
            assert self.might_fit(room, job, self.now_s), f"{preempt} makes no room for the whole of {job}"

    def _check_preemptor(self, job: PendingJob) -> None:
        assert self.policy.preemption, f"job {job.job_id} preempts, and nobody may"
        assert job.may_preempt, f"job {job.job_id} may not preempt"
        own = self.reservation(job)
        out = job.reservation is not None and (own is None or own.start_s > self.now_s)
        assert not out, f"job {job.job_id} preempts before its reservation {job.reservation} begins"

    def _check_victim(self, job: PendingJob, victim: RunningJob) -> None:
        who = f"victim {victim.job_id} of job {job.job_id}"
        assert victim.priority <= job.priority, f"{who} has priority {victim.priority}, its preemptor {job.priority}"
        polite = job.priority in self.policy.non_preempting and not job.holds_slo
        assert not polite or victim.priority < 0, f"job {job.job_id} of priority {job.priority} may not preempt {who}"
        assert not victim.stopping, f"{who} is stopping already"
        assert self.limit_end_s(victim) > self.now_s, f"{who} is past its time limit and leaves anyway"
        ran_s = self.now_s - victim.started_s
        enough = not victim.preemptions or ran_s >= self.policy.min_run_before_preemption_s
        assert enough, f"{who} was preempted {victim.preemptions} times before and has run {ran_s} s since"

    def _check_reclaimed(
        self, job: PendingJob, victims: list[RunningJob], staying: Mapping[tuple[str, bool], int]
    ) -> None:
        """Victims of the job's own class: only what others hold over their guarantee, for a tenant within its own."""
        if not victims:
            return
        used = self.used()[job.tenant, is_simulated(job)] + sum(
            held_milli(start.placements)
            for start in self.plan.starts
            if (self.pending[start.job_id].tenant, is_simulated(self.pending[start.job_id]))
            == (job.tenant, is_simulated(job))
            and self.is_before(self.pending[start.job_id], job)
        )
        guaranteed = self.policy.tenant(job.tenant).guaranteed_milli
        assert 0 < used + least_milli(job) <= guaranteed, (
            f"job {job.job_id} takes {[v.job_id for v in victims]} of its own class, but its tenant holds {used} "
            f"of {guaranteed} guaranteed thousandths"
        )
        by_account: dict[tuple[str, bool], list[int]] = {}
        for victim in victims:
            assert victim.tenant != job.tenant, f"job {job.job_id} reclaims job {victim.job_id} of its own tenant"
            assert victim.simulated == is_simulated(job), f"job {job.job_id} reclaims {victim.job_id} of another ledger"
            by_account.setdefault((victim.tenant, victim.simulated), []).append(held_milli(victim.placements))
        for (tenant, simulated), held in by_account.items():
            # Whoever went last, its tenant still held more than its guarantee before.
            left = staying[tenant, simulated] - sum(held) + max(held)
            over = left > self.policy.tenant(tenant).guaranteed_milli
            assert over, f"job {job.job_id} reclaims {held} from tenant {tenant}, which is within its guarantee: {left}"

    # ---- what running jobs give back, and what they gain -------------------------------------------------------------

    def _check_releases(self) -> None:
        shrinking = {
            job.job_id
            for job in self.running.values()
            if not job.stopping and job.workers_wanted is not None and job.workers_wanted < len(job.placements)
        }
        told = [release.job_id for release in self.plan.releases]
        assert sorted(told) == sorted(shrinking), f"{sorted(told)} release workers, {sorted(shrinking)} want fewer"
        for release in self.plan.releases:
            job = self.running[release.job_id]
            workers = {placement.worker for placement in job.placements}
            assert job.workers_wanted is not None, job
            exact = len(set(release.workers)) == len(release.workers) == len(workers) - job.workers_wanted
            exact = exact and set(release.workers) <= workers
            assert exact, f"{release} of {sorted(workers)}: {job.workers_wanted} wanted"

    def _check_resizes(self) -> None:
        grown = [resize.job_id for resize in self.plan.resizes]
        assert len(set(grown)) == len(grown), f"a job is resized twice: {grown}"
        assert len(grown) <= 1, f"more than one job grows in a pass: {grown}"
        for resize in self.plan.resizes:
            job = self.running[resize.job_id]
            count = len(job.placements)
            assert job.workers_max is not None, f"job {job.job_id} cannot grow"
            assert count < resize.workers <= job.workers_max, f"{resize}: from {count} of at most {job.workers_max}"
            leaves = job.stopping or job.job_id in self.victims
            assert not leaves, f"job {job.job_id} leaves, and is to grow"
            ran_s = self.now_s - job.started_s
            assert ran_s >= self.policy.min_run_before_growth_s, f"job {job.job_id} ran {ran_s} s and is to grow"
            self._check_growth(job, resize.workers - count)

    def _check_growth(self, job: RunningJob, more: int) -> None:
        """There is room, by the tenant's quota too, on nodes that no waiting job could use."""
        nodes = [
            node
            for node in self.schedulable()
            if not any(serves(node, demand) for other in self.waiting for demand in other.alternatives)
        ]
        found = sum(self.after.workers(node, demand) for node in nodes for demand in job.alternatives)
        assert found >= more, f"job {job.job_id} is to grow by {more}, but {found} find room that nobody waits for"
        maximum = self.policy.tenant(job.tenant).maximum_milli
        if maximum is not None:
            account = (job.tenant, job.simulated)
            used = self.used()[account] + self.given()[account]
            least = more * min(demand.milli for demand in job.alternatives)
            assert not least or used + least <= maximum, f"job {job.job_id} is to grow past its tenant's {maximum}"
