"""Words of a page in English and simplified Chinese: one table, two columns. For every room that writes for people.

A page's room has the table; here is how it is looked up. No arithmetic, no layout, standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

Table = Mapping[str, tuple[str, str]]
"""By key: the English words and the Chinese."""


class TwoLanguages:
    """`words("missing", pflops="700")` in one language. An unknown key is a bug: KeyError."""

    def __init__(self, table: Table, language: Language) -> None:
        self.language: Language = language
        self._table = table
        self._place = LANGUAGES.index(language)

    def __call__(self, key: str, /, **values: object) -> str:
        text = self._table[key][self._place]
        return text.format(**values) if values else text

    def or_as_given(self, prefix: str, text: str) -> str:
        """The words for a configured text where there are some (`dense 16-bit`), otherwise the text itself."""
        found = self._table.get(f"{prefix}.{text}")
        return text if found is None else found[self._place]
