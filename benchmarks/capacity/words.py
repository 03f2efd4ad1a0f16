"""Every word of the capacity report, in English and simplified Chinese. No arithmetic, no layout."""

from __future__ import annotations

from typing import Literal

from benchmarks.capacity.words_goal import GOAL_WORDS
from benchmarks.capacity.words_rest import OTHER_WORDS
from benchmarks.capacity.words_tables import TABLE_WORDS

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

# One place to look a word up: a key means the same in every format.
_WORDS: dict[str, tuple[str, str]] = GOAL_WORDS | TABLE_WORDS | OTHER_WORDS


class Words:
    """`words("missing", pflops="700")` in one language. An unknown key is a bug: KeyError."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language
        self._place = LANGUAGES.index(language)

    def __call__(self, key: str, /, **values: object) -> str:
        text = _WORDS[key][self._place]
        return text.format(**values) if values else text

    def or_as_given(self, prefix: str, text: str) -> str:
        """The words for a configured text where there are some (`dense 16-bit`), otherwise the text itself."""
        found = _WORDS.get(f"{prefix}.{text}")
        return text if found is None else found[self._place]


def keys() -> frozenset[str]:
    return frozenset(_WORDS)
