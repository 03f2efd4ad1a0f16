"""`suanli drain` and `suanli resume`: empty a node, watch how it empties, and take it back into use."""

from __future__ import annotations

import time
from collections.abc import Iterator

import click

from scheduler.cli.client import Client, Json, node_path
from scheduler.cli.drain_progress import DrainProgress, PlainProgress, left_text, progress
from scheduler.cli.options import duration_s, output_option
from scheduler.cli.render import show_json
from scheduler.cli.wait import TIMED_OUT
from scheduler.errors import BadInput, Conflict, Unavailable

LOOKS_EVERY_S = 1.0


@click.command()
@click.argument("node")
@click.option("--reason", help="Why: shown by `suanli nodes --reasons`. Needed unless NODE is drained already.")
@click.option(
    "--deadline",
    metavar="TIME",
    help="After so long (30m, 2h; 0 is at once) jobs that are left save their work and move. Without: they run on.",
)
@click.option("--wait", is_flag=True, help="Show how the node empties, until nothing runs there any more.")
@click.option("--timeout", type=click.FloatRange(0, 10_000_000), help="With --wait: give up after so many seconds.")
@output_option
@click.pass_context
def drain(
    context: click.Context,
    node: str,
    reason: str | None,
    deadline: str | None,
    wait: bool,
    timeout: float | None,
    output: str,
) -> None:
    """Empty NODE: nothing new starts there, and what runs there ends, or saves its work and moves.

    Jobs may run to their end; at the --deadline those that are left are asked for a checkpoint and go back to the
    queue, without using up a retry. Replicas of services are replaced elsewhere first. `suanli resume NODE` ends it at
    any time.

    Exit code 7 if --timeout was over first.
    """
    if timeout is not None and not wait:
        raise BadInput("--timeout goes with --wait", field="--timeout")
    client = Client.from_env()
    if reason is None:
        if not wait or deadline is not None:
            raise BadInput("--reason: say why; whoever finds the node drained will want to know", field="--reason")
        view = client.get(node_path(node))
        if view["drain"] is None:
            raise BadInput(f"--reason: node {node} is not drained yet; say why it is to be", field="--reason")
    else:
        asked: Json = {"reason": reason}
        if deadline is not None:
            asked["deadline_in_s"] = 0.0 if deadline.strip() == "0" else duration_s("--deadline", deadline)
        view = client.post(node_path(node, "drain"), asked)
    over = False
    if wait:
        shown: DrainProgress = PlainProgress(lambda _line: None) if output == "json" else progress()
        view, over = _watch(client, node, view, shown, timeout)
    if output == "json":
        show_json("drain", view)
    else:
        click.echo(sentence(view, now_s=time.time()))
    if over:
        context.exit(TIMED_OUT)


def _watch(client: Client, node: str, first: Json, shown: DrainProgress, timeout_s: float | None) -> tuple[Json, bool]:
    """The node's view when nothing runs there any more, or when the time was over (True)."""
    until_s = None if timeout_s is None else time.monotonic() + timeout_s
    with shown:
        try:
            for view in _views(client, node, first):
                if view["drain"] is None:
                    raise Conflict(f"node {node} was taken back into use; it takes jobs again")
                shown.show(view, now_s=time.time())
                if is_empty(view):
                    return view, False
                left_s = LOOKS_EVERY_S if until_s is None else min(LOOKS_EVERY_S, until_s - time.monotonic())
                if left_s <= 0:
                    return view, True
                time.sleep(left_s)
        except KeyboardInterrupt:
            shown.say(f"no longer watched; node {node} empties all the same, and `suanli resume {node}` takes it back")
            raise
    raise AssertionError("views do not end")


def _views(client: Client, node: str, first: Json) -> Iterator[Json]:
    yield first
    while True:
        try:
            yield client.get(node_path(node))
        except Unavailable:  # the service is being restarted, or another one takes over: the drain goes on
            time.sleep(LOOKS_EVERY_S)


def is_empty(view: Json) -> bool:
    return not view["drain"]["left"] and view["state"] != "draining"


def sentence(view: Json, *, now_s: float) -> str:
    node = view["name"]
    if is_empty(view):
        return f"node {node} is {view['state']}: nothing runs there; `suanli resume {node}` takes it back"
    rest = left_text(view["drain"], now_s=now_s)
    return f"node {node} is {view['state']}: nothing new starts there; {rest}; `suanli resume {node}` takes it back"


@click.command()
@click.argument("node")
@output_option
def resume(node: str, output: str) -> None:
    """Take NODE back into use."""
    answer = Client.from_env().post(node_path(node, "resume"), {})
    if output == "json":
        show_json("resume", answer)
    else:
        click.echo(f"node {node} takes jobs again")
