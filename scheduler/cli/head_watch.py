"""Was the head out of reach for so long that it has given this machine up, and is it back?

Ray's own connections find that out late: lost packets are sent again after pauses that double, so a cut of 20 s is
over for them after up to 50. Pure but for `reach`.
"""

from __future__ import annotations

from collections.abc import Callable

GIVEN_UP_AFTER_S = 15.0


class HeadWatch:
    """`reach` asks the head, with a deadline of its own."""

    def __init__(self, reach: Callable[[], bool]) -> None:
        self._reach = reach
        self._away_since_s: float | None = None

    def came_back(self, now_s: float) -> bool:
        """To be asked every few seconds: True once, when the head answers after a long silence."""
        if not self._reach():
            if self._away_since_s is None:
                self._away_since_s = now_s
            return False
        away_since_s, self._away_since_s = self._away_since_s, None
        return away_since_s is not None and now_s - away_since_s >= GIVEN_UP_AFTER_S
