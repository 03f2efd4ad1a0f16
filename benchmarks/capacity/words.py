"""Every word of the capacity report, in English and simplified Chinese. No arithmetic, no layout."""

from __future__ import annotations

from benchmarks.capacity.words_goal import GOAL_WORDS
from benchmarks.capacity.words_rest import OTHER_WORDS
from benchmarks.capacity.words_tables import TABLE_WORDS
from scheduler.two_languages import LANGUAGES, Language, TwoLanguages

__all__ = ["LANGUAGES", "Language", "Words", "keys"]

# One place to look a word up: a key means the same in every format.
_WORDS: dict[str, tuple[str, str]] = GOAL_WORDS | TABLE_WORDS | OTHER_WORDS


class Words(TwoLanguages):
    """`words("missing", pflops="700")` in one language."""

    def __init__(self, language: Language) -> None:
        super().__init__(_WORDS, language)


def keys() -> frozenset[str]:
    return frozenset(_WORDS)
