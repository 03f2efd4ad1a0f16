"""`suanli up` says at once that none of the node's device sources can be used, where it would wait for the node."""

from __future__ import annotations

import ctypes
import re
import shutil
from pathlib import Path

import pytest

from node_agent.devices.openers import DEFAULT_NAMES
from node_agent.devices.recording import Recorder
from node_agent.devices.simulated import SimulatedDevices, SimulatedSpec
from scheduler.cli.site_nodes import require_sources
from scheduler.errors import BadInput
from scheduler.schema.load import load_site

CONFIGS = Path(__file__).parents[4] / "configs"


def test_a_recording_that_is_none_is_refused_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"node\.devices: none of them can be used here: replay:.*none\.jsonl"):
        require_sources([f"replay:{tmp_path / 'none.jsonl'}"])
    faulty = tmp_path / "faulty.jsonl"
    faulty.write_text("no recording\n")
    with pytest.raises(BadInput, match=r"faulty\.jsonl"):
        require_sources([f"replay:{faulty}"])


def test_a_tool_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BadInput, match="metax: mx-smi is not installed here"):
        require_sources(["metax"])


def test_one_that_can_be_used_is_enough(tmp_path: Path) -> None:
    require_sources([f"replay:{tmp_path / 'none.jsonl'}", "cpu"])
    played = tmp_path / "played.jsonl"
    with played.open("w") as out:
        Recorder(SimulatedDevices(SimulatedSpec("H100 SXM", "nvidia", 1, 80 << 30), "n1"), out).step(1_000.0)
    require_sources([f"replay:{played}"])


def test_what_is_passed_over_is_told(tmp_path: Path) -> None:
    missing = f"replay:{tmp_path / 'none.jsonl'}"
    (why,) = require_sources([missing, "cpu"])
    assert why.startswith(missing)
    assert require_sources(["cpu", missing]) == []


def test_a_source_that_nobody_knows_is_refused_even_behind_one_that_works() -> None:
    with pytest.raises(BadInput, match=r"--devices: 'nvlm' is no device source; known are cpu, .*nvml"):
        require_sources(["cpu", "nvlm"], "--devices")


def test_a_library_that_is_there_and_cannot_be_loaded_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as one that is not installed; and though nobody named it."""
    broken = tmp_path / "libnvidia-ml.so.1"
    broken.write_text("not a library")
    load = ctypes.CDLL

    def found(name: str) -> ctypes.CDLL:
        return load(str(broken) if name == "libnvidia-ml.so.1" else name)

    monkeypatch.setattr(ctypes, "CDLL", found)
    with pytest.raises(BadInput, match=r"nvml: libnvidia-ml\.so\.1 cannot be loaded: .*too short"):
        require_sources(["nvml"])
    assert any("cannot be loaded" in why for why in require_sources(DEFAULT_NAMES))


def test_what_ships_absent_and_unnamed_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> ctypes.CDLL:
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    monkeypatch.setenv("PATH", "/nowhere")
    assert require_sources(DEFAULT_NAMES) == []


def test_a_relative_recording_is_below_the_file_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever `suanli up`, and then the agent, is run."""
    site = tmp_path / "site"
    site.mkdir()
    for path in (*CONFIGS.glob("*.yaml"), *CONFIGS.glob("*.csv")):
        shutil.copy(path, site)
    local = site / "local.yaml"
    named, count = re.subn(
        r"devices: \[.*?\]", 'devices: ["replay:incidents/one.jsonl", cpu]', local.read_text(), count=1
    )
    assert count == 1
    local.write_text(named)
    monkeypatch.chdir(tmp_path)
    assert load_site(Path("site/local.yaml")).device_sources == (f"replay:{site}/incidents/one.jsonl", "cpu")
