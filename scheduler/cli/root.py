"""The `suanli` command itself: its verbs, imported when they are called, and what every failure looks like.

A verb's module is imported only to run it or to show its own help, so that `suanli queue` costs what `queue` needs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

import click

from scheduler import __version__
from scheduler.cli import last_words, other_version


@dataclass(frozen=True, slots=True)
class Verb:
    """`where` is "module:attribute" under scheduler.cli; `help` the line in the list of verbs."""

    where: str
    help: str


VERBS: Mapping[str, Verb] = {
    "up": Verb("up:up", "Start the service, Ray and this machine's node."),
    "standby": Verb("standby:standby", "Stand by for another machine's service, and take over."),
    "stay": Verb("stay:stay", "As up, staying in the foreground: for systemd."),
    "gateway": Verb("gateway:gateway", "Run one more gateway, near its users."),
    "down": Verb("down:down", "Stop all of it and leave nothing behind."),
    "submit": Verb("submit:submit", "Submit a job from a file or from flags."),
    "queue": Verb("queue:queue", "List jobs, and why the waiting ones wait."),
    "show": Verb("show:show", "Everything about one job."),
    "why": Verb("why:why", "Why a job does not run, and what would help."),
    "logs": Verb("logs:logs", "What a job's workers wrote."),
    "wait": Verb("wait:wait", "Wait until jobs have ended."),
    "cancel": Verb("cancel:cancel", "End jobs."),
    "hold": Verb("hold:hold", "Let waiting jobs not start."),
    "release": Verb("hold:release", "Let held jobs start again."),
    "requeue": Verb("hold:requeue", "Take running jobs back to the queue; submit ended ones anew."),
    "scale": Verb("scale:scale", "Give a service more replicas, or fewer."),
    "service": Verb("service:service", "Inference services: deploy, list, show, roll back, delete."),
    "nodes": Verb("nodes:nodes", "List nodes, their devices and what is free."),
    "devices": Verb("devices:devices", "List devices: use, jobs, readings; record them."),
    "top": Verb("top.verb:top", "A live view of nodes, devices, queue and services."),
    "drain": Verb("drain:drain", "Empty a node: its jobs end, or save their work and move."),
    "resume": Verb("drain:resume", "Take a drained node back into use."),
    "reserve": Verb("reserve:reserve", "Keep nodes free for a time: list, make and cancel reservations."),
    "schedules": Verb("schedules:schedules", "Recurring jobs: list, show, pause, resume, delete."),
    "tenants": Verb("tenants:tenants", "What tenants may hold and hold, and whose turn is next."),
    "usage": Verb("usage:usage", "What a month came to: device time, energy, PFlops-hours, requests."),
    "bench": Verb("bench:bench", "Measure what the devices really deliver."),
    "simulate": Verb("simulate:simulate", "Try policies on recorded work; simulated."),
    "report": Verb("report:report", "Reports for the site, such as achieved capacity."),
    "doctor": Verb("doctor:doctor", "Check this machine and say how to mend what is wrong."),
    "status": Verb("status:status", "The running service: processes, addresses, counts."),
    "token": Verb("token:token", "Make, list and revoke API tokens."),
    "node": Verb("node:node", "Join this machine to another's cluster, or leave it."),
    "demo": Verb("demo:demo", "The whole main job, end to end, on this machine."),
}

EPILOG = """\b
Exit codes:
  0    done
  1    failure: a job failed, or something could not be completed
  2    bad input: a flag, a job file, a configuration
  3    not allowed: no token, an unknown one, or one without the right
  4    not found
  5    conflict with the present state
  6    unavailable: nothing answers, or it cannot take it now; try again
  7    a --timeout was over
  130  interrupted

\b
Ids are numbers (7), tasks of an array (7.3) or `last`.
SUANLI_HOME (default ~/.suanli) names the instance; SUANLI_API with
SUANLI_TOKEN_FILE or SUANLI_TOKEN name a service elsewhere.
"""


class Root(click.Group):
    """A group that knows its verbs by name alone, and ends with our exit codes however it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        module, _, attribute = verb.where.partition(":")
        command = getattr(import_module(f"scheduler.cli.{module}"), attribute)
        assert isinstance(command, click.Command), verb
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            raise click.exceptions.NoSuchCommand(args[0], possibilities=list(VERBS), ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run, say what failed on stderr in one message, and exit."""
        kwargs["standalone_mode"] = False
        last_words.open_closed_streams()
        other_version.forget()
        try:
            result = super().main(*args, **kwargs)
            code = result if isinstance(result, int) else 0
        except (Exception, KeyboardInterrupt) as error:
            code = last_words.tell(error)
        left = last_words.flush_streams(failed=code != 0)
        code = code or left
        sys.exit(code)


@click.command(
    cls=Root,
    epilog=EPILOG,
    subcommand_metavar="VERB [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="suanli %(version)s")
def root() -> None:
    """Schedule inference and training jobs on the accelerators of an edge AI compute centre, watch its nodes, and prove
    how many PFlops they really deliver."""
