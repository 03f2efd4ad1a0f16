"""Options and arguments that several verbs share."""

from __future__ import annotations

import click

output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Form of the answer.",
)
job_argument = click.argument("job_id", metavar="ID", default="last")
