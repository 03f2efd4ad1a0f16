"""What `suanli doctor` says of one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """`mend` is empty when nothing need be done. Only "bad" makes the command fail."""

    check: str
    verdict: Literal["ok", "note", "bad"]
    found: str
    mend: str = ""
