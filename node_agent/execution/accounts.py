"""As whom does a tenant's run go, and how does one ask the file system as that user?

Where the agent runs as root, a run goes as the Unix account that the configuration names for its tenant. Elsewhere all
runs go as the agent's own user, which is called single-user mode.

A thread asks as another user by changing its own effective ids alone. The C library's functions would change those of
every thread of the process, so the system calls are made directly, credentials(7). The real and saved ids stay: the
tenant may neither signal nor trace the thread, and the way back is open.
"""

from __future__ import annotations

import ctypes
import getpass
import os
import platform
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# asm/unistd_64.h of x86-64, and asm-generic/unistd.h for all newer architectures.
_X86_64 = {"setgroups": 116, "setresuid": 117, "setresgid": 119}
_GENERIC = {"setgroups": 159, "setresuid": 147, "setresgid": 149}
_CALLS = {"x86_64": _X86_64, "aarch64": _GENERIC, "riscv64": _GENERIC, "loongarch64": _GENERIC}

# linux/capability.h: what changing the user, giving files away and signalling other users' processes take.
_NEEDED_CAPABILITIES = {"CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7}
_UNCHANGED = -1


class NoSuchAccount(LookupError):
    """This machine has no such user. The message is a sentence."""


@dataclass(frozen=True, slots=True)
class Account:
    """A Unix user as this machine knows it: `groups` are all of its groups, `home` its directory."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def find_account(name: str) -> Account:
    """May wait for a directory service. Raises NoSuchAccount."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise NoSuchAccount(f"there is no Unix user {name}") from None
    return Account(name, found.pw_uid, found.pw_gid, tuple(os.getgrouplist(name, found.pw_gid)), found.pw_dir)


def why_single_user(status: Path = Path("/proc/self/status")) -> str:
    """Why runs cannot go as other users than this process's: half a sentence; empty when they can."""
    if os.geteuid() != 0:
        return f"the agent runs as {_own_name()} and not as root"
    if platform.machine() not in _CALLS:
        return f"changing the user of one thread is not known for {platform.machine()}"
    effective = next(
        (int(line.split()[1], 16) for line in status.read_text().splitlines() if line.startswith("CapEff:")), 0
    )
    missing = [name for name, bit in _NEEDED_CAPABILITIES.items() if not effective >> bit & 1]
    return f"the agent's root lacks {', '.join(missing)}" if missing else ""


def isolation_note() -> str:
    """For `suanli nodes`: who is kept apart from whom on this node."""
    why = why_single_user()
    if why:
        return f"single-user mode: all jobs run as {_own_name()}, so tenants are not kept apart here ({why})"
    return f"jobs run as the unix_user that tenants.yaml names for their tenant; without one, as {_own_name()}"


def _own_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may give a process a uid that has no name
        return f"uid {os.geteuid()}"


@contextmanager
def acting_as(account: Account | None) -> Iterator[None]:
    """Meanwhile this thread looks, makes and opens as the account would; None: as itself.

    os.access must be told `effective_ids=True`. Raises PermissionError where the user cannot be changed.
    """
    if account is None:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    try:
        _set_groups(account.groups)
        _call("setresgid", _UNCHANGED, account.gid, _UNCHANGED)
        _call("setresuid", _UNCHANGED, account.uid, _UNCHANGED)
        yield
    finally:
        _call("setresuid", _UNCHANGED, 0, _UNCHANGED)  # first: it gives the right to the others back
        _call("setresgid", _UNCHANGED, group, _UNCHANGED)
        _set_groups(groups)


def _set_groups(groups: tuple[int, ...] | list[int]) -> None:
    _call("setgroups", len(groups), (ctypes.c_uint32 * len(groups))(*groups))


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    number = _CALLS[platform.machine()][name]
    given = (ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
    if libc.syscall(ctypes.c_long(number), *given) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
