"""The agent's events, numbered, until the service has committed them: at least once, in order, never lost while the
agent lives. Without I/O; `event_log.py` waits on it.
"""

from __future__ import annotations

from collections import deque

from node_agent.messages import Event, NumberedEvent

BATCH_EVENTS = 1000


class NumberedEvents:
    """Numbers grow by one from `first_seq`, which lies above all numbers of earlier incarnations: a reader who asks
    with an old number loses nothing.
    """

    def __init__(self, incarnation: str, first_seq: int) -> None:
        self.incarnation = incarnation
        self.last_seq = first_seq
        self._events: deque[NumberedEvent] = deque()

    def __len__(self) -> int:
        return len(self._events)

    def append(self, event: Event) -> None:
        self.last_seq += 1
        self._events.append(NumberedEvent(self.last_seq, event))

    def drop(self, seq: int) -> None:
        """Everything up to `seq` is committed."""
        while self._events and self._events[0].seq <= seq:
            self._events.popleft()

    def has_after(self, seq: int) -> bool:
        return bool(self._events) and self._events[-1].seq > seq

    def after(self, seq: int) -> tuple[NumberedEvent, ...]:
        """Those after `seq`, the first so many of them."""
        return tuple([numbered for numbered in self._events if numbered.seq > seq][:BATCH_EVENTS])
