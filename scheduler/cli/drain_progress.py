"""How a node that empties is shown: a bar and what is left on a terminal, a line for each change in a pipe."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import click

from scheduler.cli import words
from scheduler.cli.render import one_line

if TYPE_CHECKING:
    from rich.console import Console

MOST_NAMED = 6
View = Mapping[str, Any]


class DrainProgress(Protocol):
    def show(self, view: View, *, now_s: float) -> None:
        """The node as it is now."""
        ...

    def say(self, line: str) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def progress() -> DrainProgress:
    if sys.stderr.isatty():
        from rich.console import Console

        return RichProgress(Console(stderr=True))
    return PlainProgress(lambda line: click.echo(f"... {line}", err=True))


def left_text(drain: View, *, now_s: float) -> str:
    """`3 jobs are left: 5 (train) running, 7 (serve) being replaced; deadline in 12m`."""
    left = drain["left"]
    if not left:
        return "processes of earlier attempts are being stopped"
    named = [f"{each['job']} ({one_line(each['name'])}) {each['doing']}" for each in left[:MOST_NAMED]]
    if len(left) > MOST_NAMED:
        rest = Counter(each["doing"] for each in left[MOST_NAMED:])
        named += [f"{count} more {doing}" for doing, count in rest.items()]
    text = f"{len(left)} {'job is' if len(left) == 1 else 'jobs are'} left: {', '.join(named)}"
    deadline = deadline_text(drain, now_s=now_s)
    return f"{text}; {deadline}" if deadline else text


def deadline_text(drain: View, *, now_s: float) -> str:
    """`deadline in 12m`; nothing where there is none."""
    if drain["deadline_s"] is None:
        return ""
    left_s = drain["deadline_s"] - now_s
    return "the deadline is over" if left_s <= 0 else f"deadline in {words.duration(left_s)}"


class PlainProgress:
    """A line when something has changed; that time passes is no change."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._shown: object = None

    def show(self, view: View, *, now_s: float) -> None:
        drain = view["drain"]
        what = [view["state"], *((each["job"], each["doing"]) for each in drain["left"])]
        if what != self._shown and (drain["left"] or view["state"] == "draining"):
            self._write(f"node {view['name']}: {left_text(drain, now_s=now_s)}")
        self._shown = what

    def say(self, line: str) -> None:
        self._write(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class RichProgress:
    """A bar of the jobs that have left, of all that were seen there, and under it those that have not."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._console = console
        self._seen: set[str] = set()
        self._live = Live(console=console, transient=True, auto_refresh=False)

    def show(self, view: View, *, now_s: float) -> None:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        drain = view["drain"]
        left = drain["left"]
        self._seen |= {each["job"] for each in left}
        gone = len(self._seen) - len({each["job"] for each in left})
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(f"draining {view['name']}", style="bold"),
            ProgressBar(total=max(1, len(self._seen)), completed=gone, width=30),
            Text(f"{gone} of {len(self._seen)} jobs have left"),
            Text(deadline_text(drain, now_s=now_s), style="dim"),
        )
        rows = Table.grid(padding=(0, 2))
        for each in left[: max(1, self._console.height - 4)]:
            style = "magenta" if each["doing"] == "saving" else "yellow" if each["kind"] == "inference" else "green"
            rows.add_row(
                Text(each["job"]), Text(one_line(each["name"])), Text(each["tenant"]), Text(each["doing"], style=style)
            )
        self._live.update(Group(head, rows), refresh=True)

    def say(self, line: str) -> None:
        self._live.stop()
        self._console.print(line, highlight=False, markup=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
