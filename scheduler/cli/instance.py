"""One instance of Suanli on this machine: where its files are, which processes are its own, how to end exactly those.

Layout of the home ($SUANLI_HOME, default ~/.suanli), everything private to its owner:

    instance.json   what `up` started (pids with their start times), so that `down` ends that and nothing else
    client.json     where the doors are, for the CLI
    tokens.json     digests of API tokens;   operator.token  the token that `up` made
    secrets/        Ray's token, the service's secret, the gateway's control token
    store.db        the store;   logs/  of each part;   node/  runs of this machine's agents
    ray-gcs/        the state of Ray's head while the instance is up

Sockets live in a short directory under the system's temporary directory: a socket's path is limited to 107 bytes.
Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from scheduler.cli.client import home_path
from scheduler.errors import Conflict, Unavailable

INSTANCE_VARIABLE = "SUANLI_INSTANCE"  # in the environment of everything `up` starts, so that strays can be told
RUNTIME_VARIABLE = "SUANLI_NODE_RUNTIME"  # where a node's agents keep their sockets
STATE_VARIABLE = "SUANLI_NODE_STATE"  # where a node's agents keep runs and logs
LEAST_PORT = 15_000  # of those that are drawn; below stand the services that people know
LOCK_WAIT_S = 2.0  # how long `up` and `down` wait for the home's lock, which the supervisor holds for moments


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process that we started: its pid, and its start time in clock ticks to tell it from a later one of that pid."""

    pid: int
    start_ticks: int

    @staticmethod
    def of(pid: int) -> ProcessId | None:
        ticks = start_ticks(pid)
        return None if ticks is None else ProcessId(pid, ticks)

    def alive(self) -> bool:
        return start_ticks(self.pid) == self.start_ticks and not _is_zombie(self.pid)

    def signal(self, number: int) -> None:
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait_gone(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def _stat_fields(pid: int) -> list[str] | None:
    """/proc/PID/stat after the command name, which may hold spaces and parentheses; None: no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def start_ticks(pid: int) -> int | None:
    fields = _stat_fields(pid)
    return None if fields is None else int(fields[19])


def _is_zombie(pid: int) -> bool:
    fields = _stat_fields(pid)
    return fields is not None and fields[0] in "ZX"


def program_of(pid: int) -> str:
    """The file name of what it runs, as it was told; empty: it has ended."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return os.fsdecode(words[0]).rpartition("/")[2]


def processes_of_session(session: int) -> list[int]:
    """Living processes whose session is `session` (all that a session leader we started has started)."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = _stat_fields(int(entry))
            if fields is not None and fields[0] not in "ZX" and int(fields[3]) == session:
                found.append(int(entry))
    return found


def end_session(leader: int, timeout_s: float = 5.0) -> bool:
    """SIGKILL everything in the session of `leader` until nothing is left. True when it is empty."""
    deadline = time.monotonic() + timeout_s
    while living := processes_of_session(leader):
        for pid in living:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@dataclass(frozen=True, slots=True)
class Started:
    """What `up` has started so far. Written to disk after every step, so that a killed `up` leaves a true record."""

    config: str
    instance: str
    runtime_dir: str
    api: str
    gateway: str
    ray_port: int = 0
    ray_address: str = ""
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    processes: Mapping[str, ProcessId] = field(default_factory=dict)  # by part, see parts.PARTS

    def living(self) -> dict[str, ProcessId]:
        return {name: process for name, process in self.processes.items() if process.alive()}


class Home:
    """The files of one instance. Creating it makes the directory, private to its owner."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def from_environment() -> Home:
        return Home(home_path())

    # -- places ----------------------------------------------------------------------------------------------------

    @property
    def identity(self) -> str:
        return hashlib.sha256(str(self.path).encode()).hexdigest()[:10]

    @property
    def runtime_dir(self) -> Path:
        base = os.environ.get("SUANLI_RUNTIME_BASE", "/tmp")
        return Path(base) / f"suanli-{os.getuid()}-{self.identity}"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def ray_state(self) -> Path:
        """What Ray's GCS keeps on disk while the instance is up. Nothing of ours is in it."""
        return self.path / "ray-gcs"

    @property
    def tokens(self) -> Path:
        return self.path / "tokens.json"

    @property
    def operator_token(self) -> Path:
        return self.path / "operator.token"

    def secret_file(self, name: str) -> Path:
        return self.path / "secrets" / name

    # -- making ----------------------------------------------------------------------------------------------------

    def create(self) -> None:
        try:
            # Where root runs jobs as other users, these must get through to their own directories below `node`.
            passable = 0o711 if os.geteuid() == 0 else 0o700
            for directory, mode in (
                (self.path, passable),
                (self.path / "secrets", 0o700),
                (self.logs, 0o700),
                (self.path / "node", passable),
            ):
                directory.mkdir(mode=mode, parents=True, exist_ok=True)
                directory.chmod(mode)
        except OSError as error:
            raise Unavailable(
                f"cannot make the instance's directory {self.path}: {error.strerror}; set SUANLI_HOME to a "
                "directory that you may write"
            ) from error

    def make_runtime_dir(self) -> Path:
        """The short directory for sockets; refused when somebody else made it (it could then be read or swapped)."""
        path = self.runtime_dir
        try:
            path.mkdir(mode=0o700, parents=False)
        except FileExistsError:
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
                raise Conflict(
                    f"{path} exists and is not a private directory of yours; remove it or set SUANLI_RUNTIME_BASE"
                ) from None
        except OSError as error:
            raise Unavailable(f"cannot make {path}: {error.strerror}; set SUANLI_RUNTIME_BASE") from error
        return path

    def remove_runtime_dir(self) -> None:
        path = self.runtime_dir
        if path.is_dir() and not path.is_symlink() and path.lstat().st_uid == os.getuid():
            shutil.rmtree(path, ignore_errors=True)

    def secret(self, name: str) -> str:
        """A secret of this instance, made at first use, kept 0600."""
        path = self.secret_file(name)
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        return path.read_text().strip()

    # -- what is running -------------------------------------------------------------------------------------------

    def started(self) -> Started | None:
        try:
            data = json.loads((self.path / "instance.json").read_text())
            processes = {name: ProcessId(**process) for name, process in data.pop("processes").items()}
            return replace(Started(**data), processes=processes)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Conflict(f"{self.path / 'instance.json'} cannot be read ({error}); remove it after `ps`") from error

    def record(self, started: Started) -> None:
        write_private(self.path / "instance.json", json.dumps(asdict(started), indent=1))

    def record_client(self, started: Started) -> None:
        write_private(
            self.path / "client.json",
            json.dumps(
                {
                    "api": started.api,
                    "gateway": started.gateway,
                    "token_file": str(self.operator_token),
                    "ca_file": started.ca_file,
                }
            ),
        )

    def forget(self) -> None:
        for name in ("instance.json", "client.json"):
            (self.path / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self, *, wait_s: float = 0.0) -> Iterator[None]:
        """One `up`, `down` or start by the supervisor at a time on one home. Raises Conflict after `wait_s`."""
        self.create()
        deadline = time.monotonic() + wait_s
        with open(self.path / "lock", "w") as handle:
            os.chmod(self.path / "lock", 0o600)
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        words = f"another `suanli up` or `down` is at work on {self.path}; wait for it"
                        raise Conflict(words) from None
                    time.sleep(0.02)
            yield


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically; readable by its owner alone."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def free_port(host: str) -> int:
    """A port that is free now. Another process may take it before we do: callers check again by listening.

    Ray takes seconds to listen on what it is told. So it is one that the kernel gives to no connection meanwhile, and
    drawn, as two instances may be started at once.
    """
    below = _first_ephemeral_port()
    tries = random.sample(range(LEAST_PORT, below), 50) if below - LEAST_PORT > 1000 else []
    for port in (*tries, 0):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                if port == 0:
                    raise
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("port 0 is taken or raises")


def _first_ephemeral_port() -> int:
    """0 where nobody knows."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def require_free(host: str, port: int, *, door: str) -> None:
    """Raise Conflict when somebody listens on host:port already."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            other = "ray.port in the site file" if door == "ray" else f"--{door}-port"
            raise Conflict(
                f"{door}: cannot listen on {host}:{port}: {str(error.strerror).lower()}. Stop what uses it (`ss -ltnp "
                f"'sport = :{port}'` names it), or choose another port with {other} (0 takes any free one)",
                field=f"{door}.port",
            ) from None


def pid_file_process(path: Path) -> ProcessId | None:
    """The living process that a launcher's pid file names, or None."""
    try:
        data: dict[str, Any] = json.loads(path.read_text())
        process = ProcessId(int(data["pid"]), int(data["start_ticks"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return process if process.alive() else None


def strays(identity: str) -> list[ProcessId]:
    """Living processes of ours (same user) that carry this instance's mark in their environment."""
    mark = f"{INSTANCE_VARIABLE}={identity}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            environment = Path(f"/proc/{entry}/environ").read_bytes()
        except OSError:
            continue
        if mark in environment.split(b"\0") and (process := ProcessId.of(int(entry))) is not None and process.alive():
            found.append(process)
    return found


def session_is_ours(home: Home, leader: ProcessId) -> bool:
    """Whether processes of a session that such a leader began carry our mark (a reused session number would not)."""
    session = set(processes_of_session(leader.pid))
    return bool(session & {process.pid for process in strays(home.identity)})
