"""How answers look: one small table type, aligned plain text in a pipe, rich on a terminal, JSON with a schema's name.

rich is imported only where the output is a terminal. Text that came from others (job names, messages, log tails) loses
its control characters, so that no job can move an operator's cursor or recolour a state.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from scheduler.cli.layout import GAP, Column, lay_out, width_of

EMPTY = "-"
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
    "drained": "yellow",
    "cordoned": "yellow",
    "reserved": "yellow",
    "paused": "yellow",
    "over": "dim",
    "upcoming": "cyan",
    "active": "green",
    "down": "bold red",
    "ok": "green",
    "note": "yellow",
    "bad": "bold red",
}


@dataclass(slots=True)
class Table:
    """Columns (a plain title makes one that folds) and rows of texts; an empty cell is shown as `-`."""

    columns: Sequence[Column | str]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.columns = [_column(given) for given in self.columns]

    def add(self, *cells: object) -> None:
        assert len(cells) == len(self.columns), (cells, self.columns)
        self.rows.append(tuple(one_line(str(cell)) if cell not in (None, "") else EMPTY for cell in cells))

    def typed_columns(self) -> list[Column]:
        return [_column(column) for column in self.columns]


def _column(given: Column | str) -> Column:
    return Column(given, folds=True) if isinstance(given, str) else given


def safe(text: str) -> str:
    """Several lines for a terminal, without anything that steers it."""
    return _CONTROL.sub("�", text.replace("\r\n", "\n").replace("\t", "    "))


def one_line(text: str) -> str:
    return " ".join(safe(text).split())


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
    """Rows as rich tables of fixed widths, so that a text below a row can stand between two of them."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(highlight=False, emoji=False, markup=False)
    columns = table.typed_columns()
    layout = lay_out(columns, table.rows, console.width)
    indent = min(layout.widths.get(0, 0) + GAP, 8)

    def rows_like(style: str = "") -> RichTable:
        part = RichTable(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=False)
        for index, width in layout.widths.items():
            column = columns[index]
            part.add_column(
                min_width=width,
                max_width=width,
                justify="right" if column.right else "left",
                no_wrap=not column.folds,
                overflow="fold" if column.folds else "ellipsis",
                style=style,
            )
        return part

    def show_below(row: Sequence[str], style: str) -> None:
        for index in layout.below:
            if row[index] != EMPTY:
                console.print(Padding(Text(row[index], style=style), (0, 0, 0, indent)))

    head = rows_like("bold")
    titles = [column.title for column in columns]
    head.add_row(*(titles[index] for index in layout.widths))
    console.print(head)
    show_below(titles, "bold dim")
    part = rows_like()
    for row in table.rows:
        styles = {i: STATE_STYLES.get(row[i], "") for i in layout.widths if columns[i].styled}
        part.add_row(*(Text(row[i], style=styles.get(i, "")) for i in layout.widths))
        if any(row[index] != EMPTY for index in layout.below):
            console.print(part)
            show_below(row, "dim")
            part = rows_like()
    if part.row_count:
        console.print(part)
    if layout.left_out:
        hint(f"not shown at {console.width} columns: {', '.join(titles[i] for i in layout.left_out)}")
