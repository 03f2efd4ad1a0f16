"""What can be measured, in which precisions, and what does each need? Names in, workloads out."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.protocol import PRECISIONS, Shape
from benchmarks.work import Work
from benchmarks.workloads import attention, bandwidth, collective, serving, training
from benchmarks.workloads.devices import ComputeDevice, UnsupportedPrecision, release_cached_memory, torch_or_none

# By workload: its precisions. What one device has of them is another question (UnsupportedPrecision).
PRECISIONS_OF = {
    "gemm": PRECISIONS,
    "bandwidth": bandwidth.PRECISIONS,
    "attention": attention.PRECISIONS,
    "training": training.PRECISIONS,
    "collective": collective.PRECISIONS,
    "serving": serving.PRECISIONS,
}
WORKLOADS = tuple(PRECISIONS_OF)
# Those that move numbers and compute next to nothing: where no precision is named, this one, whatever the device.
MOVED_AS = {"bandwidth": "fp32", "collective": "fp32"}


class BadMeasurement(ValueError):
    """A workload or precision that there is not. The message names those that there are."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One window's work. `precision` None: the workload's own, or the device's (CPU: fp32, accelerators: bf16)."""

    workload: str = "gemm"
    precision: str | None = None

    def precision_on(self, device: ComputeDevice) -> str:
        return self.precision_or(device.default_precision)

    def precision_or(self, of_device: str) -> str:
        """`of_device`: what the device computes in where nothing else is said."""
        return self.precision or MOVED_AS.get(self.workload) or of_device

    @property
    def is_of_node(self) -> bool:
        """Whether all devices of a node do it together."""
        return self.workload == "collective"


@dataclass(frozen=True, slots=True)
class Asked:
    """`left_out`: of each pair that was named and that there is not, a sentence."""

    measurements: tuple[Measurement, ...]
    left_out: tuple[str, ...] = ()


def measurements(workloads: Sequence[str], precisions: Sequence[str]) -> tuple[Measurement, ...]:
    """Every workload in every precision that it has, in the order given. Raises BadMeasurement."""
    return asked(workloads, precisions).measurements


def asked(workloads: Sequence[str], precisions: Sequence[str]) -> Asked:
    """`WORKLOAD` in every one of the precisions that it has, `WORKLOAD:PRECISION` in that one.

    Raises BadMeasurement for what there is not, and where a workload or a precision that was named would not be
    measured at all.
    """
    for name in precisions:
        if name not in PRECISIONS:
            raise BadMeasurement(f"no precision is called {name!r}; there are {', '.join(PRECISIONS)}")
    found: list[Measurement] = []
    left_out: list[str] = []
    used: set[str | None] = set()
    for named in workloads or ("gemm",):
        workload, colon, own = named.partition(":")
        if workload not in WORKLOADS:
            raise BadMeasurement(f"no workload is called {workload!r}; there are {', '.join(WORKLOADS)}")
        has = PRECISIONS_OF[workload]
        wanted: Sequence[str | None] = (own,) if colon else (precisions or (None,))
        able = [precision for precision in wanted if precision is None or precision in has]
        unable = [str(precision) for precision in wanted if precision not in (None, *has)]
        if not able:
            remedy = "" if colon else f"; leave it out, or say {workload}:{MOVED_AS.get(workload, has[0])}"
            raise BadMeasurement(f"{workload} is measured in {', '.join(has)}, not in {', '.join(unable)}{remedy}")
        left_out += [f"{workload} in {precision}: it is measured in {', '.join(has)}" for precision in unable]
        found += [Measurement(workload, precision) for precision in able]
        used |= set(() if colon else able)
    unused = [name for name in dict.fromkeys(precisions) if name not in used]
    if unused:
        names = ", ".join(dict.fromkeys(name for name in workloads or ("gemm",) if ":" not in name))
        why = f"none of {names} is measured in it" if names else "each workload names its own"
        raise BadMeasurement(f"precision {unused[0]} would measure nothing: {why}; leave it out")
    return Asked(tuple(dict.fromkeys(found)), tuple(dict.fromkeys(left_out)))


def with_own_where_missing(workloads: Sequence[str], precision: str | None) -> tuple[str, ...]:
    """The names for `measurements`, those that do not have this precision in one of their own."""
    return tuple(
        name
        if precision is None or ":" in name or precision in PRECISIONS_OF[name]
        else f"{name}:{MOVED_AS.get(name, PRECISIONS_OF[name][0])}"
        for name in workloads
    )


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
    if torch is not None:
        release_cached_memory(torch, device)
    if measurement.workload == "gemm":
        return _gemm(torch, device, precision, seed, None if side is None else Shape(side, side, side))
    if measurement.workload == "bandwidth":
        return bandwidth.Bandwidth(torch, device, precision, seed=seed)
    if measurement.workload == "collective":
        return collective.Collective(torch, devices)
    if measurement.workload == "serving":
        return serving.make_serving(torch, device, precision, seed=seed)
    made = attention.Attention if measurement.workload == "attention" else training.Training
    return made(torch, device, precision, seed=seed)


def _gemm(torch: object, device: ComputeDevice, precision: str, seed: int, shape: Shape | None) -> Work:
    if torch is None:
        floor: Work = importlib.import_module("benchmarks.workloads.numpy_floor").numpy_gemm(
            precision, seed=seed, shape=shape
        )
        return floor
    work: Work = importlib.import_module("benchmarks.workloads.gemm").torch_gemm(
        torch, device, precision, seed=seed, shape=shape
    )
    return work
