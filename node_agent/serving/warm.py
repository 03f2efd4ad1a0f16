"""`python -m node_agent.serving.warm --model FILE.py`: an interpreter that waits for its order and becomes a replica.

Started beforehand by the launcher, with the environment of the replicas that it may become, without what tells one from
another. It imports the server, and those of the large libraries that the model's file names at its top; nothing of the
tenant's runs yet. Its standard input is a socket to the launcher. Over it comes one order: JSON of argv, environment
and directory, with the descriptors of the two logs. It takes them on, answers `ready`, and is a replica from then on.

The launcher tells a run's processes by an entry of the environment that they were started with, as /proc shows it. That
is this process's own memory, so the entry is written there: room was left for it. Only then does it answer; so a run
that the launcher counts as started can be found by its successor. When the launcher is gone before, this process ends.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import importlib
import json
import os
import signal
import socket
import sys
from pathlib import Path

ROOM = "SUANLI_WARM_ROOM"  # its value is as long as the longest entry that may have to be written there
MARK = "SUANLI_RESULT_FILE"
COERCED = "LC_CTYPE"
ORDER_BYTES = 1 << 22
PRELOADED = ("numpy", "torch", "scipy", "pandas", "PIL", "cv2", "onnxruntime", "transformers", "sklearn")
PR_SET_PDEATHSIG = 1  # linux/prctl.h
READY = b"ready\n"


def heavy_imports(source: bytes) -> list[str]:
    """Of PRELOADED what a model's file imports at its top."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    named: set[str] = set()
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            named.update(alias.name.partition(".")[0] for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            named.add(statement.module.partition(".")[0])
    return [name for name in PRELOADED if name in named]


def write_mark(entry: str, stat: str) -> None:
    """Put NAME=value where /proc/self/environ is read from, in the room that was left. `stat`: /proc/self/stat. Raises
    ValueError where there is none, or too little."""
    fields = stat[stat.rindex(")") + 2 :].split()
    start, end = int(fields[47]), int(fields[48])  # env_start and env_end, proc(5)
    block = ctypes.string_at(start, end - start)
    at = block.find(f"{ROOM}=".encode())
    if at < 0 or (at > 0 and block[at - 1] != 0):
        raise ValueError("no room was left for the run's mark")
    length = block.index(b"\0", at) - at
    data = os.fsencode(entry)
    if len(data) > length:
        raise ValueError("the run's mark is longer than the room that was left")
    ctypes.memmove(start + at, data + b"\0" * (length - len(data)), length)


def die_with_parent(number: int) -> None:
    """Have this signal sent to us when the launcher ends, however deep in an import we are; 0: none. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def become(order: dict[str, object], logs: list[int], launcher: socket.socket) -> list[str]:
    """Take on what the order says, and tell the launcher. The arguments of the replica."""
    argv, env, cwd = order["argv"], order["env"], order["cwd"]
    assert isinstance(argv, list)
    assert isinstance(env, dict)
    assert isinstance(cwd, str)
    die_with_parent(0)  # a run outlives its launcher
    os.chdir(cwd)
    if sys.path and sys.path[0] == os.sep:  # the directory that this was started in, which python -m puts first
        sys.path[0] = os.getcwd()
    given = {entry.partition(b"=")[0] for entry in Path("/proc/self/environ").read_bytes().split(b"\0")}
    # Python itself may have set LC_CTYPE as it began (PEP 538), and would have in the replica's own beginning too.
    coerced = {name: value for name, value in os.environ.items() if name == COERCED and os.fsencode(name) not in given}
    write_mark(f"{MARK}={env.get(MARK, '')}", Path("/proc/self/stat").read_text())
    os.environ.clear()
    os.environ.update({**coerced, **env})
    for number, log in zip((1, 2), logs, strict=True):
        os.dup2(log, number)
        os.close(log)
    launcher.sendall(READY)
    launcher.close()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return [str(each) for each in argv]


def main() -> int:
    die_with_parent(signal.SIGKILL)
    model = Path(sys.argv[sys.argv.index("--model") + 1])
    from node_agent.serving.replica import main as serve

    with contextlib.suppress(OSError):
        for name in heavy_imports(model.read_bytes()):
            with contextlib.suppress(Exception):  # the model will meet it again, and say it better
                importlib.import_module(name)
    launcher = socket.socket(fileno=os.dup(0))
    try:
        launcher.sendall(b"warm\n")
        data, logs, _, _ = socket.recv_fds(launcher, ORDER_BYTES, 2)
        while data and not data.endswith(b"\n"):
            more = launcher.recv(ORDER_BYTES)
            data = data + more if more else b""
        if not data or len(logs) != 2:
            return 0  # the launcher has gone, or wants it no more
        argv = become(json.loads(data), logs, launcher)
    except OSError:
        return 0
    sys.argv = argv[2:]  # python -m node_agent.serving ...
    return serve(argv[3:])


if __name__ == "__main__":
    sys.exit(main())
