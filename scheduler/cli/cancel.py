"""`suanli cancel`: end jobs."""

from __future__ import annotations

import click

from scheduler.cli import words
from scheduler.cli.client import Client, Json
from scheduler.cli.ids import named
from scheduler.cli.options import output_option
from scheduler.cli.render import one_line, show_json
from scheduler.errors import from_wire


@click.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--reason", default="", help="Kept with the job, for whoever asks later.")
@output_option
@click.pass_context
def cancel(context: click.Context, job_ids: tuple[str, ...], reason: str, output: str) -> None:
    """End jobs: their processes are asked to go, and killed when their grace is over.

    An array's number means all its tasks that have not ended. All go at once, and nothing that is named here starts in
    between. Every id is tried; the exit code is the worst of them.
    """
    client = Client.from_env()
    ids = list(dict.fromkeys(named(client, given) for given in job_ids))
    answer = client.post("/v1/jobs/cancel", {"ids": ids, "reason": reason})
    errors = [row["error"] for row in answer["jobs"] if row["error"] is not None]
    if output == "json":
        told = {key: value for key, value in answer.items() if key != "schema"}
        show_json("cancel", {**told, "errors": [error["message"] for error in errors]})
    else:
        for row in answer["jobs"]:
            if row["error"] is None:
                click.echo(line_of(row))
        for error in errors:
            click.echo(f"suanli: {error['message']}", err=True)
    if errors:
        context.exit(max(from_wire(error["type"], 0, error["message"], None).exit_code for error in errors))


def line_of(row: Json) -> str:
    """`job 18: 4,988 tasks cancelled, 12 are being stopped`; of a single job its state."""
    if row["tasks"] is None:
        going = "" if row["state"] in words.ENDED else " (being stopped)"
        return one_line(words.sentence({**row, "reason": None})) + going
    said = []
    if row["cancelled"]:
        said.append(f"{row['cancelled']:,} {'task' if row['cancelled'] == 1 else 'tasks'} cancelled")
    if row["stopping"]:
        said.append(f"{row['stopping']:,} {'is' if row['stopping'] == 1 else 'are'} being stopped")
    if row["ended"]:
        said.append(f"{row['ended']:,} had ended before")
    return f"job {row['id']}: {', '.join(said)}"
