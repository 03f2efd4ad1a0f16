"""The supervisor's process: whatever part of the instance dies is started again, at once at first, then with back-off.

`up` starts it last and `down` ends it first. It holds nothing but times: what runs is in instance.json, so when it dies
itself, the parts live on and the next `up` (or systemd) starts another one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from scheduler.backoff import Backoff
from scheduler.cli.instance import Home, ProcessId, Started
from scheduler.cli.parts import WATCHED, start_part
from scheduler.errors import Conflict, SuanliError

if TYPE_CHECKING:
    from scheduler.schema.model import SiteConfig

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.1
LONGEST_IF_UP_S = 1.0
DOOR_WITHIN_S = 0.2


class Supervisor:
    """`look` again and again. `start` starts the named part and records it; raises Conflict while `up` or `down` is at
    work, SuanliError or OSError when it could not. `is_up`: whether the part has come so far that its door is open.
    """

    def __init__(self, start: Callable[[str], None], is_up: Callable[[str], bool]) -> None:
        self._start = start
        self._is_up = is_up
        self._was_up: dict[str, bool] = {}
        self._backoffs = {name: Backoff() for name in WATCHED}
        self._since_s: dict[str, tuple[ProcessId, float]] = {}  # who was seen alive, since when
        self._due_s: dict[str, float] = {}

    def look(self, started: Started, now_s: float) -> None:
        """`now_s`: of a clock that nobody sets."""
        for name in WATCHED:
            process = started.processes.get(name)
            if process is None:
                continue
            if process.alive():
                if name not in self._since_s or self._since_s[name][0] != process:
                    self._since_s[name] = (process, now_s)
                    self._was_up[name] = False
                self._was_up[name] = self._was_up[name] or self._is_up(name)
                self._due_s.pop(name, None)
                continue
            if name not in self._due_s:
                ran_s = now_s - self._since_s[name][1] if name in self._since_s else 0.0
                pause_s = self._backoffs[name].after_death(ran_s)
                if self._was_up.get(name):  # it was of use, and will be again: what kills it came from outside
                    pause_s = min(pause_s, LONGEST_IF_UP_S)
                self._due_s[name] = now_s + pause_s
                later = f" in {pause_s:g} s" if pause_s else ""
                log.warning("%s (pid %d) died; it is started again%s", name, process.pid, later)
            if now_s >= self._due_s[name]:
                self._bring_back(name, now_s)

    def _bring_back(self, name: str, now_s: float) -> None:
        try:
            self._start(name)
        except Conflict:
            return  # `up` or `down` is at work on it: look again
        except (SuanliError, OSError) as error:
            pause_s = self._backoffs[name].after_death(0.0)
            self._due_s[name] = now_s + pause_s
            log.error("%s cannot be started: %s; tried again in %g s", name, error, pause_s)
            return
        del self._due_s[name]


def start_again(home: Home, site: SiteConfig, name: str) -> None:
    """Start a part that is not alive, under the lock: unless `up` did so meanwhile, or `down` ended the instance."""
    with home.locked():
        started = home.started()
        if started is None or name in started.living():
            return
        start_part(home, site, started, name)


def _is_open(home: Home, name: str) -> bool:
    """Whether somebody listens at that part's door."""
    started = home.started()
    if started is None:
        return False
    door = urlsplit({"ray": f"//{started.ray_address}", "gateway": started.gateway, "service": started.api}[name])
    try:
        socket.create_connection((door.hostname or "", door.port or 0), timeout=DOOR_WITHIN_S).close()
    except OSError:
        return False
    return True


@click.command()
@click.option("--home", "home_path", type=click.Path(path_type=Path), required=True)
def main(home_path: Path) -> None:
    """Keep the parts of the instance at --home alive."""
    from scheduler.schema.load import load_site

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s: %(message)s", stream=sys.stderr)
    home = Home(home_path)
    started = home.started()
    if started is None:
        raise click.ClickException(f"{home.path} has no instance; start it with `suanli up`")
    told_to_go: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: told_to_go.append(number))
    try:
        site = load_site(Path(started.config))
    except SuanliError as error:
        click.echo(error.message, err=True)
        sys.exit(error.exit_code)
    supervisor = Supervisor(lambda name: start_again(home, site, name), lambda name: _is_open(home, name))
    while not told_to_go:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # what it started is its child, and must not stay as a zombie
                pass
        try:
            started = home.started()
        except Conflict as error:  # it cannot be read: whoever mends or removes it is waited for
            log.error("%s", error.message)
        else:
            if started is None:
                log.info("the instance is gone, and so is its supervisor")
                return
            supervisor.look(started, time.monotonic())
        time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    main()
