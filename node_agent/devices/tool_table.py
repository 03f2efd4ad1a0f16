"""Which cell of a table that a tool printed is under which name? By its header, wherever that puts its columns.

A card may take several rows; then the header has as many, and a name's row and cell are where the header has it. Cells
are divided by `|`, or there is one a line; within a cell, names and values are words in the same order. A cell with
more words than its header has names gives the surplus to the name that may have blanks in it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

RULE = re.compile(r"^[\s|+=\-_:*#]*$")
SLASH = re.compile(r"(?<=[\w%])\s*/\s*(?=\d|N/A)", re.ASCII)  # `a / b` is one word; a lone slash is another
UNIT = re.compile(r"(?<=\d)\s+(?=(?:m?W|[KMG]i?B|[MG]Hz|C|%)(?:[\s/|]|$))", re.ASCII)  # and so is `54 W`
LINES_AT_MOST = 4000
CARDS_AT_MOST = 64
LINE_CHARACTERS = 1000

Row = dict[str, str]
BLANK = "\0"


def _cells(line: str, blanks: Collection[str]) -> list[list[str]]:
    """The words of each cell. `blanks`: names of several words, which are kept together."""
    inner = line.strip()
    if "|" in inner:
        inner = inner.removeprefix("|").removesuffix("|")
    for name in blanks:
        inner = inner.replace(name, name.replace(" ", BLANK))
    inner = SLASH.sub("/", UNIT.sub("", inner))
    return [[word.replace(BLANK, " ") for word in cell.split()] for cell in inner.split("|")]


def _lines(text: str, blanks: Collection[str]) -> list[list[list[str]]]:
    lines = [line[:LINE_CHARACTERS].replace(BLANK, " ") for line in text.splitlines()[:LINES_AT_MOST]]
    return [_cells(line, blanks) for line in lines if not RULE.match(line)]


def _has(cells: Sequence[Sequence[str]], names: Sequence[Sequence[str]]) -> bool:
    """Whether a header row has each of the names, in one of its spellings."""
    there = {word.lower() for cell in cells for word in cell}
    return all(any(spelling.lower() in there for spelling in spellings) for spellings in names)


def _values(header: Sequence[Sequence[str]], line: Sequence[Sequence[str]], wide: Collection[str]) -> Row | None:
    """By name in lower case; None where the line is none of this header's. A name that comes twice keeps its first.

    A cell whose words cannot be told apart by its header has no values, rather than the wrong ones.
    """
    if len(header) != len(line):
        return None
    found: Row = {}
    for names, words in zip(header, line, strict=True):
        surplus = len(words) - len(names)
        if surplus > 0:
            place = next((i for i, name in enumerate(names) if name.lower() in wide), None)
            if place is not None:
                joined = " ".join(words[place : place + surplus + 1])
                words = [*words[:place], joined, *words[place + surplus + 1 :]]
        if len(words) == len(names):
            for name, word in zip(names, words, strict=True):
                found.setdefault(name.lower(), word)
        elif len(header) == 1:
            return None  # a line of its own, in a table without cells
    return found


def cards_in(
    text: str,
    header: Sequence[Sequence[Sequence[str]]],
    wide: Collection[str] = (),
    blanks: Collection[str] = (),
) -> list[Row]:
    """A row of values for each card. `header`: by row, the names that it is known by, each in its spellings. `wide`
    are names whose values may have blanks in them, `blanks` names that have some themselves.

    The table ends at the first line that is not of its shape. No table: no cards.
    """
    lines = _lines(text, blanks)
    height = len(header)
    may_be_wide = {name.lower() for name in wide}
    for start in range(len(lines) - height + 1):
        rows = lines[start : start + height]
        if not all(_has(row, names) for row, names in zip(rows, header, strict=True)):
            continue
        cards: list[Row] = []
        for at in range(start + height, len(lines) - height + 1, height):
            card: Row = {}
            for names, line in zip(rows, lines[at : at + height], strict=True):
                values = _values(names, line, may_be_wide)
                if values is None:
                    return cards
                card = {**values, **card}
            cards.append(card)
            if len(cards) >= CARDS_AT_MOST:
                break
        return cards
    return []
