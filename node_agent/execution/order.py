"""From a checked run to the launcher's order, and back from the launcher's table to the run after an agent's crash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from node_agent.attempts import Launch
from node_agent.execution.checks import Startable
from node_agent.execution.environment import RunFacts, run_environment
from node_agent.launcher.records import LaunchOrder, UserIds
from node_agent.messages import ProbeSpec, RunKey


@dataclass(frozen=True, slots=True)
class RunContext:
    """What an agent must know of a run while it lives; a later agent finds it in the launcher's `tag`.

    `port` is the run's SUANLI_PORT and `checkpoint_dir` its attempt's own, if it has them. `unix_user` is whom it goes
    as, where it is not the agent's user. `readiness` and `liveness` are of a command that serves by itself.
    """

    address: str
    master_port: int
    serves: bool
    model: bool
    port: int | None
    checkpoint_dir: str | None
    devices: tuple[int, ...]
    unix_user: str | None = None
    log_cap_bytes: int = 0
    readiness: ProbeSpec | None = None
    liveness: ProbeSpec | None = None
    tenant: str = ""
    share_milli: int = 0

    def to_tag(self) -> str:
        said = {name: getattr(self, name) for name in _CONTEXT_FIELDS}
        said.update((name, asdict(said[name])) for name in _PROBES if said[name] is not None)
        return json.dumps(said, separators=(",", ":"))

    @staticmethod
    def from_tag(tag: str) -> RunContext:
        """Raises ValueError for a tag of another version."""
        try:
            data = json.loads(tag)
            probes = {name: ProbeSpec(**data[name]) for name in _PROBES if data.get(name) is not None}
            return RunContext(**{**data, **probes, "devices": tuple(data["devices"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"a run's tag is of another version: {error}") from error


_PROBES = ("readiness", "liveness")
_CONTEXT_FIELDS = tuple(each.name for each in fields(RunContext))


def key_text(key: RunKey) -> str:
    """The run's name in the launcher's table."""
    return json.dumps([key.job_id, key.attempt, key.worker, key.node], separators=(",", ":"))


def key_from_text(text: str) -> RunKey:
    """Raises ValueError for what `key_text` did not write."""
    try:
        job_id, attempt, worker, node = json.loads(text)
        return RunKey(str(job_id), int(attempt), int(worker), str(node))
    except TypeError as error:
        raise ValueError(f"{text!r} names no run") from error


def launch_order(
    launch: Launch, key: RunKey, what: Startable, context: RunContext, facts: RunFacts, agent: Mapping[str, str]
) -> LaunchOrder:
    """`agent` is the agent's own environment, of which the run gets what environment.py lets through."""
    spec, account = replace(launch.spec, resume_from=what.resume_from), what.account
    return LaunchOrder(
        key=key_text(key),
        argv=what.argv,
        env=tuple(run_environment(spec, key, facts, agent).items()),
        cwd=str(what.cwd),
        stdout=str(facts.paths.stdout),
        stderr=str(facts.paths.stderr),
        memory_bytes=spec.memory_bytes,
        grace_s=spec.grace_s,
        lease_bound=spec.lease_bound,
        tag=context.to_tag(),
        cpus_milli=spec.cpus_milli,
        user=None if account is None else UserIds(account.uid, account.gid, account.groups),
    )


def has_checkpoint(directory: str | None) -> bool:
    """Whether the attempt saved something: node_agent.checkpointing's pointer, or any file that is not hidden.

    Hidden entries alone are what an unfinished save leaves behind.
    """
    if directory is None:
        return False
    try:
        return any(not entry.name.startswith(".") for entry in Path(directory).iterdir())
    except OSError:
        return False
