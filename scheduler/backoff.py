"""How long to wait before something that died is started again. Pure: times are arguments."""

from __future__ import annotations

FIRST_S = 0.1
LONGEST_S = 30.0
STEADY_S = 20.0


class Backoff:
    """Of one part. What has run steadily is started again at once; what dies again and again waits 0.1 s, 0.2 s, 0.4 s
    and so on, and never longer than `longest_s`.
    """

    def __init__(self, *, first_s: float = FIRST_S, longest_s: float = LONGEST_S, steady_s: float = STEADY_S) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._steady_s = steady_s
        self.quick_deaths = 0
        """Deaths in a row, each sooner than `steady_s` after its start."""

    def after_death(self, ran_s: float) -> float:
        """Seconds to wait before the next start, of a part that died after it had run for `ran_s`."""
        if ran_s >= self._steady_s:
            self.quick_deaths = 0
            return 0.0
        self.quick_deaths += 1
        return min(self._longest_s, self._first_s * 2.0 ** min(self.quick_deaths - 1, 30))
