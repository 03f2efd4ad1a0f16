"""How is a run's process made? A launch order in, a pid out."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess

from node_agent.launcher.ports import CannotExecute
from node_agent.launcher.records import LaunchOrder
from node_agent.regular_files import NotRegular, require_regular

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


def fork(order: LaunchOrder) -> int:
    """The pid of the new process, which leads a session of its own. Raises CannotExecute, or OSError or ValueError."""
    with contextlib.ExitStack() as files:
        outputs = [_open_log(path) for path in (order.stdout, order.stderr)]
        for output in outputs:
            files.callback(os.close, output)
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
            advice = ADVICE.get(error.errno or 0) if error.filename == order.argv[0] else None
            if advice is None:
                raise
            raise CannotExecute(f"cannot be executed: {order.argv[0]}: {error.strerror}; {advice}") from error
    # The launcher reaps children by pid. Without a return code Popen would wait for the child itself, later on.
    child.returncode = 0
    return child.pid


def _open_log(path: str) -> int:
    """O_NONBLOCK only for the open: a FIFO that an earlier run has put there must not hold the launcher."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise NotRegular(path) from error
        raise
    try:
        require_regular(descriptor, path)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
