"""`suanli up` says at once that none of the node's device sources can be used, where it would wait for the node."""

from __future__ import annotations

from pathlib import Path

import pytest

from node_agent.devices.recording import Recorder
from node_agent.devices.simulated import SimulatedDevices, SimulatedSpec
from scheduler.cli.site_nodes import require_sources
from scheduler.errors import BadInput


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
