"""What does a vendor's command print, within a deadline and a bound?

A command that does not end in time is asked to (SIGTERM), never killed: it may be inside a driver call, and killing a
process there has frozen cards. While it lives no other is started, and that is what is told.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from select import select

OUTPUT_BYTES = 2 << 20
ENDING_S = 1.0
SAID_CHARACTERS = 200


class ToolFailed(Exception):
    """It gave no usable output; the message says why."""


class ToolRun:
    """One command, run again and again, one at a time."""

    def __init__(self, argv: Sequence[str], deadline_s: float) -> None:
        self._argv = tuple(argv)
        self._deadline_s = deadline_s
        self._hanging: subprocess.Popen[bytes] | None = None
        self._since = 0.0

    def output(self) -> str:
        """Raises ToolFailed. Bytes that are no UTF-8 are replaced."""
        name = self._argv[0]
        if self._hanging is not None:
            if self._hanging.poll() is None:
                raise ToolFailed(f"{name} has not ended for {time.monotonic() - self._since:.0f} s")
            self._hanging = None
        try:
            process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "LANG": "C", "LC_ALL": "C"},
                start_new_session=True,
            )
        except OSError as error:
            raise ToolFailed(f"{name} cannot be run: {error.strerror or error}") from None
        self._since = time.monotonic()
        assert process.stdout is not None
        try:
            data, ended = self._read(process.stdout.fileno())
        finally:
            process.stdout.close()
        if not ended:
            self._stop(process)
            if len(data) > OUTPUT_BYTES:
                raise ToolFailed(f"{name} printed more than {OUTPUT_BYTES >> 20} MiB")
            raise ToolFailed(f"{name} has not answered within {self._deadline_s:g} s")
        try:
            code = process.wait(max(0.1, self._deadline_s - (time.monotonic() - self._since)))
        except subprocess.TimeoutExpired:
            self._stop(process)
            raise ToolFailed(f"{name} has not ended within {self._deadline_s:g} s") from None
        text = data.decode("utf-8", "replace")
        if code != 0:
            said = " ".join(text.split())[:SAID_CHARACTERS]
            raise ToolFailed(f"{name} ended with {code}" + (f": {said}" if said else ""))
        return text

    def _read(self, file: int) -> tuple[bytes, bool]:
        data = bytearray()
        while len(data) <= OUTPUT_BYTES:
            left_s = self._since + self._deadline_s - time.monotonic()
            readable, _, _ = select([file], [], [], max(0.0, left_s))
            if not readable:
                return bytes(data), False
            more = os.read(file, 1 << 16)
            if not more:
                return bytes(data), True
            data += more
        return bytes(data), False

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self._hanging = process

    def close(self) -> None:
        """One that still hangs is asked once more, and left."""
        if self._hanging is not None and self._hanging.poll() is None:
            self._hanging.terminate()
