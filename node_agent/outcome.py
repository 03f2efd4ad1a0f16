"""What is there to say of a run that ended? The launcher's record, and what the run left in its directory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from node_agent.agent_runs import END_TOLD_S
from node_agent.attempts import ProcessExited
from node_agent.execution.accounts import acting_as, find_account
from node_agent.execution.logs import RunPaths, read_result, tail
from node_agent.execution.order import has_checkpoint
from node_agent.execution.slow_files import SlowFiles
from node_agent.launcher.records import ExitRecord, RunRecord
from node_agent.messages import RunKey

READ_TIMEOUT_S = 5.0
LOOK_AGAIN_S = 0.01


async def exit_facts(
    record: RunRecord, paths: RunPaths, checkpoint_dir: str | None, slow: SlowFiles, unix_user: str | None = None
) -> ProcessExited:
    """The end, with the tail of stderr, the result and the checkpoint. A hanging file system does not hide the end.

    `unix_user` is whom the run went as, where it was not the agent's own user.
    """
    assert record.exit is not None, record
    end = record.exit
    if checkpoint_dir is None and _left_nothing(end, paths):
        return ProcessExited(record.pid, end.how, end.code, end.detail, end.at_s, asked=end.asked)
    (errors, result, complaint), (saved, unsure) = await asyncio.gather(
        _left_behind(paths), _saved(checkpoint_dir, unix_user, slow)
    )
    return ProcessExited(
        pid=record.pid,
        how=end.how,
        code=end.code,
        detail=what_else(end, "; ".join(part for part in (complaint, unsure) if part), errors),
        at_s=end.at_s,
        result=result,
        checkpoint_dir=checkpoint_dir if saved else None,
        asked=end.asked,
    )


def _left_nothing(end: ExitRecord, paths: RunPaths) -> bool:
    """Whether it left nothing that would be told. It waits for no thread, as a name in the agent's own directory is
    looked for: where that hangs, the journal does too."""
    return end.how == "exit" and end.code == 0 and not os.path.lexists(paths.result)


async def ends_told(ending: Callable[[], frozenset[RunKey]]) -> None:
    """Until the ends are told of the runs that are over now (`ending`: as AgentRuns.ending), or END_TOLD_S are over."""
    clock_s = asyncio.get_running_loop().time
    over, told_by_s = ending(), clock_s() + END_TOLD_S
    while over & ending() and clock_s() < told_by_s:  # noqa: ASYNC110 - it is said nowhere, and takes milliseconds
        await asyncio.sleep(LOOK_AGAIN_S)


async def _left_behind(paths: RunPaths) -> tuple[str, str | None, str]:
    """(tail of stderr, result, complaint)"""

    def read() -> tuple[str, str | None, str]:
        result, complaint = read_result(paths.result)
        return tail(paths.stderr), result, complaint

    reading = asyncio.ensure_future(asyncio.to_thread(read))
    done, _ = await asyncio.wait({reading}, timeout=READ_TIMEOUT_S)
    if not done:
        return "", None, f"what it left behind could not be read within {READ_TIMEOUT_S:g} s"
    error = reading.exception()
    if error is not None:  # whatever it is, the end itself must be told
        return "", None, f"what it left behind could not be read: {error}"
    return reading.result()


async def _saved(checkpoint_dir: str | None, unix_user: str | None, slow: SlowFiles) -> tuple[bool, str]:
    """(whether it saved something, complaint)"""
    if checkpoint_dir is None:
        return False, ""

    def look() -> bool:
        with acting_as(None if unix_user is None else find_account(unix_user)):
            return has_checkpoint(checkpoint_dir)

    try:
        return await slow.ask(look, READ_TIMEOUT_S), ""
    except TimeoutError:
        return False, f"its checkpoint directory {checkpoint_dir} did not answer within {READ_TIMEOUT_S:g} s"
    except Exception as error:  # as above
        return False, f"its checkpoint directory {checkpoint_dir} could not be read: {error}"


def what_else(end: ExitRecord, complaint: str, errors: str) -> str:
    """What is known beside `how` and `code`: `it used more than ...; last lines of stderr: ...`; "" for nothing.

    The tail is left out of a success.
    """
    parts = [part for part in (end.detail, complaint) if part]
    if errors and not (end.how == "exit" and end.code == 0):
        parts.append(f"last lines of stderr:\n{errors}")
    return "; ".join(parts)
