"""The control groups of runs: entered before the fork, killed and removed after the end.

A run is born in its group: the launcher, which has one thread, stands in it while it forks, and goes back. To move a
process is a matter of microseconds; to run code of ours between fork and exec costs milliseconds. The limits are set
once the launcher is out of it again, so that they never hold the launcher.

All groups of a launcher lie in one of its own in each tree. Where these are is written to a file beside the journal
before the first is used: a launcher that comes after a crash may have been started from elsewhere, and finds by it what
its predecessor left. Files and their meaning: cgroups(7), Linux's admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from node_agent.launcher.cgroup_places import CONTROLLERS, Controller, Place, places
from node_agent.launcher.ports import Limits, Say

PERIOD_US = 100_000  # the kernel's own default
LEAST_QUOTA_US = 1_000  # less it does not take
PROBE = "probe"
PROBE_VALUES: dict[Controller, int] = {"memory": 1 << 30, "cpu": 1000}
HOME = "launcher"
MILLI = 1000


@dataclass(frozen=True, slots=True)
class _Tree:
    """`parent` holds the runs' groups; the controllers are those that were seen to work in it. `own` is where the
    launcher is at home.
    """

    parent: Path
    own: Path
    version: int
    controllers: tuple[Controller, ...]


class OsControlGroups:
    """ports.ControlGroups on real ones. Without any place to make one it makes none, and enforces nothing."""

    def __init__(self, trees: Sequence[_Tree], earlier: Sequence[Path], notebook: Path, why: str, say: Say) -> None:
        self._trees = tuple(trees)
        self._parents = tuple(dict.fromkeys([*(tree.parent for tree in trees), *earlier]))
        self._names = tuple(map(str, self._parents))  # paths are put together for each run: as text, which is quicker
        self._held: set[str] = set()  # groups that have been given a limit of memory
        self._notebook = notebook
        self._say = say
        has = {controller for tree in trees for controller in tree.controllers}
        self.limits = Limits("memory" in has, "cpu" in has, why)

    @staticmethod
    def find(name: str, notebook: Path, say: Say, *, proc: Path = Path("/proc/self")) -> OsControlGroups:
        """Try out what this process may make; `name` is what no other launcher of the machine calls its own group.

        `notebook` is the file that remembers where they are. Never raises: what cannot be had is said in `limits.why`.
        """
        earlier = _noted(notebook)
        trees: list[_Tree] = []
        troubles: list[str] = []
        try:
            tried = places((proc / "mountinfo").read_text(), (proc / "cgroup").read_text())
        except (OSError, ValueError) as error:
            tried, troubles = [], [f"the kernel's list of control groups cannot be read: {error}"]
        for place in tried:
            try:
                trees.append(_prepared(place, name))
            except OSError as error:
                troubles.append(f"no control group can be made in {place.directory}: {error.strerror}")
        try:
            if trees:
                _note(notebook, [*(tree.parent for tree in trees), *earlier])
        except OSError as error:  # without it a successor would not find them
            troubles.append(f"{notebook} cannot be written: {error.strerror}")
            for tree in trees:
                _remove(tree.parent)
            trees = []
        missing = [name for name in CONTROLLERS if not any(name in tree.controllers for tree in trees)]
        if missing and not troubles:
            troubles.append(f"this machine offers no control groups for {' or '.join(missing)}")
        why = "; ".join(troubles)
        return OsControlGroups(trees, [parent for parent in earlier if parent.is_dir()], notebook, why, say)

    # ---- one run's -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def entered(self, group: str, memory_bytes: int, cpus_milli: int) -> Iterator[None]:
        """Make it and be in it meanwhile; afterwards set its limits. Removed if something fails meanwhile.

        Where nothing is to be limited there is none; where none can be made just now the run goes without.
        """
        asked: dict[Controller, int] = {"memory": memory_bytes, "cpu": cpus_milli}
        limited = [tree for tree in self._trees if any(asked[controller] for controller in tree.controllers)]
        try:
            for tree in limited:
                directory = f"{tree.parent}/{group}"
                _make(directory)
                _enter(tree, directory)
        except OSError as error:
            self._say(f"a run goes without limits of the kernel's: {error}")
            self._go_back(limited)
            self.remove(group)
            limited = []
        try:
            yield
        except BaseException:
            self._go_back(limited)
            self.remove(group)
            raise
        self._go_back(limited)
        for tree in limited:
            self._limit(tree, group, asked)

    def place(self, pid: int, group: str, memory_bytes: int, cpus_milli: int) -> None:
        """Put a process that lives already into it, with all its threads, and set its limits. What it holds by now
        still counts where it was (cgroup-v2.rst, "Memory Ownership")."""
        asked: dict[Controller, int] = {"memory": memory_bytes, "cpu": cpus_milli}
        for tree in self._trees:
            if not any(asked[controller] for controller in tree.controllers):
                continue
            try:
                _make(f"{tree.parent}/{group}")
                _write(f"{tree.parent}/{group}/cgroup.procs", pid)
            except OSError as error:
                self._say(f"a run goes without limits of the kernel's: {error}")
                continue
            self._limit(tree, group, asked)

    def _limit(self, tree: _Tree, group: str, asked: Mapping[Controller, int]) -> None:
        """What cannot be set is said, and seen by `holds_memory`: then somebody counts."""
        for controller in tree.controllers:
            if asked[controller]:
                try:
                    _limit(f"{tree.parent}/{group}", tree.version, controller, asked[controller])
                    if controller == "memory":
                        self._held.add(group)
                except OSError as error:
                    self._say(f"a run's limit of {controller} could not be set: {error}")

    def _go_back(self, trees: Sequence[_Tree]) -> None:
        for tree in trees:
            try:
                _enter(tree, str(tree.own))
            except OSError as error:  # somebody has just removed it, for nobody was in it
                self._say(f"{tree.own} cannot be entered again: {error}")
                _make(f"{tree.parent}/{HOME}")
                _enter(tree, f"{tree.parent}/{HOME}")

    def holds_memory(self, group: str) -> bool:
        return group in self._held or any(_limits_memory(directory) for directory in self._directories(group))

    def memory_kills(self, group: str) -> int:
        """How many of its processes the kernel has killed because it was at its limit."""
        return max((_memory_kills(directory) for directory in self._directories(group)), default=0)

    def kill(self, group: str) -> None:
        """Whoever is in it, wherever it went: a process leaves its session, and not its control group."""
        for directory in self._directories(group):
            try:
                (directory / "cgroup.kill").write_text("1")
            except OSError:  # version 1, or a kernel before 5.14
                for pid in _members(directory):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)

    def remove(self, group: str) -> bool:
        """False while something in it has not ended yet."""
        gone = True
        for parent in self._names:
            try:
                _unmake(f"{parent}/{group}")
            except FileNotFoundError:
                pass  # it had no group in this tree
            except OSError:
                gone = _remove(Path(parent, group)) and gone
        if gone:
            self._held.discard(group)
        return gone

    def names(self) -> list[str]:
        """Of all groups that are there, those of an earlier launcher among them."""
        found: dict[str, None] = {}
        for parent in self._parents:
            with contextlib.suppress(OSError):
                found |= {entry.name: None for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False)}
        found.pop(HOME, None)
        return list(found)

    def close(self) -> None:
        """The launcher ends. What still holds something stays, and so does the note of it."""
        left = [parent for parent in self._parents if not _remove(parent)]
        with contextlib.suppress(OSError):
            if left:
                _note(self._notebook, left)
            else:
                self._notebook.unlink(missing_ok=True)

    def _directories(self, group: str) -> list[Path]:
        return [directory for parent in self._parents if (directory := parent / group).is_dir()]


# ---- trying out ------------------------------------------------------------------------------------------------------


def _prepared(place: Place, name: str) -> _Tree:
    """Make the launcher's own group there, and see which limits a group within it takes. Raises OSError if none."""
    parent = place.directory / name
    # Others live beside: where nobody has given this part of the tree to us, nothing of it is switched.
    if place.version == 2 and (_delegated(place.directory) or place.directory.parent == place.directory):
        _switch_on(place.directory, place.controllers)
    _make(str(parent))
    try:
        if place.version == 2:
            _switch_on(parent, place.controllers)
        _make(f"{parent}/{PROBE}")
        try:
            works: list[Controller] = []
            trouble: OSError | None = None
            for controller in place.controllers:
                try:
                    _limit(f"{parent}/{PROBE}", place.version, controller, PROBE_VALUES[controller])
                    works.append(controller)
                except OSError as error:
                    trouble = error
            if not works:
                raise trouble or OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        finally:
            _unmake(f"{parent}/{PROBE}")
        return _Tree(parent, place.own, place.version, tuple(works))
    except OSError:
        _remove(parent)
        raise


