"""The kinds of value that job files and configuration share: names, counts, durations, sizes, strict and explained.

Every check is a function from what was written to what is meant; a wrong value raises pydantic's custom error whose
`expected` says in words what would have been right. Nothing is converted silently: "4" is no number, 4 is no text.
Durations come out in seconds (float), sizes in bytes (int), CPUs in thousandths (int).
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Final

from pydantic import BeforeValidator, PlainValidator
from pydantic_core import PydanticCustomError

from scheduler.errors import BadInput

MAX_TEXT_CHARS: Final = 4096
MAX_NESTING: Final = 40
MAX_DURATION_S: Final = 366 * 86400.0
DURATION_WORDS: Final = 'a duration: seconds (90) or text such as "90s", "15m", "2h30m", "3d"'
MOMENT_WORDS: Final = 'a time with its zone, such as "2026-12-01T02:00+08:00"'
MAX_LABELS: Final = 64
SIZE_WORDS: Final = 'a size: bytes (1073741824) or text such as "512MiB", "2GiB", "100MB"'

_DURATION: Final = re.compile(
    r"(?:(?P<d>\d{1,6}(?:\.\d{1,6})?)d)?(?:(?P<h>\d{1,6}(?:\.\d{1,6})?)h)?"
    r"(?:(?P<m>\d{1,9}(?:\.\d{1,6})?)m)?(?:(?P<s>\d{1,9}(?:\.\d{1,6})?)s)?",
    re.ASCII,
)
_SECONDS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_SIZE: Final = re.compile(r"(?P<number>\d{1,15}(?:\.\d{1,6})?) ?(?P<unit>[kKMGT]i?B|B)", re.ASCII)
_SCALE: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SCALE_BINARY: Final = {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
MAX_SIZE_BYTES: Final = 1 << 60


def expected(text: str, *, hide: bool = False) -> PydanticCustomError:
    """The one error that checks raise; problems.py turns it into a line. `hide` keeps a secret value out of it."""
    return PydanticCustomError("expected", "{expected}", {"expected": text, "hide": hide})


def as_text(value: object) -> str:
    """Text that is not empty and can be handed to the operating system (no NUL, no half of a surrogate pair)."""
    if isinstance(value, bool | int | float):
        raise expected("text (put it in quotes if it is meant as text)")
    if not isinstance(value, str) or not value.strip():
        raise expected("text")
    if len(value) > MAX_TEXT_CHARS:
        raise expected(f"text of at most {MAX_TEXT_CHARS} characters")
    if "\0" in value or not _encodable(value):
        raise expected("text without NUL characters or broken Unicode")
    return value


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def one_of(*names: str) -> Callable[[object], str]:
    """One of a few names that never change. (Names that configuration gives are checked in load.py and jobfile.py.)"""

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in names:
            raise PydanticCustomError(
                "expected", "{expected}", {"expected": f"one of {', '.join(names)}", "names": list(names)}
            )
        return value

    return check


def matching(pattern: str, words: str) -> Callable[[object], str]:
    """Text that matches the whole of `pattern` (ASCII); `words` says it in words."""
    compiled = re.compile(pattern, re.ASCII)

    def check(value: object) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise expected(words)
        return value

    return check


def whole(low: int, high: int) -> Callable[[object], int]:
    """A whole number from `low` to `high`, both included."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise expected(f"a whole number from {low} to {high}")
        return value

    return check


