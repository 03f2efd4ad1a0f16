"""Which devices can this process compute on, and how does each kind synchronise? Only this knows torch's names.

torch device types behind one thin shim: cuda (NVIDIA, AMD by ROCm, and those who ship a torch of that name), npu, mlu,
musa, xpu and cpu, each by the module that its maker's plug-in adds to torch; without torch, NumPy on the CPU. Of all
these only cpu and cuda are tried by us. Nothing here is imported at start-up: torch takes seconds.
"""

from __future__ import annotations

import importlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

DeviceKind = Literal["cuda", "npu", "mlu", "musa", "xpu", "cpu"]
# (kind, module whose import adds it to torch, vendor), in the order in which they are looked for.
_PLUG_INS: tuple[tuple[DeviceKind, str | None, str], ...] = (
    ("npu", "torch_npu", "Huawei"),
    ("mlu", "torch_mlu", "Cambricon"),
    ("musa", "torch_musa", "Moore Threads"),
    ("xpu", None, "Intel"),
)
# Kinds whose float64 is not there or is too slow to check with: their products are checked on the host.
CHECKED_ON_HOST = ("npu", "mlu", "musa", "xpu")


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
    found = _cuda(torch)
    for kind, plug_in, vendor in _PLUG_INS:
        found = found or _plugged_in(torch, kind, plug_in, vendor)
    return found


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


def runtime_text(device: ComputeDevice) -> str | None:
    """`cuda 13.0`: the runtime that torch was built for; None where there is none."""
    torch = torch_or_none()
    if torch is None or device.kind != "cuda":
        return None
    hip = getattr(torch.version, "hip", None)
    return f"rocm {hip}" if hip else f"cuda {torch.version.cuda}"


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


def _plugged_in(torch: Any, kind: DeviceKind, plug_in: str | None, vendor: str) -> tuple[ComputeDevice, ...]:
    if plug_in is not None:
        try:
            importlib.import_module(plug_in)
        except ImportError:
            return ()
    module = getattr(torch, kind, None)
    if module is None or not module.is_available():
        return ()
    return tuple(
        ComputeDevice(kind, index, f"{kind}-{index}", str(module.get_device_name(index)), vendor)
        for index in range(module.device_count())
    )


def synchronise(torch: Any, device: ComputeDevice) -> None:
    """Wait until the device has finished everything it was given. A no-op on a CPU, which works in step."""
    if not device.is_cpu:
        getattr(torch, device.kind).synchronize(device.index)


def torch_place(torch: Any, device: ComputeDevice) -> Any:
    return torch.device("cpu") if device.is_cpu else torch.device(device.kind, device.index)


def free_memory_bytes(torch: Any, device: ComputeDevice) -> int | None:
    """None where torch cannot say."""
    ask = getattr(getattr(torch, device.kind, None), "mem_get_info", None)
    return None if device.is_cpu or ask is None else int(ask(device.index)[0])


def release_cached_memory(torch: Any, device: ComputeDevice) -> None:
    """What an earlier workload left in torch's cache; else it would not count as free."""
    empty = getattr(getattr(torch, device.kind, None), "empty_cache", None)
    if not device.is_cpu and empty is not None:
        empty()


def set_shortcuts(torch: Any, device: ComputeDevice, precision: str) -> None:
    """Full fp32 where fp32 is said, TF32 where that is said, and fp32 accumulation where 16 bit is said."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    if device.kind == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    elif device.kind == "npu" and hasattr(torch.npu, "matmul"):
        torch.npu.matmul.allow_hf32 = False


def shortcuts_on(torch: Any, device: ComputeDevice) -> tuple[str, ...]:
    """What is switched on now, whoever did it."""
    high = torch.get_float32_matmul_precision() != "highest"
    allowed = device.kind == "cuda" and bool(torch.backends.cuda.matmul.allow_tf32)
    return ("tf32",) if high or allowed else ()


class UnsupportedPrecision(ValueError):
    """The device or library at hand cannot do this workload in this precision. The message says what it can."""
