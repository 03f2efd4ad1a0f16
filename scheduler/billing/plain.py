"""Text that came from tenants (names of jobs), made fit for a document: no control characters, nothing that a
spreadsheet would take for a formula."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufffe\uffff]")
_FORMULA = ("=", "+", "-", "@")


def one_line(text: str) -> str:
    return " ".join(_CONTROL.sub(" ", text).split())


def no_formula(text: str) -> str:
    """For CSV: a spreadsheet reads an apostrophe in front as `this is text`."""
    text = one_line(text)
    return f"'{text}" if text.startswith(_FORMULA) else text
