"""How many examples a property is tried on.

In `make test` hypothesis draws the same ones in each run (tests/conftest.py): they tell whether what held still holds,
and more of them tell little more. By night new ones are drawn, and that is what finds anything: so five times as many.
"""

from __future__ import annotations

import os

SEARCHING = os.environ.get("SUANLI_HYPOTHESIS") == "searching"


def examples(by_day: int) -> int:
    return 5 * by_day if SEARCHING else by_day
