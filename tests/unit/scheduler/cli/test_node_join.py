"""What `suanli node join` hands on to the agent of its machine, and what it refuses before anything is started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from node_agent.config import AgentConfig, with_expectation, with_sources
from node_agent.devices.simulated import SimulatedSpec
from node_agent.metrics_door import door_config
from node_agent.nodes import NodeConfig
from scheduler.cli.node import _own_environment, _own_sources
from scheduler.cli.root import root
from scheduler.errors import BadInput


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("suanli_0123456789abcdef")
    path.chmod(0o600)
    return path


def join(tmp_path: Path, *more: str) -> Result:
    ray_token = tmp_path / "ray_token"
    ray_token.write_text("x")
    ray_token.chmod(0o600)
    argv = ["node", "join", "127.0.0.1:1", "--site", "edge", "--ray-token", str(ray_token), *more]
    return CliRunner().invoke(root, argv, prog_name="suanli")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--metrics", "9400"), "--metrics-token: name the file of the token"),
        (("--metrics", "nine", "--metrics-token", "TOKEN"), "expected PORT or ADDRESS:PORT"),
        (("--metrics", "9400", "--metrics-token", "nowhere"), "the token cannot be read"),
        (("--metrics-token", "TOKEN"), "--metrics: say where metrics are to be had"),
        (("--metrics-dcgm",), "--metrics: say where metrics are to be had"),
        (("--expected-devices", "-1"), "--expected-devices"),
    ],
)
def test_a_door_that_could_not_be_opened_is_refused(
    tmp_path: Path, token: Path, more: tuple[str, ...], said: str
) -> None:
    result = join(tmp_path, *(str(token) if word == "TOKEN" else word for word in more))
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--devices", "nvlm"), "--devices: 'nvlm' is no device source; known are cpu,"),
        (("--devices", "replay:none.jsonl"), "/none.jsonl: cannot be read: No such file or directory"),
        (("--devices", "metax"), "metax: mx-smi is not installed here"),
        (("--devices", "broken"), "broken: "),
        (("--devices", "cpu", "--devices", "cpu"), "--devices: each source once"),
    ],
)
def test_sources_that_cannot_be_used_are_refused_before_anything_starts(
    tmp_path: Path, more: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendors = tmp_path / "vendors"
    vendors.mkdir()
    (vendors / "broken.yaml").write_text("vendor: x\ncommand: [sh]\nformat: 3\n")
    monkeypatch.setenv("SUANLI_VENDORS", str(vendors))
    monkeypatch.chdir(tmp_path)
    result = join(tmp_path, *more)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_the_agent_is_told_sources_that_hold_wherever_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    told = _own_sources(["replay:gone.jsonl", "cpu"])
    assert capsys.readouterr().err.startswith(f"note: --devices: passed over: replay:{tmp_path}/gone.jsonl: ")
    real, invented = NodeConfig("n1", "s", "a"), NodeConfig("s1", "s", "a", SimulatedSpec("H100", "nvidia", 2, 0))
    config = with_sources(AgentConfig("n1", (real, invented), "", ""), told)
    assert [node.source for node in config.nodes] == [(f"replay:{tmp_path}/gone.jsonl", "cpu"), invented.source]
    assert with_sources(config, _own_sources([])) == config
    with pytest.raises(RuntimeError, match="SUANLI_NODE_SOURCES=cpu: a JSON list"):
        with_sources(config, {"SUANLI_NODE_SOURCES": "cpu"})


def test_a_token_that_others_may_read_is_refused(token: Path) -> None:
    token.chmod(0o644)
    with pytest.raises(BadInput, match="others may read the token"):
        _own_environment(None, "9400", token, False)


def test_the_agent_understands_what_it_is_told(token: Path) -> None:
    told = _own_environment(8, "10.0.0.2:9400", token, True)
    door = door_config(told, "10.9.9.9")
    assert door is not None
    assert (door.address, door.port, door.token_file, door.dcgm) == ("10.0.0.2", 9400, token, True)
    real, invented = NodeConfig("n1", "s", "a"), NodeConfig("s1", "s", "a", SimulatedSpec("H100", "nvidia", 2, 0))
    config = AgentConfig("n1", (real, invented, replace(real, expected_devices=4)), "", "")
    assert [node.expected_devices for node in with_expectation(config, told).nodes] == [8, None, 4]
    assert with_expectation(config, _own_environment(None, None, None, False)) == config


def test_an_expectation_that_is_no_number_is_refused() -> None:
    with pytest.raises(RuntimeError, match="SUANLI_NODE_DEVICES=eight"):
        with_expectation(AgentConfig("n1", (), "", ""), {"SUANLI_NODE_DEVICES": "eight"})
