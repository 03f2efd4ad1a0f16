"""How many files may a process hold open, and is that enough for the service of a large site?

The service holds two connections to every agent, and some to gateways, callers and its store: at 1,250 nodes more than
3,000. What a shell hands down is often 1,024, while the hard limit, up to which every process may go by itself, is far
above it.
"""

from __future__ import annotations

import resource

ENOUGH = 8_192
"""For 1,250 nodes, and twice as much again."""


def raise_to_hard_limit() -> None:
    """What this process and those that it starts from now on may hold open. Never less than before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # a hard limit above what the kernel grants: what there was remains
        return


def hard_limit() -> int | None:
    """None: there is none."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return None if hard == resource.RLIM_INFINITY else hard
