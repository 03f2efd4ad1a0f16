"""Python's garbage collector, set for a process that lives long and must answer at once.

A full collection looks at every object there is: with the modules of a service and ten thousand jobs that held the
planning loop up for 140 ms, several times a minute under load. What is there after the start stays for good, so it is
left out, and the rest is looked at more seldom.
"""

from __future__ import annotations

import gc

_THRESHOLDS = (50_000, 20, 100)


def spare_what_stays() -> None:
    """To be called once, when the process has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
