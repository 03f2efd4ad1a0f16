"""What a service is made of, and whether its new version may go on taking requests.

A *service* is a tenant's name. Each *version* of it is a job. At rest one version is live. A *rollout* moves the
requests from one version to another in steps, or goes back.

**The rule** (`judge`). Two things are looked at, errors and answers that came later than the SLO allows, of the
requests since the step began. A version is given up when both hold for one of them:

1. It does worse than the one that it replaces: Fisher's exact test, one-sided (Fisher, "Statistical Methods for
   Research Workers", 1934; Agresti, "Categorical Data Analysis", 3.5): of all errors that the two made, so many or
   more would fall to the new one by chance with a probability below the limit. It is exact for the small counts of a 5
   % canary.
2. Lateness counts only where it breaks the SLO: more than 1 % late, one-sided binomial test at the same limit.

The limit is 0.001 while the step lasts, as it is asked at every report (some hundred looks at growing counts raise the
chance of a false alarm, by less than a factor of ten: Armitage, McPherson and Rowe, JRSS A 132(2), 1969), and 0.05 for
the one look at its end. The figures of the replaced version are those of the same step; where it had less than
`min_requests` in it (the last step leaves it none) those of the whole rollout. Where nothing at all is known of it, 1
% of errors is taken for what is usual.

A step without enough requests is prolonged up to `PATIENCE` times; what came by then is judged as it is.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from scheduler.core.jobs import Canary

EARLY_LIMIT = 0.001
FINAL_LIMIT = 0.05
LATE_ALLOWED = 0.01
USUAL_ERRORS = 0.01
PATIENCE = 10
WHOLE = 1000
"""All requests, in thousandths."""

VersionState = Literal["starting", "canary", "live", "stopped", "rolled back", "failed", "gone"]


@dataclass(frozen=True, slots=True)
class Version:
    """`state`: `starting` takes no requests yet, `canary` takes a part, `live` is the one that the service is;
    `stopped` was live before and can be again; `rolled back` was given up because of `why`; of `failed` the job has
    ended; `gone` is too old to be kept."""

    number: int
    job_id: str
    by: str
    at_s: float
    state: VersionState = "starting"
    why: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """Version `to` takes over from `base` (None: there was none that could serve). `step` is the index of the share
    that it takes now; -1: none yet. `since_s`: when this step began, or the wait for its replicas (`waits_for` > 0: so
    many are to be ready before the next step). `keep`: replicas that `base` is to keep meanwhile."""

    to: int
    base: int | None
    canary: Canary
    since_s: float
    step: int = -1
    keep: int = 0
    back: bool = False
    """To a version that was live before: at once, and unjudged."""

    @property
    def share_milli(self) -> int:
        """Of all requests, in thousandths."""
        return 0 if self.step < 0 else self.canary.steps[self.step] * WHOLE // 100

    @property
    def next_milli(self) -> int | None:
        """After the next step; None at the last."""
        following = self.step + 1
        return self.canary.steps[following] * WHOLE // 100 if following < len(self.canary.steps) else None


@dataclass(frozen=True, slots=True)
class Deployed:
    """A service: its versions by number, and the rollout that is under way. `deleted`: it goes when its jobs have
    gone."""

    tenant: str
    name: str
    versions: tuple[Version, ...]
    rollout: Rollout | None = None
    deleted: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return self.tenant, self.name

    def version(self, number: int) -> Version:
        return next(each for each in self.versions if each.number == number)

    def version_of(self, job_id: str) -> Version | None:
        return next((each for each in self.versions if each.job_id == job_id), None)

    @property
    def live(self) -> Version | None:
        return next((each for each in self.versions if each.state == "live"), None)

    def weight(self, number: int) -> int:
        """The version's part of the requests, in thousandths. Those of all versions add up to 1000 or, of a service
        that has nothing to serve with, 0."""
        if self.deleted:
            return 0
        if self.rollout is not None:
            if number == self.rollout.to:
                return WHOLE if self.rollout.base is None and self.rollout.step < 0 else self.rollout.share_milli
            return WHOLE - self.rollout.share_milli if number == self.rollout.base else 0
        return WHOLE if self.version(number).state == "live" else 0


# ---- the rule ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of requests: `errors` of `answered + errors`, `late` of `answered`."""

    answered: int = 0
    errors: int = 0
    late: int = 0

    def plus(self, other: Figures) -> Figures:
        return Figures(self.answered + other.answered, self.errors + other.errors, self.late + other.late)

    @property
    def requests(self) -> int:
        return self.answered + self.errors


