"""What a verb that fails says last, and with which exit code it ends: one message on stderr, never a stack trace.

Everything that can go wrong with saying it is thought of too: nobody reads any more, the disk is full, no home.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable

import click

from scheduler import __version__
from scheduler.cli import other_version
from scheduler.errors import SuanliError

INTERRUPTED = 130
FAILED = 1
# What the machine refuses and whoever runs it can mend; any other OSError is a bug of ours until shown otherwise.
FOR_THE_OPERATOR = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.EACCES,
        errno.EPERM,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EAGAIN,
    }
)
# What reading an answer of another shape ends with.
OF_AN_ANSWER = (LookupError, TypeError, ValueError, AttributeError)


def tell(error: BaseException) -> int:
    """Say what failed; the exit code."""
    if isinstance(error, click.exceptions.ClickException):
        _say(error.show)
        return error.exit_code
    if isinstance(error, click.exceptions.Abort | KeyboardInterrupt):
        _say(lambda: click.echo("suanli: interrupted", err=True))
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return FAILED  # whoever read the output has gone; click answers its own writes so
    said, code = _words(error)
    _say(lambda: click.echo(f"suanli: {said}", err=True))
    return code


def _words(error: BaseException) -> tuple[str, int]:
    if isinstance(error, SuanliError):
        return error.message, error.exit_code
    if isinstance(error, OSError) and error.errno in FOR_THE_OPERATOR:
        what = f"{error.filename}" if error.filename is not None else "the output could not be written"
        return f"{what}: {(error.strerror or str(error)).lower()}", FAILED
    not_understood = other_version.not_understood() if isinstance(error, OF_AN_ANSWER) else None
    told = f"internal error: {_told(error)}" if not_understood is None else f"{not_understood} ({_told(error)})"
    return f"{told}; {_keep_traceback(error)}", FAILED


def _say(how: Callable[[], None]) -> None:
    """A message that nobody reads any more, or that finds no room, changes no exit code."""
    with contextlib.suppress(OSError):
        how()


def open_closed_streams() -> None:
    """Started with a stream closed (`>&-`), Python has None there; what is written to it goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the process ends


def flush_streams(*, failed: bool = False) -> int:
    """The interpreter flushes both streams at its end, and would complain of a reader that has gone or of a full disk
    with a stack trace. The exit code that this owes: 0 where all was written, or where nobody wanted to read it.

    `failed`: the verb has said already why it failed. What a write that failed has left in the buffer fails once more
    here, and is not told again.
    """
    code = 0
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            if stream is sys.stdout and not isinstance(error, BrokenPipeError):
                code = tell(error) if isinstance(error, OSError) and not failed else FAILED
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


def _told(error: BaseException) -> str:
    said = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _keep_traceback(error: BaseException) -> str:
    """Write the failure's traceback to the instance's logs; says where, or why that was not possible.

    The command line is left out: it may hold secrets (`--env`).
    """
    import secrets
    import traceback

    from scheduler.cli.client import home_path

    try:
        name = f"cli-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{secrets.token_hex(2)}.log"
        path = home_path() / "logs" / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"suanli {__version__}, Python {sys.version}\n{''.join(traceback.format_exception(error))}")
    except (OSError, SuanliError) as problem:
        return f"its details could not be kept: {problem}"
    return f"details for a bug report are in {path}"
