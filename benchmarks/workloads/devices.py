"""Which devices can this process compute on, and how does each kind synchronise? Only this knows torch's names.

torch device types behind one thin shim: cuda, npu (with torch_npu), cpu; without torch, NumPy on the CPU. Nothing here
is imported at start-up: torch takes seconds.
"""

from __future__ import annotations

import importlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

DeviceKind = Literal["cuda", "npu", "cpu"]


@dataclass(frozen=True, slots=True)
class ComputeDevice:
    """One accelerator as torch sees it, or the CPU with a number of threads (`index` 0)."""

    kind: DeviceKind
    index: int
    uuid: str
    model: str
    vendor: str
    threads: int | None = None

    @property
    def is_cpu(self) -> bool:
        return self.kind == "cpu"

    @property
    def default_precision(self) -> str:
        return "fp32" if self.is_cpu else "bf16"


def torch_or_none() -> ModuleType | None:
    """torch, or None where it is not installed (then NumPy is the floor)."""
    try:
        return importlib.import_module("torch")
    except ImportError:
        return None


def library_text() -> str:
    """`torch 2.13.0` or `numpy 2.4.6`: what multiplies here."""
    torch = torch_or_none()
    if torch is not None:
        return f"torch {torch.__version__}"
    return f"numpy {importlib.import_module('numpy').__version__}"


def accelerators() -> tuple[ComputeDevice, ...]:
    """The accelerators that this process may use, in visibility order. Empty where there are none."""
    torch = torch_or_none()
    if torch is None:
        return ()
    return _cuda(torch) or _npu(torch)


def cpu(threads: int | None = None) -> ComputeDevice:
    """The CPU as one device. `threads` defaults to the cores that this process may run on."""
    return ComputeDevice(
        kind="cpu",
        index=0,
        uuid=f"cpu-{platform.node() or 'localhost'}",
        model=cpu_model(),
        vendor="cpu",
        threads=threads or len(os.sched_getaffinity(0)),
    )


def cpu_model() -> str:
    """As /proc/cpuinfo names it; the machine type (`x86_64`) where it does not."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip().lower() in ("model name", "hardware") and value.strip():
                return value.strip()
    except OSError:
        pass  # no procfs: the machine type has to do
    return platform.machine() or "CPU"


def _cuda(torch: Any) -> tuple[ComputeDevice, ...]:
    if not torch.cuda.is_available():
        return ()
    vendor = "AMD" if getattr(torch.version, "hip", None) else "NVIDIA"
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        uuid = getattr(properties, "uuid", None)
        found.append(ComputeDevice("cuda", index, f"GPU-{uuid}" if uuid else f"cuda-{index}", properties.name, vendor))
    return tuple(found)


def _npu(torch: Any) -> tuple[ComputeDevice, ...]:
    try:
        importlib.import_module("torch_npu")
    except ImportError:
        return ()
    npu = torch.npu
    if not npu.is_available():
        return ()
    return tuple(
        ComputeDevice("npu", index, f"npu-{index}", str(npu.get_device_name(index)), "Huawei")
        for index in range(npu.device_count())
    )


def synchronise(torch: Any, device: ComputeDevice) -> None:
    """Wait until the device has finished everything it was given. A no-op on a CPU, which works in step."""
    if device.kind == "cuda":
        torch.cuda.synchronize(device.index)
    elif device.kind == "npu":
        torch.npu.synchronize(device.index)