@dataclass(frozen=True, slots=True)
class Verdict:
    """`go back` because of `what`, `go on` to the next step, or `wait`. `chance`: how probable figures as bad as
    `new`'s would be if it were no worse than `old`, and the limit that they are held to."""

    word: Literal["go back", "go on", "wait"]
    what: Literal["errors", "late answers", ""]
    new: Figures
    old: Figures
    chance: float
    limit: float

    @property
    def text(self) -> str:
        if self.what == "errors":
            seen = _part(self.new.errors, self.new.requests), _part(self.old.errors, self.old.requests)
        elif self.what == "late answers":
            seen = _part(self.new.late, self.new.answered), _part(self.old.late, self.old.answered)
        else:
            late = _part(self.new.late, self.new.answered)
            return f"{_part(self.new.errors, self.new.requests)} ended in an error, {late} came late"
        return (
            f"{self.what}: {seen[0]} of the new version, {seen[1]} of the old one; by chance with probability"
            f" {self.chance:.2g}, and {self.limit:g} is the limit"
        )


def _part(some: int, of: int) -> str:
    return f"{some:,} of {of:,}" + (f" ({some / of:.2%})" if of else "")


def judge(
    canary: Canary, new: Figures, old: Figures, old_before: Figures, *, lasted_s: float, has_slo: bool
) -> Verdict:
    """Of a step that has lasted so long. `new` and `old`: since it began; `old_before`: the old version's whole
    rollout."""
    compared = old if old.requests >= canary.min_requests else old_before
    over = lasted_s >= canary.step_s and (
        new.requests >= canary.min_requests or lasted_s >= PATIENCE * max(canary.step_s, 1.0)
    )
    limit = FINAL_LIMIT if over else EARLY_LIMIT
    if compared.requests:
        chance = fisher(new.errors, new.requests, compared.errors, compared.requests)
    else:
        chance = binomial_tail(new.errors, new.requests, USUAL_ERRORS)
    if chance < limit:
        return Verdict("go back", "errors", new, compared, chance, limit)
    if has_slo and binomial_tail(new.late, new.answered, LATE_ALLOWED) < limit:
        worse = 0.0
        if compared.answered:
            worse = fisher(new.late, new.answered, compared.late, compared.answered)
        if worse < limit:
            return Verdict("go back", "late answers", new, compared, worse, limit)
    return Verdict("go on" if over else "wait", "", new, compared, chance, limit)


def fisher(bad: int, of: int, other_bad: int, other_of: int) -> float:
    """The probability that `bad` or more of all bad ones fall among the first `of`, were they dealt at random; 1 where
    that is no more than their share."""
    total_bad, total = bad + other_bad, of + other_of
    if bad * total <= total_bad * of:
        return 1.0
    scale = _log_choose(total, total_bad)
    last = min(of, total_bad)
    return _sum_down(
        math.exp(_log_choose(of, k) + _log_choose(other_of, total_bad - k) - scale)
        for k in range(bad, last + 1)
        if total_bad - k <= other_of
    )


def binomial_tail(bad: int, of: int, usual: float) -> float:
    """The probability of `bad` or more in `of` where each is bad with probability `usual`; 1 where that is no more than
    usual."""
    if bad <= of * usual:
        return 1.0
    yes, no = math.log(usual), math.log1p(-usual)
    return _sum_down(math.exp(_log_choose(of, k) + k * yes + (of - k) * no) for k in range(bad, of + 1))


def _sum_down(terms: Iterator[float]) -> float:
    """Of terms that grow smaller: until they do not count any more."""
    total = 0.0
    for term in terms:
        total += term
        if term <= 1e-12 * total:  # also where both are too small for a float
            break
    return min(1.0, total)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
