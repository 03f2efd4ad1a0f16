"""From which earlier attempt does a run go on?

The service knows of the checkpoints that a node has told it of. A node that was lost could not tell, though its run may
have saved every few minutes on a path that all nodes share; so the node that is about to start the next attempt looks.
"""

from __future__ import annotations

from pathlib import Path

from node_agent.checkpointing import LATEST, MANIFEST, STEP_NAME, newest_whole
from node_agent.execution.resume_choice import attempt_number, newest_saved
from node_agent.messages import LaunchSpec, RunKey
from node_agent.regular_files import is_regular, read_bounded

NAME_BYTES = 256


def resume_from(spec: LaunchSpec, key: RunKey) -> str | None:
    """What SUANLI_RESUME_FROM is to be: `spec.resume_from`, or a later attempt's directory that holds a checkpoint."""
    if spec.checkpoint_dir is None or key.attempt <= 1:
        return spec.resume_from
    job_directory = Path(spec.checkpoint_dir) / key.job_id
    return newest_saved(
        spec.resume_from,
        key,
        str(job_directory),
        _attempts(job_directory),
        lambda directory: holds_checkpoint(Path(directory)),
    )


def _attempts(job_directory: Path) -> set[int]:
    try:
        numbers = {attempt_number(entry.name) for entry in job_directory.iterdir()}
    except OSError:  # no such directory, or it cannot be read: nothing is known of earlier attempts
        return set()
    return {number for number in numbers if number is not None}


def holds_checkpoint(directory: Path) -> bool:
    """A whole checkpoint of node_agent.checkpointing; or, for a job that saves in its own way, any file not hidden."""
    if newest_whole(directory) is not None:
        return True
    try:
        entries = [entry for entry in directory.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return False
    return bool(entries) and not _is_ours(directory, entries)


def _is_ours(directory: Path, entries: list[Path]) -> bool:
    """Whether node_agent.checkpointing saved here: then what is not whole is torn, and nothing to go on from."""
    if any(STEP_NAME.fullmatch(entry.name) and is_regular(entry / MANIFEST) for entry in entries):
        return True
    try:
        named = read_bounded(directory / LATEST, NAME_BYTES).decode("utf-8", "replace")
    except OSError:
        return False
    return STEP_NAME.fullmatch(named.strip()) is not None
