"""What the kernel says of processes: /proc, read as little and as cheaply as the launcher needs. See proc(5)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from node_agent.launcher.ports import Process

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
KIB = 1024


def boot_id() -> str:
    """Differs after each boot: pids and start times of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def process(pid: int) -> Process | None:
    """The process, or None when there is none of that pid."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold blanks and parentheses itself: count from its end.
    fields = text[text.rindex(b")") + 2 :].split()
    return Process(pid, int(fields[1]), int(fields[3]), int(fields[19]), ended=fields[0] in (b"Z", b"X"))


def start_ticks(pid: int) -> int | None:
    found = process(pid)
    return None if found is None else found.start_ticks


def wait_gone(pid: int, ticks: int, timeout_s: float) -> bool:
    """Wait until the process has ended (its parent may not have noticed yet). False when it has not in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = process(pid)
        if found is None or found.ended or found.start_ticks != ticks:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)


def processes() -> Iterator[Process]:
    """Every process that has not ended."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            found = process(int(name))
            if found is not None and not found.ended:
                yield found


def own_children() -> list[int]:
    """Pids of this process's children, orphans that it has inherited among them."""
    pid = os.getpid()
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return [int(child) for child in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [found.pid for found in processes() if found.ppid == pid]


def has_in_environment(pid: int, entry: str) -> bool:
    """Whether the process was started with `entry` (NAME=value) in its environment."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return os.fsencode(entry) in file.read().split(b"\0")
    except OSError:  # gone, or another user's
        return False


def awaits(pid: int, number: int) -> Literal["caught", "blocked", ""]:
    """Whether the process has a handler for the signal, or blocks it to take it up itself; empty: neither, or gone."""
    bit = 1 << (number - 1)
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            rows = dict(line.split(b":", 1) for line in file.read().splitlines() if line[:3] == b"Sig")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    if int(rows.get(b"SigCgt", b"0"), 16) & bit:
        return "caught"
    return "blocked" if int(rows.get(b"SigBlk", b"0"), 16) & bit else ""


def rss_bytes(pid: int) -> int:
    """Resident memory, shared pages counted in full: never less than `pss_bytes`, and much cheaper. 0 when gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE_BYTES
    except (FileNotFoundError, ProcessLookupError):
        return 0


def pss_bytes(pid: int) -> int:
    """Resident memory, each shared page divided by its number of sharers; RSS where the kernel does not tell."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * KIB
    except OSError:
        pass  # gone, another user's, or an old kernel: RSS answers for all three
    return rss_bytes(pid)


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed for memory since boot; 0 where it does not count."""
    try:
        with open("/proc/vmstat", "rb") as file:
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass  # then a SIGKILL that nobody explains stays a signal
    return 0
