"""On a machine with an NVIDIA card: windows in every precision are verified, watched and held to their clock.

Not a part of `make test`: `python -m pytest -m gpu tests/gpu`. It needs torch, pynvml, click, rich and PyYAML, not Ray
nor pydantic. Never run so far: there was no card. `measure_card.py` beside this takes the long figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]
CHECKOUT = Path(__file__).resolve().parents[2]


def run(*argv: str) -> Any:
    command = [sys.executable, "-m", "benchmarks", *argv, "-o", "json"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout)


def test_every_precision_is_verified_watched_and_possible() -> None:
    answer = run("run", "--window", "5", "--precision", "fp64,fp32,tf32,bf16,fp16,fp8,int8", "--workloads", "gemm")
    assert {d["precision"] for d in answer["devices"]} == {"fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8"}
    for device in answer["devices"]:
        assert device["verified"], device
        assert device["energy_joules"] > 0
        assert device["mean_clock_megahertz"] > 200
        assert device["faults"] == 0
        assert device["digest"]
        assert device["clock_bound"] == "ok" or device["clock_bound"].startswith("not checked: the catalogue")


def test_the_other_workloads_are_verified() -> None:
    answer = run("run", "--window", "5", "--workloads", "bandwidth,attention,training,serving")
    for device in answer["devices"]:
        assert device["verified"], device
        assert (device["value"] or device["gflops"]) > 0


def test_a_window_is_within_two_percent_of_a_bare_loop() -> None:
    answer = run("harness", "--window", "20", "--rounds", "3")
    cases = {case["case"]: case for case in answer["cases"]}
    # None: the card was too restless for these windows to tell; a miss is False.
    assert cases["verified_over_bare"]["ok"] is not False, cases
    assert cases["verified_over_bare"]["value"] > 0.95, cases
