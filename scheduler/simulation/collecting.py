"""How often does Python look for cycles while a simulation makes objects by the hundred thousand and keeps them all?"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Objects more than before when Python next looks, of which few are in cycles: each time it walks over much of the
# workload and the journal, which at its own setting is half of reading a workload and a twentieth of a replay.
_COLLECT_AFTER = 50_000


@contextmanager
def rarely_collecting() -> Iterator[None]:
    """Within it, less often; afterwards as before."""
    thresholds = gc.get_threshold()
    gc.set_threshold(_COLLECT_AFTER, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
