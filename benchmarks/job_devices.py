"""What did the node tell this job of its devices? The SUANLI_* variables, read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class BadJobEnvironment(ValueError):
    """The SUANLI_* variables do not describe a job's devices. The message names the variable."""


@dataclass(frozen=True, slots=True)
class JobDevices:
    """What the node told this job of its devices."""

    uuids: tuple[str, ...]
    model: str
    vendor: str
    node: str | None
    simulated: bool
    result_file: str | None

    @property
    def is_cpu(self) -> bool:
        return self.vendor.lower() == "cpu"


def job_devices(environment: Mapping[str, str]) -> JobDevices:
    """The devices of the job that we run in. Raises BadJobEnvironment outside one."""
    uuids = tuple(u for u in environment.get("SUANLI_DEVICES", "").split(",") if u)
    if not uuids:
        raise BadJobEnvironment("SUANLI_DEVICES is empty: --worker is for jobs that Suanli started; use --local here")
    simulated = environment.get("SUANLI_SIMULATED", "")
    if simulated not in ("0", "1"):
        raise BadJobEnvironment(f"SUANLI_SIMULATED must be 0 or 1, not {simulated!r}")
    return JobDevices(
        uuids=uuids,
        model=environment.get("SUANLI_DEVICE_MODEL") or "unknown",
        vendor=environment.get("SUANLI_DEVICE_VENDOR") or "unknown",
        node=environment.get("SUANLI_NODE") or None,
        simulated=simulated == "1",
        result_file=environment.get("SUANLI_RESULT_FILE") or None,
    )


def group_name(uuids: Sequence[str]) -> str:
    """One name for the CPU devices of one job: `cpu-0 +3` for four."""
    return uuids[0] if len(uuids) == 1 else f"{uuids[0]} +{len(uuids) - 1}"
