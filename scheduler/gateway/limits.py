"""How many requests should one replica hold at a time? As few as keep it busy. Pure.

Little's law (Little 1961): a replica that holds n requests and takes R(n) seconds for each answers X(n) = n / R(n) a
second. R(n) is kept for every n that was seen (exponentially weighted), and the limit climbs to the knee of X: the
smallest n with nearly (`KNEE`) the best rate. That is one for a replica that takes requests in turn, for there a second
one only waits; a batch for one that batches; many for one that computes nothing.

Only powers of two are stood on: batches are of such sizes, and a batch and a bit is worse than either. What is left or
right of where it stands is found out by trying, while requests wait: twice as many for a while, or half as many, kept
where that is better (the multiplicative probing of limits by gradient; Netflix, concurrency-limits, 2018). Trials that
bring nothing become rarer. At first, while nothing is known, each step takes one round only (slow start, Jacobson
1988).
"""

from __future__ import annotations

START = 2
CEILING = 64
KNEE = 0.9
QUICK_S = 0.002  # as much work as a replica may hold in any case: nobody minds waiting for it
TRIAL = 24  # answers at a level before it is judged
FIRST_PAUSE = 64  # answers between one trial and the next; doubles while they bring nothing
LONGEST_PAUSE = 4096
WEIGHT = 1 / TRIAL


class InFlightLimit:
    """`limit`: what the replica may hold now. Tell it each answer with `answered`."""

    __slots__ = ("_ceiling", "_pause", "_seen", "_settled", "_starts", "_taken_s", "_until_trial", "_up_next", "limit")

    def __init__(self, *, ceiling: int = CEILING) -> None:
        self._ceiling = ceiling
        self._taken_s = [0.0] * (ceiling + 1)  # R(n), seconds; 0 is unknown
        self._seen = [0] * (ceiling + 1)  # answers that R(n) is made of, since it was last on trial
        self._starts = True
        self._settled = min(START, ceiling)
        self._until_trial = 0
        self._pause = 0
        self._up_next = True
        self.limit = self._settled

    def answered(self, held: int, taken_s: float, *, waiting: bool, fed: bool) -> None:
        """An answer took `taken_s` where the replica held `held` requests, this one among them, when it was sent.
        `waiting`: more would have been sent if they might. `fed`: it was sent when another one's answer came; one that
        came by itself found what was being computed half done, on average, and half of one's time is missing."""
        if not fed and held > 1:
            taken_s *= held / (held - 0.5)
        if held > self._ceiling:
            held = self._ceiling
        known_s = self._taken_s[held]
        seen = self._seen[held] = self._seen[held] + 1
        # The first ones weigh alike, so that a single first one does not stand for long.
        weight = WEIGHT if seen > TRIAL else 1.0 / seen
        self._taken_s[held] = known_s + weight * (taken_s - known_s)
        if not waiting or held != self.limit:
            return
        if self._taken_s[held] < QUICK_S and held < self._ceiling:
            if seen >= held:
                self._settled = self.limit = min(self._ceiling, 2 * self.limit)
        elif self._until_trial > 0:
            self._until_trial -= 1
        elif self._starts:
            if seen >= held:
                self._start_on()
        elif self.limit == self._settled:
            if seen >= TRIAL:
                self._try()
        elif seen >= max(TRIAL, held):
            self._judge()

    def rate_per_s(self) -> float | None:
        """How many answers a second it gives when it holds as many as it may; None while nothing is known."""
        for held in range(self.limit, 0, -1):
            if taken_s := self._taken_s[held]:
                return held / taken_s
        return None

    def _rate(self, held: int) -> float:
        taken_s = self._taken_s[held]
        return held / taken_s if taken_s else 0.0

    def _quick(self, held: int) -> bool:
        return 0.0 < self._taken_s[held] < QUICK_S

    def _start_on(self) -> None:
        """As far up as every doubling brings something; then back to the smallest level that is nearly as good."""
        before = self.limit // 2
        if self.limit < self._ceiling and self._rate(self.limit) * KNEE > self._rate(before):
            self._settled = self.limit = min(self._ceiling, 2 * self.limit)
            return
        levels = [1 << power for power in range(self.limit.bit_length())]
        quick = max((level for level in levels if self._quick(level)), default=1)
        levels = [level for level in levels if level >= quick]
        best = max(self._rate(level) for level in levels)
        self._settled = next(level for level in levels if self._rate(level) >= KNEE * best)
        self.limit = self._settled
        self._starts = False
        self._until_trial = self._pause = FIRST_PAUSE

    def _try(self) -> None:
        up = self._up_next or self._settled == 1
        self._up_next = not up
        level = min(self._ceiling, 2 * self._settled) if up else self._settled // 2
        if level != self._settled and (up or not self._quick(level)):
            self.limit = level
            self._taken_s[level], self._seen[level] = 0.0, 0

    def _judge(self) -> None:
        tried, settled = self._rate(self.limit), self._rate(self._settled)
        if (tried * KNEE > settled) if self.limit > self._settled else (tried >= settled * KNEE):
            self._up_next = self.limit > self._settled
            self._settled = self.limit
            self._until_trial = self._pause = 0
        else:
            self.limit = self._settled
            self._until_trial = self._pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * self._pause))
