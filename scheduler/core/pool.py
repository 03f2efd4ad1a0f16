"""Which nodes can serve a demand, and which of their devices."""

from __future__ import annotations

from scheduler.core.arrays import Bools, Ints


class Pool:
    """The nodes that can serve a demand, were they empty and up; and which of their devices, where not all of them.

    `nodes` is bool[nodes]; `devices` is bool[nodes, max_devices], or None when every device of those nodes will do.
    `last`, of the same shape: devices that are taken after others of their node; None: all are alike. It is not to be
    changed.
    """

    __slots__ = ("_rows", "devices", "last", "nodes")

    def __init__(self, nodes: Bools, devices: Bools | None, last: Bools | None = None) -> None:
        self.nodes = nodes
        self.devices = devices
        self.last = last
        self._rows: Ints | None = None

    @property
    def rows(self) -> Ints:
        """The same nodes as numbers, which rise: most pools are some tens of more than a thousand nodes, and what only
        asks for one of them is soon answered from these."""
        if self._rows is None:
            self._rows = self.nodes.nonzero()[0]
        return self._rows
