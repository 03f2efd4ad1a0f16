"""What the launcher is told and what it tells, as frozen dataclasses and as JSON: shared by both ends of its socket.

Requests are JSON lines `{"id", "op", "epoch", ...}`, answered by `{"id", "ok", ...}`; an exit is pushed as
`{"push": "exit", "run": RunRecord}`. `key` is opaque here, and so is `tag`: what the agent wants back after a crash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, cast

How = Literal["exit", "signal", "out_of_memory", "lease", "unknown", "never_started"]
HOWS = ("exit", "signal", "out_of_memory", "lease", "unknown", "never_started")

CANNOT_EXECUTE = 126  # the exit code that a shell gives for a command that is there and cannot be executed

GROUP_DIGITS = 24

Json = dict[str, Any]  # only between a line of the socket or the journal and a dataclass


class BadRecord(Exception):
    """A line that is not what this version of the launcher speaks. The message names the field."""


def control_group_of(key: str) -> str:
    """What the run's control group is called: no other run's is, and any launcher finds it."""
    return "run-" + hashlib.sha256(key.encode()).hexdigest()[:GROUP_DIGITS]


def _field(data: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    value = data.get(name)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise BadRecord(f"field {name!r} is {value!r}")
    return value


@dataclass(frozen=True, slots=True)
class UserIds:
    """As whom a run goes: by numbers, so that the launcher never waits for a directory service."""

    uid: int
    gid: int
    groups: tuple[int, ...]

    @staticmethod
    def from_json(data: object) -> UserIds:
        if not isinstance(data, Mapping):
            raise BadRecord(f"field 'user' is {data!r}")
        groups = _field(data, "groups", list)
        ids = (_field(data, "uid", int), _field(data, "gid", int), *groups)
        if not all(isinstance(each, int) and 0 <= each < 2**32 - 1 for each in ids):
            raise BadRecord(f"field 'user' is {data!r}")
        return UserIds(ids[0], ids[1], tuple(groups))


@dataclass(frozen=True, slots=True)
class LaunchOrder:
    """Start `argv` (argv[0] looked up on the PATH in `env`) in `cwd`, appending its output to two files.

    `memory_bytes` and `cpus_milli` 0 set no limit. `grace_s` is what a run gets between SIGTERM and SIGKILL when the
    lease lapses. `user` None: the launcher's own.
    """

    key: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    stdout: str
    stderr: str
    memory_bytes: int
    grace_s: float
    lease_bound: bool
    tag: str
    cpus_milli: int = 0
    user: UserIds | None = None

    def to_json(self) -> Json:
        user = None if self.user is None else asdict(self.user)
        return {name: getattr(self, name) for name in _ORDER_FIELDS} | {"env": dict(self.env), "user": user}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> LaunchOrder:
        argv = _field(data, "argv", list)
        env = _field(data, "env", dict)
        if not argv or not all(isinstance(part, str) for part in (*argv, *env, *env.values())):
            raise BadRecord("fields 'argv' and 'env' hold strings, and argv at least one")
        return LaunchOrder(
            key=_field(data, "key", str),
            argv=tuple(argv),
            env=tuple(env.items()),
            cwd=_field(data, "cwd", str),
            stdout=_field(data, "stdout", str),
            stderr=_field(data, "stderr", str),
            memory_bytes=_field(data, "memory_bytes", int),
            grace_s=float(_field(data, "grace_s", (int, float))),
            lease_bound=_field(data, "lease_bound", bool),
            tag=_field(data, "tag", str),
            cpus_milli=_field(data, "cpus_milli", int) if "cpus_milli" in data else 0,  # an older agent says nothing
            user=None if data.get("user") is None else UserIds.from_json(data["user"]),
        )


# asdict copies every string of the environment by way of deepcopy: a third of what a start cost the agent.
_ORDER_FIELDS = tuple(each.name for each in fields(LaunchOrder))


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """How a run ended, as in messages.Exited; `detail` is empty unless there is more to say. `asked`: it had been
    signalled on the service's behalf before.
    """

    how: How
    code: int | None
    at_s: float
    detail: str = ""
    asked: bool = False

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> ExitRecord:
        how, code = data.get("how"), data.get("code")
        if how not in HOWS or not (code is None or isinstance(code, int)):
            raise BadRecord(f"an exit of how={how!r}, code={code!r}")
        at_s = float(_field(data, "at_s", (int, float)))
        return ExitRecord(cast(How, how), code, at_s, _field(data, "detail", str), bool(data.get("asked", False)))


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run in the launcher's table. `pid` is None when the launcher died before it could note it. `started_boot_s`:
    `started_s` by CLOCK_BOOTTIME, which nobody can set.
    """

    key: str
    tag: str
    pid: int | None
    started_s: float | None
    exit: ExitRecord | None
    started_boot_s: float | None = None

    def to_json(self) -> Json:
        return {
            "key": self.key,
            "tag": self.tag,
            "pid": self.pid,
            "started_s": self.started_s,
            "exit": None if self.exit is None else asdict(self.exit),
            "started_boot_s": self.started_boot_s,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> RunRecord:
        pid, started_s, exit_ = data.get("pid"), data.get("started_s"), data.get("exit")
        boot_s = data.get("started_boot_s")
        return RunRecord(
            key=_field(data, "key", str),
            tag=_field(data, "tag", str),
            pid=None if pid is None else _field(data, "pid", int),
            started_s=None if started_s is None else float(_field(data, "started_s", (int, float))),
            exit=None if exit_ is None else ExitRecord.from_json(exit_),
            started_boot_s=None if boot_s is None else float(_field(data, "started_boot_s", (int, float))),
        )
