"""A ready file chooses a port of its own node, and nothing else."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from node_agent.execution.logs import RunPaths
from node_agent.execution.order import RunContext
from node_agent.watching import ready_address


def context(address: str = "10.0.0.2") -> RunContext:
    return RunContext(address, 29500, serves=True, model=True, port=4000, checkpoint_dir=None, devices=())


@pytest.mark.parametrize(
    ("own", "text", "address", "said"),
    [
        ("10.0.0.2", "10.0.0.2:4567", "10.0.0.2:4567", ""),
        ("10.0.0.2", "10.0.0.2:4567\n", "10.0.0.2:4567", ""),
        ("fd00::2", "[fd00::2]:4567", "[fd00::2]:4567", ""),
        ("10.0.0.2", "", None, ""),
        ("10.0.0.2", "10.0.0.3:4567", None, "names host '10.0.0.3'"),
        ("10.0.0.2", "169.254.169.254:80", None, "listens on its node's address 10.0.0.2"),
        ("10.0.0.2", "10.0.0.2:0", None, "names port 0"),
        ("10.0.0.2", "10.0.0.2:65536", None, "names port 65536"),
        ("10.0.0.2", "10.0.0.2", None, "not host:port"),
        ("10.0.0.2", "10.0.0.2:80/x", None, "not host:port"),
        ("10.0.0.2", "user@10.0.0.2:80", None, "names host"),
    ],
)
def test_what_a_ready_file_says(tmp_path: Path, own: str, text: str, address: str | None, said: str) -> None:
    paths = RunPaths(tmp_path)
    paths.ready.write_text(text)
    found, complaint = asyncio.run(ready_address(context(own), paths))
    assert found == address
    assert said in complaint
    assert bool(complaint) == bool(said)


@pytest.mark.timeout(10)
def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ready")
    found, complaint = asyncio.run(ready_address(context(), RunPaths(tmp_path)))
    assert found is None
    assert "not a regular file" in complaint
