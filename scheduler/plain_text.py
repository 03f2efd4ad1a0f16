"""Which texts can every store take? What processes write ends up in texts, so anything can be in them.

No database takes half of a surrogate pair, and PostgreSQL takes no NUL: both are spelled out as escapes rather than let
one run's last words hold up every commit.
"""

from __future__ import annotations


def plain_text(text: str) -> str:
    """The text as every database takes it: `\\u0000` for NUL, `\\udc80` for half of a surrogate pair."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\u0000")
