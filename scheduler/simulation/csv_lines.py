"""The data lines of a CSV file with column titles, and refusals that name the file, the line and the column."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scheduler.errors import BadInput


@dataclass(frozen=True, slots=True)
class CsvLine:
    path: Path
    number_in_file: int
    cells: dict[str, str]

    def refused(self, column: str, why: str) -> BadInput:
        return BadInput(f"{self.path}, line {self.number_in_file}, column {column}: {why}", field=column)

    def text(self, column: str, *, may_be_empty: bool = False) -> str:
        cell = self.cells.get(column, "")
        if not (cell or may_be_empty):
            raise self.refused(column, "empty")
        return cell

    def number(self, column: str, largest: int) -> int:
        cell = self.text(column)
        try:
            value = int(cell.removesuffix(".0"))
        except ValueError:
            raise self.refused(column, f"{cell[:40]!r} is not a whole number") from None
        if not 0 <= value <= largest:
            raise self.refused(column, f"{value} is not between 0 and {largest}")
        return value

    def has(self, column: str) -> bool:
        """Whether anything is written there."""
        return bool(self.cells.get(column))

    def real(self, column: str, low: float, high: float) -> float:
        """A number between the two, both included."""
        cell = self.text(column)
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise self.refused(column, f"expected a number from {low:g} to {high:g}; got {cell[:40]!r}")
        return value

    def one_of(self, column: str, names: Sequence[str]) -> str:
        cell = self.text(column)
        if cell not in names:
            from scheduler.schema.problems import did_you_mean, nearest  # pydantic comes with it: only to complain

            raise self.refused(
                column, f"expected one of {', '.join(names)}; got {cell[:40]!r}{did_you_mean(nearest(cell, names))}"
            )
        return cell


def titles_of(path: Path) -> tuple[str, ...]:
    """The column titles, as the file's first line has them. Raises BadInput where it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return tuple(title.strip() for title in next(csv.reader(file, strict=True), []))
    except csv.Error as error:
        raise BadInput(f"{path}, line 1: {error}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not a CSV file in UTF-8 ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None


def lines(path: Path, needed: Sequence[str]) -> Iterator[CsvLine]:
    """The data lines, cells by column title. Blank lines are passed over."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            titles = [title.strip() for title in next(reader, [])]
            for column in needed:
                if column not in titles:
                    raise BadInput(
                        f"{path}, line 1: there is no column {column}; needed: {','.join(needed)}", field=column
                    )
            for cells in reader:
                if not cells:
                    continue
                if len(cells) > len(titles):
                    raise BadInput(f"{path}, line {reader.line_num}: {len(cells)} cells under {len(titles)} titles")
                stripped = (cell.strip() for cell in cells)
                yield CsvLine(path, reader.line_num, dict(zip(titles, stripped, strict=False)))
    except csv.Error as error:
        raise BadInput(f"{path}, line {reader.line_num}: {error}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not a CSV file in UTF-8 ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
