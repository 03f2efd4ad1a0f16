"""How answers look: one small table type, aligned plain text in a pipe, rich on a terminal, JSON with a schema's name.

rich is imported only where the output is a terminal. Text that came from others (job names, messages, log tails) loses
its control characters, so that no job can move an operator's cursor or recolour a state.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

GAP = 2
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")
STATE_STYLES: Mapping[str, str] = {
    "pending": "yellow",
    "starting": "cyan",
    "running": "green",
    "preempting": "magenta",
    "succeeded": "dim green",
    "failed": "bold red",
    "cancelled": "dim",
    "ready": "green",
    "draining": "yellow",
    "down": "bold red",
    "ok": "green",
    "note": "yellow",
    "bad": "bold red",
}


@dataclass(frozen=True, slots=True)
class Column:
    """`folds`: may be broken over lines, down to `least` characters. `shed`: on a terminal too narrow for all columns
    those with the highest number go first; 0 stays always."""

    title: str
    right: bool = False
    folds: bool = False
    least: int = 24
    shed: int = 0
    styled: bool = False  # its words are coloured by STATE_STYLES


@dataclass(slots=True)
class Table:
    """Columns (a plain title is a column that folds nothing) and rows of texts; an empty cell is shown as `-`."""

    columns: Sequence[Column | str]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.columns = [_column(given) for given in self.columns]

    def add(self, *cells: object) -> None:
        assert len(cells) == len(self.columns), (cells, self.columns)
        self.rows.append(tuple(one_line(str(cell)) if cell not in (None, "") else "-" for cell in cells))

    def typed_columns(self) -> list[Column]:
        return [_column(column) for column in self.columns]


def _column(given: Column | str) -> Column:
    return Column(given) if isinstance(given, str) else given


def safe(text: str) -> str:
    """Several lines for a terminal, without anything that steers it."""
    return _CONTROL.sub("�", text.replace("\r\n", "\n").replace("\t", "    "))


def one_line(text: str) -> str:
    return " ".join(safe(text).split())


def width_of(text: str) -> int:
    """Cells on a terminal: wide East Asian characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def plain(table: Table) -> str:
    """Aligned columns, two spaces apart, one line a row: for pipes."""
    columns = table.typed_columns()
    lines = [tuple(column.title for column in columns), *table.rows]
    widths = [max(width_of(line[i]) for line in lines) for i in range(len(columns))]
    text = ""
    for line in lines:
        cells = []
        for column, cell, width in zip(columns, line, widths, strict=True):
            space = " " * (width - width_of(cell))
            cells.append(space + cell if column.right else cell + space)
        text += (" " * GAP).join(cells).rstrip() + "\n"
    return text


def columns_that_fit(table: Table, terminal_width: int) -> list[int]:
    """Indices of the columns to show: sheds the most expendable until the rest fits."""
    columns = table.typed_columns()
    needs = []
    for index, column in enumerate(columns):
        natural = max([width_of(column.title), *(width_of(row[index]) for row in table.rows)])
        needs.append(min(natural, max(column.least, width_of(column.title))) if column.folds else natural)
    kept = list(range(len(columns)))
    while sum(needs[i] for i in kept) + GAP * (len(kept) - 1) > terminal_width:
        expendable = [i for i in kept if columns[i].shed]
        if not expendable:
            break
        kept.remove(max(expendable, key=lambda i: columns[i].shed))
    return kept


def show_table(table: Table) -> None:
    if sys.stdout.isatty():
        _show_rich(table)
    else:
        click.echo(plain(table), nl=False)


def show_json(name: str, payload: Mapping[str, Any]) -> None:
    """One document named `suanli/NAME/1`; indented for eyes, on one line for programs."""
    document = {"schema": f"suanli/{name}/1"} | dict(payload)
    indent = 2 if sys.stdout.isatty() else None
    click.echo(json.dumps(document, ensure_ascii=False, indent=indent))


def show_pairs(pairs: Sequence[tuple[str, object]]) -> None:
    """`name:  value` lines with the values aligned; pairs without a value are left out."""
    given = [(name, safe(str(value))) for name, value in pairs if value not in (None, "")]
    width = max((width_of(name) for name, _ in given), default=0) + 1
    for name, value in given:
        label = f"{name}:" + " " * (width - width_of(name) - 1)
        first, *more = value.split("\n")
        click.echo(f"{click.style(label, bold=True)} {first}")
        for line in more:
            click.echo(" " * (width + 1) + line)


def hint(text: str) -> None:
    """A remark for a person at a terminal, never part of the output."""
    if sys.stderr.isatty():
        click.echo(click.style(text, dim=True), err=True)


def _show_rich(table: Table) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(highlight=False, emoji=False, markup=False)
    columns = table.typed_columns()
    kept = columns_that_fit(table, console.width)
    shown = RichTable(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for index in kept:
        column = columns[index]
        shown.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not column.folds,
            overflow="fold",
        )
    for row in table.rows:
        cells = []
        for index in kept:
            style = STATE_STYLES.get(row[index], "") if columns[index].styled else ""
            cells.append(Text(row[index], style=style))
        shown.add_row(*cells)
    console.print(shown)
    hidden = [column.title for index, column in enumerate(columns) if index not in kept]
    if hidden:
        hint(f"{', '.join(hidden)} not shown: the terminal is {console.width} columns wide (-o json has all)")
