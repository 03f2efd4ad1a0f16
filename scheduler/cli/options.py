"""Options and arguments that several verbs share."""

from __future__ import annotations

import math
from typing import Any

import click

from scheduler.errors import BadInput

output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Form of the answer.",
)


class Number(click.FloatRange):
    """A number within limits: `nan` passes every comparison of a FloatRange, and is refused here."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number", param, ctx)
        return number


job_argument = click.argument("job_id", metavar="ID", default="last")


def duration_s(flag: str, text: str) -> float:
    """Seconds. Raises BadInput that names the flag."""
    from pydantic_core import PydanticCustomError

    from scheduler.schema.fields import duration

    written: str | float = float(text) if text.strip().isdecimal() else text
    try:
        return duration()(written)
    except PydanticCustomError as error:
        raise BadInput(
            f"{flag}: expected {error.context['expected'] if error.context else error}; got {text!r}"
        ) from None
