"""Which night does a moment belong to? One definition, for the findings over nights and for the capacity report.

A night lasts from noon to noon in China Standard Time, so that a suite which begins before midnight and ends after it
is one night. A fixed offset: China has had no other since 1991. Standard library only.
"""

from __future__ import annotations

DAY_S = 86_400.0
# Noon in UTC+8, in seconds after midnight UTC: where one night ends and the next begins.
NOON_S = 4 * 3600.0


def night_of(at_s: float) -> int:
    """Number of the night that a moment (epoch seconds) belongs to."""
    return int((at_s - NOON_S) // DAY_S)
