"""Could this run start on this node? Asked before anything starts; the answer names the job file's field at fault.

Looks at the file system only, which may hang: whoever calls is told of each path before it is looked at. It looks as
the user that the run will go as (accounts.acting_as). A model file is parsed, never imported: it is a tenant's code.
"""

from __future__ import annotations

import ast
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from node_agent.execution.accounts import Account, acting_as
from node_agent.execution.environment import checkpoint_dir
from node_agent.execution.resume import resume_from
from node_agent.messages import NODES_FAULT, LaunchSpec, RunKey
from node_agent.regular_files import NotRegular, read_bounded

MODEL_BYTES = 4 << 20
LookingAt = Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """`field` is one of command, working_dir, checkpoint.dir, model, or NODES_FAULT; `detail` a sentence without the
    job's name.
    """

    field: str
    detail: str


@dataclass(frozen=True, slots=True)
class Startable:
    """What to run, where, and as whom: argv complete, cwd absolute. `resume_from` is what SUANLI_RESUME_FROM is to be.

    `account` None: as the agent's own user.
    """

    argv: tuple[str, ...]
    cwd: Path
    resume_from: str | None = None
    account: Account | None = None


def _to_nobody(path: Path) -> None:
    """Nobody asks what is being looked at."""


def check(
    spec: LaunchSpec,
    key: RunKey,
    run_directory: Path,
    path: str,
    looking_at: LookingAt = _to_nobody,
    account: Account | None = None,
) -> Startable | Fault:
    """`path` is the PATH the run will have unless it sets its own; `run_directory` its cwd when it names none.

    `account` is whom the run will go as, where it is not this process's user.
    """
    with acting_as(account):
        if account is not None:
            fault = _check_way(run_directory, spec, account, key.node)
            if fault is not None:
                return fault
        return _check(spec, key, run_directory, path, looking_at, account)


def _check_way(run_directory: Path, spec: LaunchSpec, account: Account, node: str) -> Fault | None:
    """Whether the account can get at what is ours and the run needs."""
    whom = f"Unix user {account.name} of tenant {spec.tenant}"
    if not may(run_directory, os.W_OK | os.X_OK):
        place = "put SUANLI_HOME there where every user may pass, such as /var/lib/suanli"
        return Fault(NODES_FAULT, f"{whom} cannot get into {run_directory} on node {node}; {place}")
    if spec.argv is None and not may(Path(sys.executable), os.X_OK):
        place = "install Suanli there where every user may read it, such as /opt/suanli"
        return Fault(NODES_FAULT, f"{whom} cannot run {sys.executable} on node {node}; {place}")
    return None


def may(path: Path, mode: int) -> bool:
    """Whether this thread's user may, by its effective ids."""
    return os.access(path, mode, effective_ids=True)


def _check(
    spec: LaunchSpec, key: RunKey, run_directory: Path, path: str, looking_at: LookingAt, account: Account | None
) -> Startable | Fault:
    cwd = Path(spec.working_dir) if spec.working_dir is not None else run_directory
    fault = _check_working_dir(spec.working_dir, key.node, looking_at) or _check_checkpoint_dir(spec, key, looking_at)
    if fault is not None:
        return fault
    if spec.argv is not None:
        argv = spec.argv
        fault = _check_command(argv, cwd, dict(spec.env).get("PATH", path), key.node, looking_at)
    elif spec.model_path is None or spec.model_class is None:
        return Fault("command", "the job names neither a command nor a model")
    else:
        model = cwd / spec.model_path
        fault = _check_model(model, spec.model_class, key.node, looking_at)
        argv = (sys.executable, "-m", "node_agent.serving", "--model", str(model), "--class", spec.model_class)
    if fault is not None:
        return fault
    if spec.checkpoint_dir is not None:
        looking_at(Path(spec.checkpoint_dir) / key.job_id)
    return Startable(argv, cwd, resume_from(spec, key), account)


