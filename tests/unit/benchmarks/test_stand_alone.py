"""`python -m benchmarks run` as a process: from a checkout, with nothing but the few libraries that it may use."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.raw_requests import requests_from_line
from benchmarks.starts import SystemClock
from benchmarks.system.meeting_place import Announced, MeetingPlace

CHECKOUT = Path(__file__).resolve().parents[3]

# Runs `python -m benchmarks ARGS` while every import but those of the allowed distributions (and what these require)
# fails as if it were not installed.
BLOCKER = """
import importlib.metadata as metadata, re, runpy, sys
from importlib.abc import MetaPathFinder

allowed_distributions = set()
todo = sys.argv[1].split(",")
while todo:
    name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
    if name in allowed_distributions:
        continue
    allowed_distributions.add(name)
    try:
        todo += [re.match(r"[A-Za-z0-9._-]+", r)[0] for r in metadata.requires(name) or () if "extra ==" not in r]
    except metadata.PackageNotFoundError:
        pass
allowed = {"benchmarks", "__main__", "_distutils_hack"} | set(sys.stdlib_module_names)
for module, owners in metadata.packages_distributions().items():
    if any(re.sub(r"[-_.]+", "-", o).lower() in allowed_distributions for o in owners):
        allowed.add(module)

class Blocker(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(f"blocked: {name}", name=name)
        return None

for forbidden in ("ray", "pydantic", "sqlalchemy", "fastapi", "aiohttp", "scheduler", "node_agent", "psutil"):
    assert forbidden not in allowed, forbidden
sys.meta_path.insert(0, Blocker())
sys.argv = ["benchmarks", *sys.argv[2:]]
runpy.run_module("benchmarks", run_name="__main__")
"""


def clean_environment(tmp_path: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}


def run(arguments: list[str], environment: Mapping[str, str], *, expect: int = 0) -> Any:
    command = [sys.executable, *arguments]
    ended = subprocess.run(
        command, cwd=CHECKOUT, env=dict(environment), capture_output=True, text=True, timeout=100, check=False
    )
    assert ended.returncode == expect, ended.stderr
    return json.loads(ended.stdout) if expect == 0 else ended


@pytest.mark.parametrize(
    ("libraries", "library"),
    [("numpy,torch,click,rich,pyyaml", "torch "), ("numpy,click,rich,pyyaml", "numpy ")],
)
def test_it_runs_with_every_other_import_blocked(tmp_path: Path, libraries: str, library: str) -> None:
    answer = run(
        ["-c", BLOCKER, libraries, "run", "--local", "--window", "1", "-o", "json"], clean_environment(tmp_path)
    )
    assert answer["schema"] == "suanli/bench/1"
    assert set(answer) == {"schema", "provenance", "cases", "devices", "peers"}
    assert answer["provenance"]["label"] == "smoke"
    assert answer["provenance"]["library"].startswith(library)
    assert {"host", "cpu", "python", "torch", "commit", "generated_at", "window_s"} <= set(answer["provenance"])
    for device in answer["devices"]:
        assert device["verified"], (device["verdict"], device["reason"])
        assert device["gflops"] > 0
        assert device["samples"] > 0
        assert 0 < device["detection_probability"] < 1
        assert device["evidence"] == "measured"


def worker_environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return (
        clean_environment(tmp_path)
        | {
            "SUANLI_DEVICES": "cpu-a-0,cpu-a-1",
            "SUANLI_DEVICE_MODEL": "EPYC",
            "SUANLI_DEVICE_VENDOR": "cpu",
            "SUANLI_SIMULATED": "0",
            "SUANLI_NODE": "a",
            "SUANLI_RESULT_FILE": str(tmp_path / "result.json"),
        }
        | more
    )


WORKER = ["-m", "benchmarks", "run", "--worker", "-o", "json"]
NUMPY_ALONE = ["-c", BLOCKER, "numpy,click,rich,pyyaml"]
"""For what is the same with torch, which takes seconds to load."""
QUICK_WORKER = [*NUMPY_ALONE, *WORKER[2:]]


def test_a_cpu_jobs_devices_are_one_group_and_the_result_is_a_file(tmp_path: Path) -> None:
    start_at_s = time.time() + 3.0
    answer = run(
        [*WORKER, "--window", "0.5", "--start-at", f"{start_at_s:.3f}", "--precision", "fp32"],
        worker_environment(tmp_path),
    )
    left = json.loads((tmp_path / "result.json").read_text())
    (line,) = left.pop("raw")
    assert left == answer
    (device,) = answer["devices"]
    assert device["raw_sha256"] == hashlib.sha256(line.encode()).hexdigest()
    assert (device["covers"], device["threads"], device["on"]) == (["cpu-a-0", "cpu-a-1"], 2, "cpu")
    assert device["verdict"] in ("ok", "late_start"), device
    if device["verdict"] == "ok":
        assert device["window_start_s"] == pytest.approx(start_at_s, abs=0.001)
    assert answer["cases"][0]["value"] is None  # no accelerator: null, not 0


def test_a_simulated_jobs_devices_get_simulated_figures_at_once(tmp_path: Path) -> None:
    environment = worker_environment(
        tmp_path, SUANLI_SIMULATED="1", SUANLI_DEVICES="s0,s1,s2", SUANLI_DEVICE_VENDOR="nvidia"
    )
    begun = time.monotonic()
    answer = run([*WORKER, "--window", "600", "--card-peak-tflops", "1000"], environment)
    assert time.monotonic() - begun < 20
    assert [d["device"] for d in answer["devices"]] == ["s0", "s1", "s2"]
    assert {(d["evidence"], d["on"], d["verified"]) for d in answer["devices"]} == {("simulated", "nothing", False)}
    assert answer["provenance"]["library"] is None


def test_a_check_needs_numpy_alone_and_leaves_its_result(tmp_path: Path) -> None:
    argv = [*NUMPY_ALONE, "check", "--worker", "--seconds", "0.2", "--part", "memory"]
    answer = run(argv, worker_environment(tmp_path))
    assert json.loads((tmp_path / "result.json").read_text()) == answer
    assert answer["library"].startswith("numpy ")
    (parts,) = answer["devices"].values()
    assert (parts["memory"]["came"], parts["memory"]["unit"]) == ("right", "GB/s")


def test_a_check_that_is_asked_to_go_leaves_nothing(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "benchmarks", "check", "--worker", "--seconds", "60", "--part", "memory"]
    process = subprocess.Popen(argv, cwd=CHECKOUT, env=worker_environment(tmp_path), stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not Path(f"/proc/{process.pid}/maps").read_text().count("multiarray"):  # it has begun to load libraries
            assert time.monotonic() < deadline, "it does not begin"
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (130, -signal.SIGTERM)  # by its own choice, or before it could choose
    finally:
        process.kill()
        process.wait()
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("missing", ["SUANLI_DEVICES", "SUANLI_SIMULATED"])
def test_a_worker_outside_a_job_says_what_is_missing(tmp_path: Path, missing: str) -> None:
    environment = worker_environment(tmp_path)
    del environment[missing]
    assert missing in run([*WORKER, "--window", "0.3"], environment, expect=2).stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_a_valid_partial_record(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, *QUICK_WORKER, "--window", "60"],
        cwd=CHECKOUT,
        env=worker_environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not _catches(process.pid, signal.SIGTERM):
            assert time.monotonic() < deadline, "it never came to handle signals"
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    (device,) = json.loads(out)["devices"]
    assert (device["verdict"], device["gflops"], device["verified"]) == ("interrupted", 0.0, False)
    assert "not a full window" in device["reason"]
    assert json.loads((tmp_path / "result.json").read_text())["devices"] == [device]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--window", "nan"], "a window lasts some seconds"),
        (["--window", "1", "--start-at", "inf"], "--start-at is a moment"),
        (["--workloads", ""], "--workloads names nothing"),
        (["--raw", "/dev/null/raw"], "/dev/null/raw cannot be written"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(tmp_path: Path, argv: list[str], told: str) -> None:
    stderr = run(["-m", "benchmarks", "run", *argv], clean_environment(tmp_path), expect=2).stderr
    assert told in stderr
    assert "Traceback" not in stderr


def test_an_answer_that_nobody_can_take_down_is_told(tmp_path: Path) -> None:
    """/dev/full is a disk without room."""
    argv = [sys.executable, *NUMPY_ALONE, "run", "--window", "0.3", "-o", "json"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            argv,
            cwd=CHECKOUT,
            env=clean_environment(tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=100,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr.strip() == "Error: the answer could not be written: No space left on device"


def test_serving_is_measured_from_a_checkout_with_numpy_alone(tmp_path: Path) -> None:
    raw = tmp_path / "raw.jsonl"
    argv = ["run", "--window", "2", "--workloads", "serving", "--seed", "5", "--raw", str(raw), "-o", "json"]
    answer = run([*NUMPY_ALONE, *argv], clean_environment(tmp_path))
    (device,) = answer["devices"]
    assert (device["workload"], device["unit"], device["gflops"]) == ("serving", "requests/s", None), device
    assert device["value"] > 0
    assert device["serving"]["load_share"] == 0.7
    said = requests_from_line(raw.read_text())
    assert said.per_s == device["value"]
    waits = [device["serving"][f"latency_{q}_ms"] for q in ("p50", "p95", "p99")]
    assert said.gives_quantiles(waits, (0.5, 0.95, 0.99))
    assert {c["case"]: c["value"] for c in answer["cases"]}["cpu_gflops"] is None


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for this signal (proc(5), SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_two_workers_meet_and_share_one_start_although_a_third_is_killed(tmp_path: Path) -> None:
    """Real processes: the coordinator compares their clocks, one dies while it waits, raw batches come to it."""
    place = MeetingPlace("127.0.0.1", SystemClock())
    workers: dict[str, subprocess.Popen[str]] = {}
    try:
        for name in ("a", "b", "c"):
            more = {"SUANLI_NODE": name, "SUANLI_DEVICES": f"cpu-{name}", "SUANLI_RESULT_FILE": str(tmp_path / name)}
            workers[name] = subprocess.Popen(
                [sys.executable, *QUICK_WORKER, "--window", "1", "--precision", "fp32", "--run", "night"],
                cwd=CHECKOUT,
                env=worker_environment(tmp_path, **more) | place.environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        wait_until(lambda: set(place.armed(0)) == {"a", "b", "c"})
        workers["c"].kill()
        wait_until(lambda: place.here() == {"a", "b"})
        announced = Announced(place.now_s() + 2.0, {"a": place.now_s(), "b": place.now_s() + 0.5})
        place.announce(0, announced)
        for name in ("a", "b"):
            _, told = workers[name].communicate(timeout=60)
            assert workers[name].returncode == 0, told
        lines = place.take_raw()
        assert len(lines) == 2
        for name in ("a", "b"):
            left = json.loads((tmp_path / name).read_text())
            (device,) = left["devices"]
            assert "raw" not in left
            assert device["verdict"] in ("ok", "late_start", "zero_work"), device  # by how busy this machine is
            assert device["window_start_s"] == announced.at_s
            assert abs(device["clock_offset_s"]) < 0.05
            assert device["raw_sha256"] in {hashlib.sha256(line.encode()).hexdigest() for line in lines}
        assert not (tmp_path / "c").exists()
    finally:
        for process in workers.values():
            process.kill()
            process.communicate()
        place.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
