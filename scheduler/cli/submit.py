"""`suanli submit`: a job from a file, from flags, or from a file with flags laid over it.

The shape is checked here, where file and line are known; names, rights and room are judged by the service.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from scheduler.cli import words
from scheduler.cli.client import Client, Json
from scheduler.cli.options import output_option
from scheduler.cli.render import one_line, show_json
from scheduler.errors import BadInput, SuanliError

ARGV = "suanli.argv"


class SubmitCommand(click.Command):
    """Takes everything after `--` as the job's own command line, so that its flags are not read as ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[ARGV] = tuple(args[at + 1 :])
            if not ctx.meta[ARGV]:
                raise click.UsageError("a command is expected after --", ctx)
            args = args[:at]
        return super().parse_args(ctx, args)


def _job_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """The fields of a job file, one flag each. Values are texts: the schema that reads job files judges them too."""
    flags = [
        click.option("--name", help="What to call it."),
        click.option("--kind", help="training, inference, batch or benchmark."),
        click.option("--command", "--shell", "shell", metavar="TEXT", help="A shell command; better: -- ARGV..."),
        click.option("--model", metavar="FILE:CLASS", help="A Python model to serve."),
        click.option("--workers", metavar="N|MIN-MAX", help="Processes of the gang; all start or none."),
        click.option("--replicas", metavar="N|MIN-MAX", help="Processes of an inference service."),
        click.option("--device", metavar="MODEL|VENDOR|any", help="What each worker runs on."),
        click.option("--count", metavar="N", help="Whole devices for each worker."),
        click.option("--share", metavar="PART", help="A part of one device for each worker, such as 0.25."),
        click.option("--cpus", metavar="N", help="CPU cores for each worker."),
        click.option("--memory", metavar="SIZE", help="Memory for each worker, such as 2GiB."),
        click.option("--simulated/--real", "simulated", default=None, help="Whether simulated devices will do."),
        click.option("--node", help="Only this node."),
        click.option("--site", help="Only this site."),
        click.option("--time-limit", metavar="TIME", help="The longest it may run: 2h30m, 90s."),
        click.option("--priority-class", metavar="CLASS", help="Who goes first."),
        click.option("--tenant", help="Must be the token's own; checked, never trusted."),
        click.option("--retries", metavar="N", help="Tries after a failure of its own."),
        click.option("--checkpoint-dir", metavar="DIR", help="Where it saves its work."),
        click.option("--grace", metavar="TIME", help="How long saving may take when it is asked to go."),
        click.option("--env", metavar="NAME=VALUE", multiple=True, help="Its environment; may be repeated."),
        click.option("--working-dir", metavar="DIR", help="Where it runs; here by default."),
        click.option(
            "--array", metavar="N[%LIMIT]", help="N jobs that differ in SUANLI_ARRAY_INDEX, LIMIT of them at a time."
        ),
        click.option("--after", metavar="ID", multiple=True, help="Only when that job has succeeded; may be repeated."),
        click.option("--after-any", metavar="ID", multiple=True, help="Only when that job has ended, however it did."),
        click.option("--deadline", metavar="TIME", help="When it should be done: 6h from now, 2026-12-01T02:00+08:00."),
        click.option("--within", metavar="LEVEL", help="All its workers in one island, node, rack or site."),
        click.option("--spread", metavar="LEVEL", help="Its workers evenly over islands, nodes, racks or sites."),
        click.option("--one-per", metavar="LEVEL", help="At most one worker in each island, node, rack or site."),
        click.option("--apart-from", metavar="NAME", multiple=True, help="On no node with that job; may be repeated."),
        click.option("--reservation", metavar="NAME", help="Within that reservation (`suanli reserve list`)."),
        click.option("--schedule", metavar="CRON", help='Submit it again and again: "0 2 * * *" at two every night.'),
        click.option("--zone", metavar="ZONE", help="The schedule's time zone, such as Asia/Shanghai."),
        click.option("--label", "labels", metavar="NAME=VALUE", multiple=True, help="A label its nodes must carry."),
        click.option(
            "--device-label", "device_labels", metavar="NAME=VALUE", multiple=True, help="One its devices must carry."
        ),
        click.option("--mig", metavar="PROFILE", help="MIG instances of that profile, such as 1g.10gb."),
        click.option("--slo-p99-ms", "p99_ms", metavar="MS", help="A service's latency objective."),
    ]
    for flag in reversed(flags):
        function = flag(function)
    return function


