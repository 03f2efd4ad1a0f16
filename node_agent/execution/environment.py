"""What does a run find in its environment? A launch spec and the node's facts in, the whole environment out. Pure.

It starts empty. A few variables of the agent's own are passed on (INHERITED), the job's come next, and what says who
and where the run is comes last and cannot be overridden. No RAY_* goes in, whoever sets it.

Each worker sees only its own devices, so its first device is number 0 wherever it lands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from node_agent.devices import visibility
from node_agent.devices.source import Device
from node_agent.execution import mps, rendezvous
from node_agent.execution.accounts import Account
from node_agent.execution.logs import RunPaths
from node_agent.messages import LaunchSpec, RunKey

# SUANLI_INSTANCE is the mark by which `suanli down` knows what belongs to its instance.
INHERITED = ("PATH", "LANG", "HOME", "TZ", "SUANLI_INSTANCE")
FROM_SERVICE = frozenset({"SUANLI_REPLICA_SECRET", "SUANLI_ARRAY_INDEX"})  # in spec.env, set by the service
OURS = rendezvous.OURS | visibility.NAMES | mps.NAMES
MILLI = 1000


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the node adds to a spec. `visibility` is the device source's; `port` is the one in SUANLI_PORT, if any.
    `share` is what holds the run to its share of a device.

    `address` is where a served model listens. `python_path` is where node_agent is found, for a served model
    where it is not installed; else empty. `account` is the user that the run goes as, where it is not the agent's.
    """

    devices: Sequence[Device]
    visibility: Mapping[str, str]
    simulated: bool
    paths: RunPaths
    master_addr: str
    master_port: int
    port: int | None
    address: str
    python_path: str = ""
    share: Mapping[str, str] = field(default_factory=dict)
    account: Account | None = None


def checkpoint_dir(spec: LaunchSpec, key: RunKey) -> Path | None:
    """This attempt's own directory: an attempt that was given up can never write into its successor's."""
    if spec.checkpoint_dir is None:
        return None
    return Path(spec.checkpoint_dir) / key.job_id / f"attempt-{key.attempt}"


def allowed(name: str) -> bool:
    """Whether a job may set this variable itself."""
    if name.startswith("SUANLI_"):
        return name in FROM_SERVICE
    return name not in OURS and not name.startswith("RAY_")


def run_environment(spec: LaunchSpec, key: RunKey, facts: RunFacts, agent: Mapping[str, str]) -> dict[str, str]:
    """The environment of the run's process. `agent` is the agent's own, of which only INHERITED is looked at."""
    env = {name: agent[name] for name in INHERITED if name in agent}
    if facts.account is not None:
        env.update(HOME=facts.account.home, USER=facts.account.name, LOGNAME=facts.account.name)
    env["PYTHONUNBUFFERED"] = "1"
    env["OMP_NUM_THREADS"] = str(max(1, spec.cpus_milli // MILLI))
    met = rendezvous.rendezvous(spec, key, len(facts.devices), facts.master_addr, facts.master_port)
    env.update(met)
    env.update((name, value) for name, value in spec.env if allowed(name))
    if facts.python_path:
        env["PYTHONPATH"] = ":".join(part for part in (env.get("PYTHONPATH"), facts.python_path) if part)
    env.update(facts.visibility)
    env.update(facts.share)
    env.update(_identity(spec, key, facts))
    env.update(_files(spec, key, facts))
    return env


def _identity(spec: LaunchSpec, key: RunKey, facts: RunFacts) -> dict[str, str]:
    first = facts.devices[0] if facts.devices else None
    return {
        "SUANLI_JOB_ID": key.job_id,
        "SUANLI_JOB_NAME": spec.job_name,
        "SUANLI_ATTEMPT": str(key.attempt),
        "SUANLI_WORKER": str(key.worker),
        "SUANLI_NODE": key.node,
        "SUANLI_TENANT": spec.tenant,
        "SUANLI_KIND": spec.kind,
        "SUANLI_DEVICES": ",".join(device.uuid for device in facts.devices),
        "SUANLI_DEVICE_MODEL": first.model if first else "",
        "SUANLI_DEVICE_VENDOR": first.vendor if first else "",
        "SUANLI_SIMULATED": "1" if facts.simulated else "0",
    }


def _serving(spec: LaunchSpec) -> dict[str, str]:
    """The job file's word on batches and on how long the model may take, for node_agent.serving."""
    said = spec.serving
    if said is None or spec.argv is not None:
        return {}
    numbers = {
        "SUANLI_BATCH_MAX": said.batch_max,
        "SUANLI_BATCH_WAIT_S": said.batch_wait_s,
        "SUANLI_SLO_MS": said.slo_ms,
        "SUANLI_STUCK_S": None if said.liveness is None else said.liveness.timeout_s,
    }
    return {name: f"{value:g}" for name, value in numbers.items() if value is not None}


def _files(spec: LaunchSpec, key: RunKey, facts: RunFacts) -> dict[str, str]:
    files = {"SUANLI_RESULT_FILE": str(facts.paths.result)}
    directory = checkpoint_dir(spec, key)
    if directory is not None:
        files["SUANLI_CHECKPOINT_DIR"] = str(directory)
        files["SUANLI_CHECKPOINT_ACK"] = str(facts.paths.checkpoint_ack)
        files["SUANLI_CHECKPOINT_SIGNAL"] = spec.checkpoint_signal
    if spec.resume_from is not None:
        files["SUANLI_RESUME_FROM"] = spec.resume_from
    if spec.serves:
        files["SUANLI_READY_FILE"] = str(facts.paths.ready)
        files["SUANLI_BIND_HOST"] = facts.address
        files["SUANLI_UNIX_SOCKET"] = str(facts.paths.unix_socket)
        files.update(_serving(spec))
    if facts.port is not None:
        files["SUANLI_PORT"] = str(facts.port)
    return files
