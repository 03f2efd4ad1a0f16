"""What time is it?"""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    def now_s(self) -> float:
        """Epoch seconds."""
        ...
