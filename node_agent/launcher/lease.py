"""Until when may lease-bound runs go on? The rule by which a renewal counts, and no clock.

All times are seconds of the node's own CLOCK_BOOTTIME. A renewal names the reading that the service last heard of that
clock, and the lease runs from there: however long the renewal was on its way, the service, which counts from when it
sent it, never believes a run dead that may still live. Clocks need not agree, only run equally fast (Gray and Cheriton,
"Leases: An Efficient Fault-Tolerant Mechanism for Distributed File Cache Consistency", SOSP 1989).
"""

from __future__ import annotations


class Lease:
    """`until` is its end. `lapsed` is True from when the end was acted upon until a renewal reaches into the future.

    `stamp_s` is the newest reading that a renewal under the present epoch named; None: there was none.
    """

    def __init__(self, lease_s: float, until: float, stamp_s: float | None) -> None:
        self.lease_s = lease_s
        self.until = until
        self.stamp_s = stamp_s
        self.lapsed = False

    def renew(self, lease_s: float, stamp_s: float, now: float) -> bool:
        """Whether it counts. An older stamp than the newest was overtaken on its way: it changes nothing."""
        stamp_s = min(stamp_s, now)  # nobody can have heard the future
        if self.stamp_s is not None and stamp_s < self.stamp_s:
            return False
        self.lease_s, self.stamp_s, self.until = lease_s, stamp_s, stamp_s + lease_s
        if self.until > now:
            self.lapsed = False
        return True

    def new_epoch(self) -> None:
        """Another service commands: what the one before had heard binds it not."""
        self.stamp_s = None