def finite_number(value: object) -> float | None:
    """`value` as a float when it is a number that has one; None otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def positive(high: float, words: str) -> Callable[[object], float]:
    """A number above 0 and at most `high`."""

    def check(value: object) -> float:
        number = finite_number(value)
        if number is None or not 0 < number <= high:
            raise expected(f"{words}, above 0 and at most {high:g}")
        return number

    return check


def as_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise expected("true or false")
    return value


def thousandths(value: object) -> int | None:
    """A number with at most three decimals, times 1000; None for anything else. 0.25 -> 250."""
    number = finite_number(value)
    if number is None or abs(number) > 1e9:
        return None
    milli = Decimal(repr(number)) * 1000
    return int(milli) if milli == milli.to_integral_value() else None


def as_cpus_milli(value: object) -> int:
    milli = thousandths(value)
    if milli is None or not 0 < milli <= 4096_000:
        raise expected("CPUs: a number above 0 and at most 4096, in steps of 0.001")
    return milli


def as_share_milli(value: object) -> int:
    milli = thousandths(value)
    if milli is None or not 0 < milli < 1000:
        raise expected("a share of one device: above 0, below 1, in steps of 0.001 (for whole devices use count)")
    return milli


def duration(*, low_s: float = 0.0, high_s: float = MAX_DURATION_S) -> Callable[[object], float]:
    """Seconds from 90, "90s", "2h30m", "1.5h", "3d"; above 0, at least `low_s` and at most `high_s`."""

    def check(value: object) -> float:
        seconds = _seconds(value)
        if seconds is None:
            raise expected(DURATION_WORDS)
        if seconds <= 0:
            raise expected(f"{DURATION_WORDS}; above 0")
        if not low_s <= seconds <= high_s:
            raise expected(f"{DURATION_WORDS}; from {low_s:g} s to {high_s:g} s")
        return seconds

    return check


def _seconds(value: object) -> float | None:
    if not isinstance(value, str):
        return finite_number(value)
    match = _DURATION.fullmatch(value.strip())
    if match is None or not value.strip():
        return None
    return math.fsum(float(part) * _SECONDS[unit] for unit, part in match.groupdict().items() if part)


def as_moment_s(value: object) -> float:
    """Epoch seconds from ISO 8601 with a zone. One without a zone would mean another moment on every machine."""
    moment = None
    if isinstance(value, str):
        try:
            moment = datetime.datetime.fromisoformat(value.strip())
        except ValueError:
            pass  # said below, in words
    if moment is None or moment.tzinfo is None:
        raise expected(MOMENT_WORDS)
    try:
        return moment.timestamp()
    except (OverflowError, ValueError):  # the first and last day of the calendar, in a zone beyond it
        raise expected(MOMENT_WORDS) from None


def as_label_mapping(value: object) -> object:
    if not isinstance(value, Mapping):
        raise expected("a mapping of labels (NAME: text)")
    if len(value) > MAX_LABELS:
        raise expected(f"at most {MAX_LABELS} labels")
    return value


def as_size_bytes(value: object) -> int:
    """Bytes, at least one, from 1073741824, "1GiB", "1.5 GiB", "100MB" (powers of ten). "2G" is refused: ambiguous."""
    size = as_size_or_zero_bytes(value)
    if size == 0:
        raise expected(f"{SIZE_WORDS}; above 0")
    return size


def as_size_or_zero_bytes(value: object) -> int:
    """The same, and 0 for nothing asked."""
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            raise expected(SIZE_WORDS)
        unit = match["unit"].upper()
        scale = _SCALE_BINARY[unit] if unit in _SCALE_BINARY else _SCALE[unit]
        size = int(Decimal(match["number"]) * scale)
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        raise expected(SIZE_WORDS)
    if not 0 <= size <= MAX_SIZE_BYTES:
        raise expected(f"{SIZE_WORDS}; from 0 to {MAX_SIZE_BYTES}")
    return size


Text = Annotated[str, PlainValidator(as_text)]
Flag = Annotated[bool, PlainValidator(as_flag)]
SizeBytes = Annotated[int, PlainValidator(as_size_bytes)]
SizeOrZeroBytes = Annotated[int, PlainValidator(as_size_or_zero_bytes)]
CpusMilli = Annotated[int, PlainValidator(as_cpus_milli)]
ShareMilli = Annotated[int, PlainValidator(as_share_milli)]
ConfigName = Annotated[
    str,
    PlainValidator(
        matching(r"[a-z0-9][a-z0-9-]{0,62}", "a name: lower-case letters, digits and hyphens, at most 63 characters")
    ),
]

LabelName = Annotated[
    str,
    PlainValidator(
        matching(
            r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?",
            "a label's name: letters, digits, dots, hyphens, underscores and slashes, at most 63, "
            "first and last a letter or digit",
        )
    ),
]
LabelValue = Annotated[
    str,
    PlainValidator(
        matching(r"[A-Za-z0-9._/+-]{1,63}", "a label's value: text of 1 to 63 letters, digits and ._/+- (4 in quotes)")
    ),
]
LabelMap = Annotated[dict[LabelName, LabelValue], BeforeValidator(as_label_mapping)]
MigProfile = Annotated[
    str,
    PlainValidator(
        matching(r"(?:\d{1,2}c\.)?\d{1,2}g\.\d{1,3}gb(?:\+[a-z0-9.]{1,12})?", 'a MIG profile such as "1g.10gb"')
    ),
]


def without_nulls(value: object, *, keep: frozenset[str] = frozenset({"env"}), depth: int = 0) -> object:
    """`field: null` means that the field was not written. What stands under a name in `keep` stays as it is.

    Raises BadInput for data nested beyond any file of ours (a request's JSON has no bound of its own).
    """
    if depth > MAX_NESTING:
        raise BadInput(f"the fields are nested more than {MAX_NESTING} levels deep")
    if isinstance(value, dict):
        return {
            key: inner if key in keep else without_nulls(inner, keep=keep, depth=depth + 1)
            for key, inner in value.items()
            if inner is not None
        }
    if isinstance(value, list | tuple):
        return [without_nulls(item, keep=keep, depth=depth + 1) for item in value]
    return value
