"""`python -m node_agent.devices`: a look at this machine's devices without a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from node_agent.devices import __main__ as command
from node_agent.devices.replay import ReplayDevices


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "WARM_S", 0.0)


def test_devices_are_listed_and_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--source", "cpu", "list"]) == 0
    said = capsys.readouterr().out
    assert "found," in said
    assert "GiB" in said
    assert command.main(["--source", "cpu", "read", "--group", "fast"]) == 0
    said = capsys.readouterr().out
    assert "memory_total_bytes: " in said
    assert "power_watts" not in said  # a core never has it


def test_a_recording_is_made_and_can_be_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.jsonl"
    assert command.main(["--source", "cpu", "record", str(path), "--for", "0.05"]) == 0
    assert ReplayDevices(path).enumerate()
    assert command.main(["--source", f"replay:{path}", "list"]) == 0
    assert "note: played back from r.jsonl" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--source", "gpu", "list"], "unknown device source 'gpu'"),
        (["--source", "replay:/nowhere", "list"], "/nowhere: cannot be read"),
        (["--source", "cpu", "record", "/nowhere/r"], "No such file or directory"),
    ],
)
def test_what_cannot_be_is_said(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(argv) == 1
    assert said in capsys.readouterr().err


def test_wrong_usage_is_another_exit_code() -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["dance"])
    assert ended.value.code == 2