def _delegated(directory: Path) -> bool:
    """Whether systemd has given the group to who runs in it (Delegate=yes), or it belongs to this user alone."""
    for attribute in ("trusted.delegate", "user.delegate"):
        with contextlib.suppress(OSError):
            return os.getxattr(directory, attribute) == b"1"
    return os.geteuid() != 0 and directory.stat().st_uid == os.geteuid()


def _switch_on(directory: Path, controllers: Sequence[Controller]) -> None:
    """Each by itself: what cannot be had is found missing when a limit is set."""
    for controller in controllers:
        with contextlib.suppress(OSError):
            _write(f"{directory}/cgroup.subtree_control", f"+{controller}")


def _noted(notebook: Path) -> list[Path]:
    """Only what is a control group still, by its look: the file is ours, but a boot lies between, perhaps."""
    try:
        noted = json.loads(notebook.read_text())
        return [Path(each) for each in noted if isinstance(each, str) and (Path(each) / "cgroup.procs").exists()]
    except (OSError, ValueError, TypeError):
        return []


def _note(notebook: Path, parents: Sequence[Path]) -> None:
    fresh = notebook.with_name(notebook.name + ".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump([str(parent) for parent in dict.fromkeys(parents)], file)
    os.replace(fresh, notebook)


# ---- files -----------------------------------------------------------------------------------------------------------


def _make(directory: str) -> None:
    """The kernel puts its files into it."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory)


def _unmake(directory: str) -> None:
    """And takes them away with it, where nothing lives in it."""
    os.rmdir(directory)


def _enter(tree: _Tree, directory: str) -> None:
    """With the one thread that this process has: version 1 can move it without stopping the forks of the machine."""
    _write(f"{directory}/{'tasks' if tree.version == 1 else 'cgroup.procs'}", 0)


def _limit(directory: str, version: int, controller: Controller, value: int) -> None:
    """`value`: bytes of memory, or thousandths of a CPU. In peaks a run may use what it left in the period before."""
    quota_us = max(LEAST_QUOTA_US, value * PERIOD_US // MILLI)
    match controller, version:
        case "memory", 2:
            _write(f"{directory}/memory.swap.max", 0, optional=True)
            _write(f"{directory}/memory.oom.group", 1, optional=True)
            _write(f"{directory}/memory.max", value)
        case "memory", _:
            _write(f"{directory}/memory.limit_in_bytes", value)
            _write(f"{directory}/memory.memsw.limit_in_bytes", value, optional=True)
        case "cpu", 2:
            _write(f"{directory}/cpu.max", f"{quota_us} {PERIOD_US}")
            _write(f"{directory}/cpu.max.burst", quota_us, optional=True)
        case _:
            _write(f"{directory}/cpu.cfs_quota_us", quota_us)  # the period is PERIOD_US without a word
            _write(f"{directory}/cpu.cfs_burst_us", quota_us, optional=True)


def _write(path: str, value: int | str, *, optional: bool = False) -> None:
    """O_CREAT is not among the flags: a file that the kernel does not offer must not be made, nor can it be."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, str(value).encode())
        finally:
            os.close(descriptor)
    except OSError:
        if not optional:
            raise


def _limits_memory(directory: Path) -> bool:
    """Without a limit version 2 says `max`, and version 1 the largest multiple of a page."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        with contextlib.suppress(OSError):
            text = (directory / name).read_text().strip()
            return text != "max" and int(text) < 1 << 62
    return False


def _memory_kills(directory: Path) -> int:
    """The rows `oom_kill N`. Kernels before 4.13 have none: there nothing is known."""
    for name in ("memory.events", "memory.oom_control"):
        with contextlib.suppress(OSError):
            rows = dict(line.split(" ", 1) for line in (directory / name).read_text().splitlines() if " " in line)
            return int(rows.get("oom_kill", "0"))
    return 0


def _members(directory: Path) -> list[int]:
    """0 stands for a process that cannot be seen from here."""
    try:
        return [pid for line in (directory / "cgroup.procs").read_text().split() if (pid := int(line)) > 0]
    except OSError:
        return []


def _remove(directory: Path) -> bool:
    """Whether it is gone. A run that may make groups itself may have left some in it."""
    try:
        _unmake(str(directory))
    except FileNotFoundError:
        return True
    except OSError:
        inner = [Path(entry.path) for entry in _entries(directory) if entry.is_dir(follow_symlinks=False)]
        if not inner or not all(_remove(each) for each in inner):
            return False
        try:
            _unmake(str(directory))
        except OSError:
            return False
    return True


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(directory))
    except OSError:
        return []
