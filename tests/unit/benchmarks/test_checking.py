"""Short checks of devices: what is right has a rate, what is wrong says how, what cannot be run says why."""

from __future__ import annotations

import importlib
import json
from typing import Any

import numpy as np
import pytest

from benchmarks.checking import copies, triad
from benchmarks.checking.pattern import MODULUS, SHIFT, numpy_pattern, torch_pattern
from benchmarks.checking.program import CHECKS, check_devices, run_parts
from benchmarks.local_run import JobDevices
from benchmarks.workloads.devices import ComputeDevice, cpu

torch: Any = importlib.import_module("torch")
CPU = cpu(1)


def never() -> bool:
    return False


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triad, "CPU_BYTES", 4 * 100_000)
    monkeypatch.setattr(triad, "LOOKED_AT_ONCE", 30_000)
    monkeypatch.setattr(copies, "COPY_BYTES", 4 * 10_000)


def test_a_place_holds_what_its_number_says() -> None:
    for times in (1, SHIFT):
        pattern = numpy_pattern(3 * MODULUS, times)
        assert pattern.max() == MODULUS - 1
        assert np.array_equal(pattern, torch_pattern(torch, 3 * MODULUS, torch.device("cpu"), times).numpy())
        assert pattern[MODULUS + 5] == (5 * times) % MODULUS


@pytest.mark.parametrize("library", [torch, None], ids=["torch", "numpy"])
def test_memory_that_holds_what_was_written_has_a_rate(library: Any) -> None:
    assert triad.triad(library, CPU, 0.01, never) > 0


@pytest.mark.parametrize("library", [torch, None], ids=["torch", "numpy"])
def test_one_changed_element_is_found_and_told(library: Any) -> None:
    def spoil(a: Any) -> None:
        a[70_000] += 1
        a[99_999] = float("nan")

    with pytest.raises(triad.Wrong, match=r"2 of 100000 elements .* is 70000"):
        triad.triad(library, CPU, 0.01, never, spoil=spoil)


def test_memory_is_not_filled_to_the_brim() -> None:
    assert triad.array_bytes(12 << 30, is_cpu=False) == 1 << 30
    assert triad.array_bytes(1 << 30, is_cpu=False) == (1 << 30) // 12


@pytest.mark.parametrize(("count", "found"), [(0, []), (1, []), (2, [(0, 1), (1, 0)]), (3, [(0, 1), (1, 2), (2, 0)])])
def test_every_device_sends_and_receives_once(count: int, found: list[tuple[int, int]]) -> None:
    assert list(copies.pairs(count)) == found


def test_what_arrives_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    assert copies.copy_rate(torch, CPU, CPU, 0.01, never) > 0
    made = copies.torch_pattern
    patterns = iter([lambda p: p, lambda p: p.index_fill(0, torch.tensor([17]), -1.0)])
    monkeypatch.setattr(copies, "torch_pattern", lambda *given: next(patterns)(made(*given)))
    with pytest.raises(triad.Wrong, match="1 of 10000 elements arrive changed, the first is 17"):
        copies.copy_rate(torch, CPU, CPU, 0.01, never)


@pytest.mark.parametrize(
    ("library", "kinds", "why"),
    [
        (None, ["cuda", "cuda"], "torch is not installed"),
        (torch, ["cpu", "cpu"], "a CPU has no links"),
        (torch, ["cuda"], "one device has nobody to send to"),
        (torch, ["cuda", "cuda"], ""),
    ],
)
def test_links_that_cannot_be_checked_say_why(library: Any, kinds: list[Any], why: str) -> None:
    devices = [ComputeDevice(kind, i, f"d{i}", "m", "v") for i, kind in enumerate(kinds)]
    assert copies.can_reach(library, devices).startswith(why)


def test_each_device_has_its_own_answer_whatever_the_others_do() -> None:
    def products(device: ComputeDevice, _seconds: float, _stop: Any) -> dict[str, Any]:
        if device.uuid == "a":
            raise triad.Wrong("residual 3")
        if device.uuid == "b":
            raise RuntimeError("CUDA error: out of memory\nmore")
        return {"came": "right", "rate": 1.0, "unit": "x"}

    named = {name: ComputeDevice("cpu", 0, name, "m", "v") for name in "abc"}
    result = run_parts(named, ["products", "links"], 0.1, never, {"products": products})
    assert {uuid: parts["products"] for uuid, parts in result["devices"].items()} == {
        "a": {"came": "wrong", "why": "residual 3"},
        "b": {"came": "not run", "why": "RuntimeError: CUDA error: out of memory"},
        "c": {"came": "right", "rate": 1.0, "unit": "x"},
    }
    assert result["links_skipped"] == "a CPU has no links to check"
    json.dumps(result)


def test_asked_to_stop_it_begins_nothing_more() -> None:
    result = run_parts({"a": CPU}, list(CHECKS), 60.0, lambda: True, CHECKS)
    assert result["devices"] == {"a": {}}


def job(**given: Any) -> JobDevices:
    return JobDevices(
        **{
            "uuids": ("cpu-0", "cpu-1"),
            "model": "EPYC",
            "vendor": "cpu",
            "node": "n1",
            "simulated": False,
            "result_file": None,
            **given,
        }
    )


def test_on_simulated_devices_nothing_is_run() -> None:
    result = check_devices(job(simulated=True), ["products"], 60.0, never)
    assert (result["devices"], result["trouble"]) == ({}, "simulated devices are not checked")


def test_devices_that_the_library_does_not_see_are_not_blamed() -> None:
    result = check_devices(job(vendor="nvidia"), ["products"], 60.0, never)
    assert result["devices"] == {}
    assert "sees 0 accelerators of the 2 given to this job" in result["trouble"]


def test_a_cpu_is_checked_as_one() -> None:
    result = check_devices(job(), ["products", "memory"], 1.0, never)
    (parts,) = result["devices"].values()
    assert {name: part["came"] for name, part in parts.items()} == {"products": "right", "memory": "right"}
    assert parts["products"]["unit"] == "TFLOP/s fp32"
