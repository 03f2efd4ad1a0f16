"""Can this node start a run, and with what? Everything that is found out between Prepare and its answer.

What is found out is kept until the launch: a node whose devices are enumerated anew meanwhile gives a run the devices
that it was prepared for, or none.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from node_agent.attempts import CheckFailed, Launch
from node_agent.devices.source import Device
from node_agent.execution.accounts import Account, NoSuchAccount, find_account, why_single_user
from node_agent.execution.checks import Fault, LookingAt, Startable, check
from node_agent.execution.environment import RunFacts, checkpoint_dir
from node_agent.execution.logs import paths_of
from node_agent.execution.mps import VENDOR, agents_daemon, share_variables
from node_agent.execution.order import RunContext, launch_order
from node_agent.execution.ports import free_port, port_is_free
from node_agent.execution.retention import note_keep
from node_agent.execution.slow_files import SlowFiles
from node_agent.launcher.client import PACKAGE_ROOT
from node_agent.launcher.records import LaunchOrder
from node_agent.messages import NODES_FAULT, LaunchSpec, RunKey
from node_agent.nodes import NodeAgent

CHECK_TIMEOUT_S = 20.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Preparation:
    what: Startable
    context: RunContext
    devices: tuple[Device, ...]


class Preparing:
    """Checks runs, and remembers which ports were promised to those that have not bound them yet."""

    def __init__(self, nodes: Mapping[str, NodeAgent], state_dir: Path, slow: SlowFiles) -> None:
        self._nodes = nodes
        self._state_dir = state_dir
        self._slow = slow
        self._promised_ports: dict[RunKey, tuple[int, ...]] = {}

    async def prepare(self, key: RunKey, spec: LaunchSpec) -> Preparation | CheckFailed:
        """Never raises: whatever goes wrong is an answer."""
        node = self._nodes.get(key.node)
        if node is None:
            return CheckFailed(NODES_FAULT, f"this agent does not stand for node {key.node}")
        try:
            devices = tuple(node.devices(spec.device_indices))
        except KeyError as error:
            return CheckFailed(NODES_FAULT, f"node {key.node} has no device {error} any more")
        try:
            found = await self._look(key, spec)
            if isinstance(found, Fault):
                return CheckFailed(found.field, found.detail)
            fixed = None if spec.serving is None else spec.serving.port
            if fixed is not None and not self._is_free(node.config.address, fixed):
                said = f"port {fixed} of node {key.node} is in use; leave port out and listen on SUANLI_PORT, or keep"
                return CheckFailed(NODES_FAULT, f"{said} replicas apart by one_per: node")
            ports = self._promise_ports(key, node.config.address, 2 if spec.serves and fixed is None else 1)
            if fixed is not None:
                ports = self._promised_ports[key] = (ports[0], fixed)
            return Preparation(found, _context(key, spec, node.config.address, ports, found.account), devices)
        except (OSError, LookupError, ValueError) as error:  # ValueError: a path that no file system can hold
            return CheckFailed(NODES_FAULT, f"node {key.node} cannot prepare it: {error}")
        except Exception as error:
            log.exception("preparing %s", key)
            return CheckFailed(NODES_FAULT, f"node {key.node} cannot prepare it: {error!r}; its agent's log says more")

    async def _look(self, key: RunKey, spec: LaunchSpec) -> Startable | Fault:
        path: list[Path] = []
        try:
            return await self._slow.ask(lambda: self._check(key, spec, path.append), CHECK_TIMEOUT_S)
        except TimeoutError:
            if path:
                said = f"{path[-1]} did not answer within {CHECK_TIMEOUT_S:g} s on node {key.node}"
                return Fault(NODES_FAULT, f"{said}; is its file system's server there?")
            said = f"node {key.node} still waits for file systems that do not answer, so it could not look at this job"
            return Fault(NODES_FAULT, f"{said} within {CHECK_TIMEOUT_S:g} s")

    def _check(self, key: RunKey, spec: LaunchSpec, looking_at: LookingAt) -> Startable | Fault:
        paths = paths_of(self._state_dir, key)
        try:
            account = _account(spec)
        except NoSuchAccount as error:
            return Fault(
                NODES_FAULT,
                f"{error} on node {key.node}, as which jobs of tenant {spec.tenant} are to run; make that account "
                "there, or name another one in tenants.yaml",
            )
        looking_at(paths.directory)
        paths.make(account)
        note_keep(paths, spec.log_keep_s)
        return check(spec, key, paths.directory, os.environ.get("PATH", os.defpath), looking_at, account)

    def _promise_ports(self, key: RunKey, address: str, count: int) -> tuple[int, ...]:
        taken = {port for ports in self._promised_ports.values() for port in ports}
        ports: tuple[int, ...] = ()
        for _ in range(count):
            ports += (free_port(address, frozenset(taken | set(ports))),)
        self._promised_ports[key] = ports
        return ports

    def _is_free(self, address: str, port: int) -> bool:
        promised = any(port in ports for ports in self._promised_ports.values())
        return not promised and port_is_free(address, port)

    def take_ports_back(self, key: RunKey) -> None:
        self._promised_ports.pop(key, None)

    def order(self, key: RunKey, launch: Launch, prepared: Preparation) -> LaunchOrder:
        """Raises LookupError when a device that it was prepared for has gone."""
        node, context = self._nodes[key.node], prepared.context
        node.require(prepared.devices)
        facts = RunFacts(
            devices=prepared.devices,
            visibility=node.visibility(prepared.devices),
            share=_share(launch.spec.share_milli, prepared.devices),
            simulated=node.simulated,
            paths=paths_of(self._state_dir, key),
            master_addr=launch.master_addr,
            master_port=launch.master_port,
            port=context.port,
            address=context.address,
            python_path="" if not context.model or "site-packages" in PACKAGE_ROOT.parts else str(PACKAGE_ROOT),
            account=prepared.what.account,
        )
        return launch_order(launch, key, prepared.what, context, facts, os.environ)


def _share(share_milli: int, devices: tuple[Device, ...]) -> dict[str, str]:
    """The daemon is looked for only where it would hold this run."""
    if not share_milli or all(device.vendor != VENDOR for device in devices):
        return {}
    return share_variables(share_milli, devices, agents_daemon())


def _account(spec: LaunchSpec) -> Account | None:
    """Whom the run goes as; None: the agent's own user. Raises NoSuchAccount."""
    return None if spec.unix_user is None or why_single_user() else find_account(spec.unix_user)


def _context(
    key: RunKey, spec: LaunchSpec, address: str, ports: tuple[int, ...], account: Account | None
) -> RunContext:
    directory = checkpoint_dir(spec, key)
    return RunContext(
        address=address,
        master_port=ports[0],
        serves=spec.serves,
        model=spec.model_path is not None and spec.argv is None,
        port=ports[1] if spec.serves else None,
        checkpoint_dir=None if directory is None else str(directory),
        devices=spec.device_indices,
        unix_user=None if account is None else account.name,
        log_cap_bytes=spec.log_cap_bytes,
        readiness=None if spec.serving is None else spec.serving.readiness,
        liveness=None if spec.serving is None or spec.argv is None else spec.serving.liveness,
        tenant=spec.tenant,
        share_milli=spec.share_milli,
    )
