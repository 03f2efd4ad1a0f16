"""Options and arguments that several verbs share."""

from __future__ import annotations

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
