"""How are the runs of one document named and said in one language? What tables and figures share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from string import ascii_uppercase

from scheduler.simulation.page.facts import Document, Run
from scheduler.simulation.page.numbers import Numbers
from scheduler.simulation.page.svg import fit
from scheduler.simulation.page.words import Words

NAME_LETTERS = 44


@dataclass(frozen=True, slots=True)
class Telling:
    document: Document
    w: Words
    n: Numbers

    @property
    def several(self) -> bool:
        return len(self.document.runs) > 1

    @property
    def base(self) -> str:
        return self.named(0)

    @property
    def resized(self) -> bool:
        """Whether the runs had clusters of different size."""
        return len({run.devices for run in self.document.runs}) > 1

    def letter(self, slot: int) -> str:
        """A run's short name in charts and tables; a run alone needs none."""
        return ascii_uppercase[slot % 26] if self.several else ""

    def full_name(self, slot: int) -> str:
        return f"{self.letter(slot)} {self.document.runs[slot].name}".strip()

    def named(self, slot: int) -> str:
        """Cut where it is long: the letter tells runs apart, and the table of runs has the whole name."""
        return f"{self.letter(slot)} {fit(self.document.runs[slot].name, NAME_LETTERS)}".strip()

    def runs(self) -> Iterable[tuple[int, Run]]:
        return enumerate(self.document.runs)

    def class_title(self, name: str) -> str:
        return self.document.title("classes", name, self.w.language)

    def tenant_title(self, name: str) -> str:
        return self.document.title("tenants", name, self.w.language)

    def site_title(self, name: str) -> str:
        return self.document.title("sites", name, self.w.language)


def keys_of(mappings: Iterable[Mapping[str, object]]) -> list[str]:
    """All their keys, in the order in which they are met."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))
