"""What is wrong with a file or a request: every fault at once, one line each, for the person who wrote it.

A line reads `FILE:LINE: field: expected WHAT; got VALUE (did you mean NEAREST?)`. `LINE` comes from a map of field path
to line (yaml_source.py); a field that is not in the file points at the mapping that lacks it. Requests have no lines.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from scheduler.errors import BadInput

MAX_SHOWN_CHARS: Final = 60
MAX_SHOWN_PROBLEMS: Final = 50  # a file of rubbish should not answer with a book


class _NotGiven:
    """Says that a message has no `got` part; None would be a value."""


NOT_GIVEN: Final = _NotGiven()


class Shape(BaseModel):
    """Base of every model at this edge: unknown fields are refused and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


ShapeT = TypeVar("ShapeT", bound=Shape)


def field_path(parts: Sequence[str | int]) -> str:
    """`("resources", 1, "device")` as people write it: `resources[1].device`."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def shown(value: object) -> str:
    """A value as the file's author wrote it, short: never a whole nested structure, never a Python type name."""
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return "true" if value else "false"
        case int():
            # repr() of a very long int raises (sys.set_int_max_str_digits), and nobody would read it.
            return str(value) if value.bit_length() <= 128 else f"a number of {value.bit_length()} bits"
        case float():
            return f"{value:g}"
        case str():
            return repr(value if len(value) <= MAX_SHOWN_CHARS else value[: MAX_SHOWN_CHARS - 3] + "...")
        case Mapping():
            return "a mapping with no fields" if not value else f"a mapping ({_few(value)})"
        case list() | tuple():
            return f"a list of {len(value)}"
        case _:
            return repr(value)[:MAX_SHOWN_CHARS]


def _printable(field: str) -> str:
    """A field's name for one line: names come from the file, and may hold anything."""
    return "".join(character if character.isprintable() else "?" for character in field[:200])


def _few(mapping: Mapping[Any, Any]) -> str:
    names = [_printable(key[:20]) if isinstance(key, str) else shown(key) for key in list(mapping)[:3]]
    return ", ".join(names) + (", ..." if len(mapping) > 3 else "")


def nearest(wanted: str, names: Iterable[str], *, count: int = 1) -> tuple[str, ...]:
    """The `count` names most like `wanted`, best first, without regard to case; none when nothing is like it."""
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(wanted.lower()[:200], list(by_lower), n=count, cutoff=0.55)
    return tuple(by_lower[name] for name in close)


def did_you_mean(names: Sequence[str]) -> str:
    """` (did you mean A, B or C?)`, or nothing."""
    if not names:
        return ""
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
    return f" (did you mean {listed}?)"


@dataclass(frozen=True, slots=True)
class Problem:
    field: str
    line: int | None
    text: str


class Problems:
    """Collects the faults of one source (a file, a request, the flags of a command)."""

    def __init__(self, source: str, lines: Mapping[str, int] | None = None) -> None:
        self.source = source
        self._lines = lines or {}
        self._found: list[Problem] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def line_of(self, field: str) -> int | None:
        """The field's line, or that of the nearest mapping around it. Line 0 says: given elsewhere, by a flag."""
        while field:
            if field in self._lines:
                return self._lines[field] or None
            cut = max(field.rfind("."), field.rfind("["))
            field = field[: max(cut, 0)]
        return self._lines.get("")

    def add(self, field: str, text: str, *, line: int | None = None) -> None:
        self._found.append(Problem(field, self.line_of(field) if line is None else line, text))

    def expected(
        self, field: str, expected: str, got: object = NOT_GIVEN, *, names: Sequence[str] = (), line: int | None = None
    ) -> None:
        """`expected EXPECTED; got GOT (did you mean NAMES?)`."""
        got_text = "" if isinstance(got, _NotGiven) else f"; got {shown(got)}"
        self.add(field, f"expected {expected}{got_text}{did_you_mean(names)}", line=line)

    def unknown_name(self, field: str, names: Sequence[str], got: str) -> None:
        """`got` is none of the few names that are possible here."""
        self.expected(field, f"one of {', '.join(names)}", got, names=nearest(got, names))

    def add_validation(self, error: ValidationError, model: type[BaseModel], data: object) -> None:
        """Put pydantic's findings into our words. `data` is what was validated; `model` its root model."""
        for found in error.errors(include_url=False):
            parts = _written_path(found["loc"], data)
            field = field_path(parts)
            got = found["input"]
            match found["type"]:
                case "expected":
                    context = found["ctx"]
                    names = nearest(got, context.get("names", ())) if isinstance(got, str) else ()
                    self.expected(field, context["expected"], NOT_GIVEN if context.get("hide") else got, names=names)
                case "missing":
                    self.add(field, "required, and not given")
                case "extra_forbidden":
                    allowed = list(_model_at(model, found["loc"][:-1]).model_fields)
                    wrong = str(found["loc"][-1])
                    self.add(
                        field,
                        f"unknown field; expected one of {', '.join(allowed)}{did_you_mean(nearest(wrong, allowed))}",
                    )
                case "model_type" | "model_attributes_type" | "dict_type":
                    self.expected(field, "a mapping of fields (name: value)", got)
                case "list_type" | "tuple_type":
                    self.expected(field, "a list", got)
                case _:
                    self.expected(field, found["msg"].removeprefix("Input should be ").lower(), got)

    def messages(self) -> list[str]:
        """One line each, in the order of the file."""
        ordered = sorted(self._found, key=lambda p: p.line or 0)
        lines = []
        for problem in ordered[:MAX_SHOWN_PROBLEMS]:
            place = self.source if problem.line is None else f"{self.source}:{problem.line}"
            field = _printable(problem.field)
            lines.append(f"{place}: {field}: {problem.text}" if field else f"{place}: {problem.text}")
        if len(ordered) > MAX_SHOWN_PROBLEMS:
            lines.append(f"{self.source}: and {len(ordered) - MAX_SHOWN_PROBLEMS} more")
        return lines

    def first_field(self) -> str | None:
        ordered = sorted(self._found, key=lambda p: p.line or 0)
        return (ordered[0].field or None) if ordered else None

    def raise_if_any(self) -> None:
        raise_together([self])


def raise_together(all_problems: Sequence[Problems]) -> None:
    """BadInput with the faults of several sources, if there are any; its `field` is the first one's."""
    messages = [message for problems in all_problems for message in problems.messages()]
    if messages:
        fields = [problems.first_field() for problems in all_problems if problems]
        raise BadInput("\n".join(messages), field=fields[0])


def validated(model: type[ShapeT], data: object, problems: Problems) -> ShapeT | None:
    """`data` as `model`, or None with the reasons in `problems`."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems.add_validation(error, model, data)
        return None


def _written_path(loc: Sequence[str | int], data: object) -> list[str | int]:
    """pydantic's location as a path in what was written: an index into a single value that stands for a list of one
    is left out, and so are the names that pydantic adds for its own insides (`[key]`)."""
    parts: list[str | int] = []
    here: object = data
    for part in loc:
        if isinstance(part, int):
            if not isinstance(here, list | tuple):
                continue
            here = here[part] if part < len(here) else None
        else:
            if part == "[key]":
                continue
            here = here.get(part) if isinstance(here, Mapping) else None
        parts.append(part)
    return parts


def _model_at(model: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel]:
    """The model that holds the field at `loc`: what unknown fields are compared with."""
    for part in loc:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_within(model.model_fields[part].annotation) or model
    return model


def _model_within(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _model_within(argument)
        if found is not None:
            return found
    return None
