"""Of what earlier attempts saved, what does a run go on from? The rule alone; `resume.py` looks at the files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from node_agent.messages import RunKey

ATTEMPT_NAME = re.compile(r"attempt-([0-9]{1,9})")


def attempt_number(directory: str) -> int | None:
    """By the last part of its name."""
    found = ATTEMPT_NAME.fullmatch(directory.rstrip("/").rpartition("/")[2])
    return None if found is None else int(found[1])


def newest_saved(
    told: str | None, key: RunKey, job_directory: str, attempts: Iterable[int], holds: Callable[[str], bool]
) -> str | None:
    """The directory of the newest attempt before `key`'s that holds a checkpoint, where it is newer than the one that
    the service was `told` of; else that one. `attempts`: those that have a directory."""
    if key.attempt <= 1:
        return told
    known = 0 if told is None else attempt_number(told) or 0
    for number in sorted(attempts, reverse=True):
        directory = f"{job_directory}/attempt-{number}"
        if known < number < key.attempt and holds(directory):
            return directory
    return told