@click.command(cls=SubmitCommand)
@click.argument("file", metavar="[FILE] [-- ARGV...]", required=False, type=click.Path(path_type=Path))
@_job_flags
@click.option("-q", "--quiet", is_flag=True, help="Print the id alone.")
@click.option("--dry-run", is_flag=True, help="Check it and say where it would run now, or why not. Submit nothing.")
@click.option("--wait", "wait_too", is_flag=True, help="Wait until it has ended; exit code 1 if it did not succeed.")
@output_option
@click.pass_context
def submit(
    context: click.Context, /, file: Path | None, quiet: bool, dry_run: bool, wait_too: bool, output: str, **flags: Any
) -> None:
    """Submit a job from FILE, from flags, or from FILE with flags laid over it.

    \b
    suanli submit train.yaml --workers 4
    suanli submit --device "H100 SXM" --time-limit 2h -- python train.py --lr 0.1
    """
    if quiet and (dry_run or output == "json"):
        raise click.UsageError("-q prints an id alone; leave out --dry-run and -o json", context)
    client: Client | None = None
    if "last" in (*flags["after"], *flags["after_any"]):
        client = Client.from_env()
        last = client.get("/v1/jobs/last")["id"]
        for name in ("after", "after_any"):
            flags[name] = tuple(last if job_id == "last" else job_id for job_id in flags[name])
    job = job_mapping(file, {**flags, "command": context.meta.get(ARGV, ())})
    client = client or Client.from_env()
    if dry_run:
        _dry_run(client, job, file, output)
        return
    if "schedule" in job and wait_too:
        raise BadInput("a job with a schedule is submitted later and has no end to wait for; leave out --wait")
    answer = post_job(client, "/v1/jobs", job, file)
    views = answer["jobs"]
    if answer.get("schedules"):
        _scheduled(answer, quiet=quiet, output=output)
        return
    if quiet:
        click.echo(views[0]["id"].split(".")[0])
    elif output == "table":
        click.echo(_accepted(views))
    elif not wait_too:
        show_json("jobs", answer)
    if wait_too:
        _wait(context, client, views, output=output, quiet=quiet)


def job_mapping(file: Path | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    """What would stand in a job file, checked in shape. Raises BadInput with the file and line of every fault."""
    from scheduler.schema.jobfile import check_shape, job_from_file, mapping_from_flags, overlay, resolve_paths

    given = mapping_from_flags(**flags, defaults=file is None)
    lines: Mapping[str, int] | None = None
    if file is None:
        if not {"command", "model"} & set(given):
            raise BadInput("what is to run? Give a job file, a command after --, or --model FILE:CLASS")
        job, source = given, "flags"
    else:
        written, lines = job_from_file(file)
        job, lines = overlay(written, lines, given)
        source = str(file)
    check_shape(job, source, lines)
    return resolve_paths(job, Path.cwd())  # as sbatch has it: relative to where submit is called


def _scheduled(answer: Json, *, quiet: bool, output: str) -> None:
    from scheduler.cli.schedules import made

    if output == "json":
        show_json("jobs", answer)
        return
    for view in answer["schedules"]:
        click.echo(view["name"] if quiet else made(view))


def _accepted(views: list[Json]) -> str:
    if len(views) == 1:
        return f"submitted job {views[0]['id']} ({one_line(views[0]['name'])})"
    first, last = views[0]["id"], views[-1]["id"]
    return (
        f"submitted array {first.split('.')[0]} of {len(views)} jobs, {first} to {last} ({one_line(views[0]['name'])})"
    )


def post_job(client: Client, path: str, job: Mapping[str, Any], file: Path | None) -> Json:
    """The service names a fault by its field (`job: FIELD: ...`); say where in the file that field stands."""
    try:
        return client.post(path, {"job": job})
    except BadInput as error:
        if file is None:
            raise
        from scheduler.schema.jobfile import job_from_file

        _, lines = job_from_file(file)
        raise BadInput("\n".join(_placed(line, file, lines) for line in error.message.splitlines())) from None


def _placed(line: str, file: Path, lines: Mapping[str, int]) -> str:
    prefix, _, rest = line.partition(": ")
    field, colon, _ = rest.partition(":")
    if prefix != "job" or not colon:
        return line
    place = field
    while place and place not in lines:  # a field that is not in the file stands where its parent does
        place = place.rpartition(".")[0]
    return f"{file}:{lines[place]}: {rest}" if place in lines else f"{file}: {rest}"


def _dry_run(client: Client, job: Mapping[str, Any], file: Path | None, output: str) -> None:
    answer = post_job(client, "/v1/jobs/dry-run", job, file)
    if output == "json":
        show_json("dry-run", answer)
        return
    if not answer["would_start"]:
        reason = answer["reason"]
        click.echo("would wait: " + (one_line(reason["text"]) if reason else "no reason was given"))
        if answer["est_start_s"] is not None:
            click.echo(f"  could start in {words.duration(answer['est_start_s'] - time.time())}, by time limits")
        for suggestion in answer["suggestions"]:
            click.echo(f"  try: {one_line(suggestion)}")
        return
    click.echo("would start now:")
    for placement in answer["placements"]:
        devices = words.ranges(placement["devices"])
        where = placement["node"] + (f":{devices}" if devices else "")
        simulated = " (simulated)" if placement["simulated"] else ""
        click.echo(f"  worker {placement['worker']} on {where}{simulated}")
    if answer["preempts"]:
        click.echo(f"  and would preempt job {', '.join(answer['preempts'])}")


def _wait(context: click.Context, client: Client, views: list[Json], *, output: str, quiet: bool) -> None:
    from scheduler.cli.wait import all_succeeded, wait_for

    try:
        ended = wait_for(client, tuple(view["id"] for view in views), timeout_s=None)
    except KeyboardInterrupt:
        ids = " ".join(view["id"] for view in views[:5])
        raise Interrupted(f"no longer waiting; the job goes on (`suanli cancel {ids}` ends it)") from None
    if output == "json":
        show_json("wait", {"jobs": ended})
    elif not quiet:
        for view in ended:
            click.echo(one_line(words.sentence(view)))
    if not all_succeeded(ended):
        context.exit(1)


class Interrupted(SuanliError):
    """Ctrl-C where it is worth saying what goes on without us."""

    exit_code = 130
