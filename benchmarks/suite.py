"""What can be measured, in which precisions, and what does each need? Names in, workloads out."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.protocol import PRECISIONS, Shape
from benchmarks.work import Work
from benchmarks.workloads.devices import ComputeDevice, UnsupportedPrecision, release_cached_memory, torch_or_none

WORKLOADS = ("gemm", "bandwidth", "attention", "training", "collective")
# Those that have one precision of their own, whatever is asked for.
OF_ONE_PRECISION = {"bandwidth": "fp32", "collective": "fp32"}


class BadMeasurement(ValueError):
    """A workload or precision that there is not. The message names those that there are."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One window's work. `precision` None: each device's own (fp32 on a CPU, bf16 on an accelerator)."""

    workload: str = "gemm"
    precision: str | None = None

    def precision_on(self, device: ComputeDevice) -> str:
        return OF_ONE_PRECISION.get(self.workload) or self.precision or device.default_precision

    @property
    def is_of_node(self) -> bool:
        """Whether all devices of a node do it together."""
        return self.workload == "collective"


def measurements(workloads: Sequence[str], precisions: Sequence[str]) -> tuple[Measurement, ...]:
    """Every workload in every precision, in the order given. Raises BadMeasurement."""
    for name, known, what in (
        *((w, WORKLOADS, "workload") for w in workloads),
        *((p, PRECISIONS, "precision") for p in precisions),
    ):
        if name not in known:
            raise BadMeasurement(f"no {what} is called {name!r}; there are {', '.join(known)}")
    asked: list[Measurement] = []
    for workload in workloads or ("gemm",):
        own = workload in OF_ONE_PRECISION
        asked += [Measurement(workload, precision) for precision in ((None,) if own else (precisions or (None,)))]
    return tuple(dict.fromkeys(asked))


def split_names(given: Sequence[str]) -> tuple[str, ...]:
    """`("a,b", "c")` as `("a", "b", "c")`."""
    return tuple(name.strip() for text in given for name in text.split(",") if name.strip())


def make_work(
    measurement: Measurement, devices: Sequence[ComputeDevice], *, seed: int, side: int | None = None
) -> Work:
    """The workload on the first of `devices` (a collective: on all). Raises UnsupportedPrecision; what the library
    raises for want of memory or of a device passes through."""
    device = devices[0]
    torch = torch_or_none()
    precision = measurement.precision_on(device)
    if precision not in PRECISIONS:
        raise UnsupportedPrecision(f"precision {precision} is not known here; one of {', '.join(PRECISIONS)}")
    module = importlib.import_module
    if torch is not None:
        release_cached_memory(torch, device)
    if measurement.workload == "gemm":
        shape = None if side is None else Shape(side, side, side)
        if torch is None:
            numpy_work: Work = module("benchmarks.workloads.numpy_floor").numpy_gemm(precision, seed=seed, shape=shape)
            return numpy_work
        torch_work: Work = module("benchmarks.workloads.gemm").torch_gemm(
            torch, device, precision, seed=seed, shape=shape
        )
        return torch_work
    if measurement.workload == "bandwidth":
        moving: Work = module("benchmarks.workloads.bandwidth").Bandwidth(torch, device, seed=seed)
        return moving
    if measurement.workload == "collective":
        summing: Work = module("benchmarks.workloads.collective").Collective(torch, devices)
        return summing
    made = {"attention": "Attention", "training": "Training"}[measurement.workload]
    of_torch: Work = getattr(module(f"benchmarks.workloads.{measurement.workload}"), made)(
        torch, device, precision, seed=seed
    )
    return of_torch
