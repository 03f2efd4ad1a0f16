"""Where may this process make control groups? What the kernel's tables say in, directories to try out.

Version 1 has a tree for each controller, and a group may hold processes and groups. Version 2 has one tree, in which
only the root may hold both: so beside the group of a launcher, or, where that is the root, in it. See cgroups(7).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

Controller = Literal["memory", "cpu"]
CONTROLLERS: tuple[Controller, ...] = ("memory", "cpu")
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Place:
    """An existing group in which others may be made, and the controllers that it has for them.

    `own` is the group that this process is in.
    """

    directory: Path
    own: Path
    version: Literal[1, 2]
    controllers: tuple[Controller, ...]


@dataclass(frozen=True, slots=True)
class _Mount:
    point: Path
    root: PurePosixPath  # the group that is seen at `point`
    version: Literal[1, 2]
    controllers: tuple[str, ...]


def places(mountinfo: str, own_groups: str) -> list[Place]:
    """From /proc/self/mountinfo and /proc/self/cgroup. A controller that both versions have is taken from the one that
    has it mounted; nothing is tried out.
    """
    own = _own_groups(own_groups)
    found: list[Place] = []
    left = list(CONTROLLERS)
    for mount in _mounts(mountinfo):
        wanted = _first_own(own, mount)
        own_group = None if wanted is None else _seen_at(mount, wanted)
        if own_group is None:
            continue
        group = own_group
        if mount.version == 2:
            group = group if _is_root(group) else group.parent
            if not group.is_relative_to(mount.point):
                continue
            offered = _words(group / "cgroup.controllers")
        else:
            offered = set(mount.controllers)
        has = tuple(controller for controller in left if controller in offered)
        if has:
            left = [controller for controller in left if controller not in has]
            found.append(Place(group, own_group, mount.version, has))
    return found


def _words(path: Path) -> set[str]:
    try:
        return set(path.read_text().split())
    except OSError:
        return set()


def _is_root(group: Path) -> bool:
    """The root of the whole machine's tree has no type; that of a container's has."""
    return not (group / "cgroup.type").exists()


def _own_groups(text: str) -> dict[str, PurePosixPath]:
    """By controller (empty for version 2): which group this process is in."""
    found: dict[str, PurePosixPath] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = PurePosixPath(path)
    return found


def _first_own(own: dict[str, PurePosixPath], mount: _Mount) -> PurePosixPath | None:
    names = ("",) if mount.version == 2 else mount.controllers
    return next((own[name] for name in names if name in own), None)


def _seen_at(mount: _Mount, group: PurePosixPath) -> Path | None:
    """None: the group lies outside what is mounted."""
    try:
        return mount.point / group.relative_to(mount.root)
    except ValueError:
        return None


def _mounts(mountinfo: str) -> Iterator[_Mount]:
    """See proc(5): `36 35 98:0 /root /point options - type source super-options`. The first of each tree counts."""
    seen: set[tuple[str, ...]] = set()
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, *rest) = before.split(" "), after.split(" ")
        if kind not in ("cgroup", "cgroup2") or len(fields) < 5:
            continue
        options = rest[-1] if rest else ""
        controllers = tuple(word for word in options.split(",") if word in CONTROLLERS)
        if kind == "cgroup" and not controllers:
            continue
        if (kind, *controllers) in seen:
            continue
        seen.add((kind, *controllers))
        root, point = (_ESCAPED.sub(lambda found: chr(int(found[1], 8)), field) for field in fields[3:5])
        yield _Mount(Path(point), PurePosixPath(root), 2 if kind == "cgroup2" else 1, controllers)
