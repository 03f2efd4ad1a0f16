"""What tests of several verbs say to the shell, and how they read its tables."""

from __future__ import annotations

import re

FLAGS = ("--name", "x", "--time-limit", "60", "--", "true", "-q", "--wait")


def rows(text: str) -> list[list[str]]:
    """Cells of a plain table: columns are two or more spaces apart."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()]
