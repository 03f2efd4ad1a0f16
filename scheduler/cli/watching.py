"""How does a listing go on being shown? Again and again: in place on a terminal, one block after another in a pipe.

A service that is away is said to be, and asked again; what else it answers (a token that is not known any more) ends
it. Ctrl-C and a reader that has gone end it without a word.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import time
from collections.abc import Callable

import click

from scheduler.errors import Unavailable

HOME = "\x1b[H"
CLEAR_REST_OF_LINE = "\x1b[K"
CLEAR_REST_OF_SCREEN = "\x1b[J"


def watch(
    every_s: float,
    ask: Callable[[], bytes],
    show: Callable[[bytes], int],
    *,
    in_place: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Until ctrl-C. `show` writes to standard output, and says how many of its last lines are to stay on the screen
    where not all have room. In a pipe each block of text has its time over it (`in_place` False: it has not, as
    documents follow one another). Raises what the first question raises."""
    on_screen = in_place and sys.stdout.isatty()
    body = ask()
    lost = ""
    first = True
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            if on_screen:
                _paint(show, body, lost, every_s, clear=first)
            elif not lost:
                if in_place:
                    click.echo(("" if first else "\n") + time.strftime("%Y-%m-%d %H:%M:%S"))
                show(body)
                sys.stdout.flush()
            first = False
            sleep(every_s)
            try:
                body = ask()
                lost = ""
            except Unavailable as error:
                lost = lost or f"since {time.strftime('%H:%M:%S')} nothing new: {error.message}"
                if not on_screen:
                    click.echo(f"suanli: {error.message}", err=True)


def _paint(show: Callable[[bytes], int], body: bytes, lost: str, every_s: float, *, clear: bool) -> None:
    """One screenful, written over the last one in a single write, so that nothing flickers."""
    columns, rows = shutil.get_terminal_size()
    screen = _Terminal()
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        foot = show(body)
    lines = screen.getvalue().splitlines()
    head = f"{time.strftime('%H:%M:%S')}, every {every_s:g} s, ctrl-C ends it"
    if lost:
        head = lost
    room = max(1, rows - 2)
    if len(lines) > room:
        kept = max(0, room - foot - 1)
        left = len(lines) - kept - foot
        more = f"{left:,} more lines: narrow it down, or see `suanli top`"
        lines = [*lines[:kept], more, *lines[len(lines) - foot :]][:room]
    text = "".join(f"{line}{CLEAR_REST_OF_LINE}\r\n" for line in (head[:columns], *lines))
    sys.stdout.write(("\x1b[2J" if clear else "") + HOME + text + CLEAR_REST_OF_SCREEN)
    sys.stdout.flush()


class _Terminal(io.StringIO):
    """What is written to a terminal, kept for the while."""

    def isatty(self) -> bool:
        return True