def _check_working_dir(working_dir: str | None, node: str, looking_at: LookingAt) -> Fault | None:
    if working_dir is None:
        return None
    directory = Path(working_dir)
    looking_at(directory)
    if not directory.is_absolute():
        return Fault("working_dir", f"{working_dir} is not an absolute path")
    try:
        if not directory.exists():
            return Fault("working_dir", f"{working_dir} does not exist on node {node}; nodes must share this path")
        if not directory.is_dir():
            return Fault("working_dir", f"{working_dir} on node {node} is not a directory")
    except PermissionError:
        pass  # a directory above it is closed: then so is this one
    if not may(directory, os.X_OK):
        return Fault("working_dir", f"{working_dir} on node {node} may not be entered by the user that runs jobs")
    return None


def _check_checkpoint_dir(spec: LaunchSpec, key: RunKey, looking_at: LookingAt) -> Fault | None:
    """Make the attempt's directory and write into it: a checkpoint that cannot be saved is found out too late."""
    directory = checkpoint_dir(spec, key)
    if directory is None:
        return None
    if not directory.is_absolute():
        return Fault("checkpoint.dir", f"{spec.checkpoint_dir} is not an absolute path")
    looking_at(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        return Fault("checkpoint.dir", f"{directory} cannot be written on node {key.node}: {reason}")
    return None


def _check_command(argv: tuple[str, ...], cwd: Path, path: str, node: str, looking_at: LookingAt) -> Fault | None:
    if not argv or not argv[0]:
        return Fault("command", "the command is empty")
    if any("\0" in part for part in argv):
        return Fault("command", "the command holds a zero byte")
    name = argv[0]
    if "/" in name:
        candidates = [cwd / name]
    else:
        candidates = [cwd / directory / name for directory in path.split(os.pathsep) if directory]
    present: list[Path] = []
    for candidate in candidates:
        looking_at(candidate)
        try:
            if candidate.is_file():
                present.append(candidate)
        except PermissionError:
            pass  # a directory on PATH that this user may not enter has nothing for it
    if not present:
        where = f"under {cwd}" if "/" in name and not name.startswith("/") else "" if "/" in name else f"on PATH {path}"
        return Fault("command", f"{name} does not exist {where and where + ' '}on node {node}")
    if not any(may(candidate, os.X_OK) for candidate in present):
        return Fault("command", f"{present[0]} on node {node} is not executable")
    return None


def _check_model(model: Path, class_name: str, node: str, looking_at: LookingAt) -> Fault | None:
    looking_at(model)
    try:
        source = read_bounded(model, MODEL_BYTES + 1, follow=True)
    except FileNotFoundError:
        return Fault("model", f"{model} does not exist on node {node}")
    except NotRegular:
        return Fault("model", f"{model} on node {node} is not a regular file; name a Python file")
    except OSError as error:
        return Fault("model", f"{model} cannot be read on node {node}: {error.strerror or error}")
    if len(source) > MODEL_BYTES:
        return Fault("model", f"{model} is over {MODEL_BYTES >> 20} MiB; name the Python file, not the weights")
    try:
        tree = ast.parse(source, filename=str(model))
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        message = error.msg if isinstance(error, SyntaxError) else str(error)
        return Fault("model", f"{model}{line} is not valid Python: {message}")
    except (MemoryError, RecursionError):  # what the parser says of thousands of brackets in one another
        return Fault("model", f"{model} cannot be parsed: it is nested too deep")
    if class_name not in _bound_names(tree):
        classes = [statement.name for statement in tree.body if isinstance(statement, ast.ClassDef)]
        known = f"it defines {', '.join(classes)}" if classes else "it defines no class"
        return Fault("model", f"{model} has no class {class_name}; {known}")
    return None


def _bound_names(tree: ast.Module) -> set[str]:
    """Names that the module binds at its top level, also under if and try: a class may be imported or assigned."""
    names: set[str] = set()
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        statement = pending.pop()
        match statement:
            case ast.ClassDef(name=name):
                names.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names.update(alias.asname or alias.name for alias in aliases)
            case ast.Assign(targets=targets):
                names.update(target.id for target in targets if isinstance(target, ast.Name))
            case ast.If() | ast.Try():
                pending += [*statement.body, *statement.orelse]
                if isinstance(statement, ast.Try):
                    pending += [inner for handler in statement.handlers for inner in handler.body]
                    pending += statement.finalbody
            case _:
                pass
    return names
