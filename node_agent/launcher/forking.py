"""How is a run's process made? A launch order in, a pid out.

Where nothing need be done between fork and exec, Popen does it, by vfork(2) and so in half the time. A run that goes as
another user is forked here, for it goes to its directory as that user: the launcher has one thread, so its child may
run Python until it becomes the job's program. What fails in it is told through a pipe that the exec closes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import NoReturn

from node_agent.launcher.ports import CannotExecute
from node_agent.launcher.records import LaunchOrder, UserIds
from node_agent.regular_files import NotOwn, NotRegular, require_regular

# What execve(2) says of the file itself, and what its owner can do. Anything else is the node's trouble.
ADVICE = {
    errno.ENOEXEC: "give it a #! line or run it by its interpreter",
    errno.EACCES: "make it executable, on a file system that is not mounted noexec, or run it by its interpreter",
    errno.EPERM: "the node does not allow it to be executed; run it by its interpreter",
    errno.ETXTBSY: "it is still open for writing; close it before the job starts",
    errno.ENOENT: "it, or the interpreter that its #! line names, does not exist there",
    errno.ENOTDIR: "a part of its path, or of its #! line's, is no directory",
    errno.EISDIR: "it, or the interpreter that it names, is a directory",
    errno.ELOOP: "it goes through too many symbolic links or interpreters",
    errno.ELIBBAD: "the interpreter that it names is not one",
    errno.EINVAL: "it names more than one interpreter",
    errno.E2BIG: "its arguments and environment are too long; put them into a file",
    errno.ENAMETOOLONG: "its name is too long",
}

EXECUTING = "executing it"
REPORT_BYTES = 4096
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def fork(order: LaunchOrder) -> int:
    """The pid of the new process, which leads a session of its own. Raises CannotExecute, or OSError or ValueError."""
    with contextlib.ExitStack() as files:
        outputs = open_logs(order)
        for output in outputs:
            files.callback(os.close, output)
        return _spawn(order, outputs) if order.user is None else _fork(order, order.user, outputs)


def open_logs(order: LaunchOrder) -> tuple[int, int]:
    """Descriptors of the run's stdout and stderr. Raises OSError."""
    stdout = _open_log(order.stdout, order.user)
    try:
        return stdout, _open_log(order.stderr, order.user)
    except BaseException:
        os.close(stdout)
        raise


def _spawn(order: LaunchOrder, outputs: Sequence[int]) -> int:
    try:
        child = subprocess.Popen(
            order.argv,
            cwd=order.cwd,
            env=dict(order.env),
            stdin=subprocess.DEVNULL,
            stdout=outputs[0],
            stderr=outputs[1],
            start_new_session=True,
            close_fds=True,
        )
    except OSError as error:
        # Only a failure of the exec itself names the program; one of the fork or of the chdir does not.
        if error.filename == order.argv[0]:
            raise _cannot_execute(order, error) from error
        raise
    # The launcher reaps children by pid. Without a return code Popen would wait for the child itself, later on.
    child.returncode = 0
    return child.pid


def _cannot_execute(order: LaunchOrder, error: OSError) -> Exception:
    """`error` itself where it is not the program's fault."""
    advice = ADVICE.get(error.errno or 0)
    if advice is None:
        return error
    return CannotExecute(f"cannot be executed: {order.argv[0]}: {error.strerror}; {advice}")


# ---- a child that runs our own code first ----------------------------------------------------------------------------


def _fork(order: LaunchOrder, user: UserIds, outputs: Sequence[int]) -> int:
    heard, tells = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
        if pid == 0:
            _become(order, user, outputs, tells)
    finally:
        os.close(tells)
    with open(heard, "rb") as report:
        said = report.read(REPORT_BYTES).decode("utf-8", "replace")
    if not said:
        return pid
    os.waitpid(pid, 0)
    step, code, text = said.split("\0")
    error = OSError(int(code), text)
    if step == EXECUTING:
        raise _cannot_execute(order, error)
    if not error.errno:
        raise ValueError(f"{step}: {text}")
    raise OSError(error.errno, f"{step}: {text}")


def _become(order: LaunchOrder, user: UserIds, outputs: Sequence[int], tells: int) -> NoReturn:
    """In the child. Returns to nobody, whatever happens."""
    step = "beginning"
    try:
        signal.set_wakeup_fd(-1)  # the pair of sockets is shared with the launcher
        for ignored in IGNORED_BY_PYTHON:
            signal.signal(ignored, signal.SIG_DFL)
        step = "arranging its files"
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for number, descriptor in enumerate((nothing, *outputs)):
            os.dup2(descriptor, number)
        os.closerange(3, tells)
        os.closerange(tells + 1, os.sysconf("SC_OPEN_MAX"))
        step = f"becoming uid {user.uid}"
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        step = f"going to {order.cwd}"
        os.chdir(order.cwd)
        step = EXECUTING
        os.execvpe(order.argv[0], order.argv, dict(order.env))  # noqa: S606 - argv, as everywhere in this project
    except BaseException as error:
        code = error.errno if isinstance(error, OSError) else 0
        text = (error.strerror if isinstance(error, OSError) else None) or str(error)
        os.write(tells, f"{step}\0{code or 0}\0{text}".encode("utf-8", "replace")[:REPORT_BYTES])
    finally:
        os._exit(127)


def _open_log(path: str, user: UserIds | None) -> int:
    """O_NONBLOCK only for the open: a FIFO that an earlier run has put there must not hold the launcher.

    In another user's directory there may also be a second name of a file that is not that user's.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise NotRegular(path) from error
        raise
    try:
        require_regular(descriptor, path)
        if user is not None:
            found = os.fstat(descriptor)
            if found.st_nlink != 1 or found.st_uid not in (os.geteuid(), user.uid):
                raise NotOwn(path)
            os.fchown(descriptor, user.uid, user.gid)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
