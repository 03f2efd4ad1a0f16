"""What is there to say of a run that ended? The launcher's record, and what the run left in its directory."""

from __future__ import annotations

import asyncio
import signal

from node_agent.attempts import ProcessExited
from node_agent.execution.logs import RunPaths, read_result, tail
from node_agent.execution.order import has_checkpoint
from node_agent.launcher.records import ExitRecord, RunRecord

READ_TIMEOUT_S = 5.0


async def exit_facts(record: RunRecord, paths: RunPaths, checkpoint_dir: str | None) -> ProcessExited:
    """The end, with the tail of stderr, the result and the checkpoint. A hanging file system does not hide the end."""
    assert record.exit is not None, record
    end = record.exit
    reading = asyncio.ensure_future(asyncio.to_thread(_left_behind, paths, checkpoint_dir))
    done, _ = await asyncio.wait({reading}, timeout=READ_TIMEOUT_S)
    if done:
        errors, result, complaint, saved = reading.result()
    else:
        errors, result, saved = "", None, False
        complaint = f"what it left behind could not be read within {READ_TIMEOUT_S:g} s"
    return ProcessExited(
        pid=record.pid,
        how=end.how,
        code=end.code,
        detail=exit_sentence(end, complaint, errors),
        at_s=end.at_s,
        result=result,
        checkpoint_dir=checkpoint_dir if saved else None,
    )


def _left_behind(paths: RunPaths, checkpoint_dir: str | None) -> tuple[str, str | None, str, bool]:
    result, complaint = read_result(paths.result)
    return tail(paths.stderr), result, complaint, has_checkpoint(checkpoint_dir)


def exit_sentence(end: ExitRecord, complaint: str, errors: str) -> str:
    """`exit code 1; last lines of stderr: ...`; the tail is left out of a success."""
    match end.how:
        case "exit":
            said = f"exit code {end.code}"
        case "signal":
            said = f"ended by {signal_name(end.code)}"
        case "out_of_memory":
            said = "killed for memory"
        case "lease":
            said = "stopped by its node"
        case "unknown":
            said = "its end was not seen"
        case "never_started":
            said = "never started"
    parts = [part for part in (said, end.detail, complaint) if part]
    if errors and not (end.how == "exit" and end.code == 0):
        parts.append(f"last lines of stderr:\n{errors}")
    return "; ".join(parts)


def signal_name(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return f"signal {number}"
