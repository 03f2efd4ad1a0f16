"""A real PostgreSQL server of the tests' own: from the installed binaries, in a private directory, without a network
door, ended with the tests. Whoever has no binaries is told so and skips."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

PORT = 5432  # of the socket's name alone
_USER = "suanli"


def binaries() -> Path | None:
    """The directory of initdb and postgres: the one on PATH, or the newest that a distribution has installed."""
    found = shutil.which("initdb")
    if found and (Path(found).resolve().parent / "postgres").exists():
        return Path(found).resolve().parent
    installed = [Path(p) for p in glob.glob("/usr/lib/postgresql/*/bin") if (Path(p) / "initdb").exists()]
    return max(installed, key=lambda path: float(path.parent.name), default=None)


def needed() -> Path:
    """The binaries; skips the test that asks where there are none."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'suanli[postgres]'")
    found = binaries()
    if found is None:
        pytest.skip("no PostgreSQL here: neither on PATH nor in /usr/lib/postgresql/*/bin are initdb and postgres")
    return found


class PostgresServer:
    """`start`, `kill` and `start` again as often as a test likes; `remove` leaves nothing.

    It listens on a Unix socket in a directory that nobody else may enter. PostgreSQL refuses to run as root: then it
    runs as `nobody`. It dies with the process that started it. Nothing is synced to the disk: no test pulls the plug.
    """

    def __init__(self) -> None:
        self._bin = needed()
        self.directory = Path(tempfile.mkdtemp(prefix="suanli-pg-", dir="/tmp"))
        self._data = self.directory / "data"
        self._process: subprocess.Popen[bytes] | None = None
        as_root = os.geteuid() == 0
        if as_root:
            other = pwd.getpwnam("nobody")
            os.chown(self.directory, other.pw_uid, other.pw_gid)
            self._as = ["setpriv", f"--reuid={other.pw_uid}", f"--regid={other.pw_gid}", "--clear-groups"]
        else:
            self._as = ["setpriv"]
        self._run("initdb", "-D", str(self._data), "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self._databases = 0

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as, "--pdeathsig", "KILL", str(self._bin / program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.directory,
        )
        assert done.returncode == 0, done.stderr + done.stdout

    def url(self, database: str = "postgres", *, directory: Path | None = None) -> str:
        return f"postgresql+psycopg://{_USER}@/{database}?host={directory or self.directory}&port={PORT}"

    def new_database(self) -> str:
        """The URL of an empty one."""
        self._databases += 1
        name = f"store{self._databases}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    @staticmethod
    def database_of(url: str) -> str:
        from sqlalchemy.engine import make_url

        return str(make_url(url).database)

    def sql(self, statement: str, *, database: str = "postgres") -> list[tuple[object, ...]]:
        import psycopg

        with psycopg.connect(
            host=str(self.directory), port=PORT, user=_USER, dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Returns when it answers."""
        assert self._process is None
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.directory),
            "port": str(PORT),
            "fsync": "off",
            "max_connections": "100",
            "logging_collector": "off",
        }
        log = open(self.directory / "server.log", "ab")  # noqa: SIM115 - the server's own from now on
        self._process = subprocess.Popen(
            [
                *(*self._as, "--pdeathsig", "QUIT", str(self._bin / "postgres"), "-D", str(self._data)),
                *(f"--{name}={value}" for name, value in settings.items()),
            ],
            stdout=log,
            stderr=log,
            cwd=self.directory,
        )
        log.close()
        until_s = time.monotonic() + 30.0
        while True:
            try:
                self.sql("SELECT 1")
                return
            except Exception:
                assert self._process.poll() is None, (self.directory / "server.log").read_text()
                assert time.monotonic() < until_s, (self.directory / "server.log").read_text()
                time.sleep(0.02)

    def kill(self) -> None:
        """As a crash of the machine it runs on: nobody gets an answer any more, and nothing is tidied up."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        self._end(signal.SIGINT)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=30)
            self._process = None

    def remove(self) -> None:
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)
