"""What would make a standby useless is found when it is set up, not when it is needed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from scheduler.cli.leading import StandbyApp
from scheduler.cli.root import root
from scheduler.cli.service_process import reachable
from scheduler.cli.standby import COPIED

CONFIGS = Path(__file__).resolve().parents[4] / "configs"


def run(tmp_path: Path, *more: str, **changed: Any) -> Result:
    site = yaml.safe_load((CONFIGS / "local.yaml").read_text())
    site["include"] = {key: str(CONFIGS / name) for key, name in site["include"].items()}
    site["store"] = "postgresql://suanli@nowhere/suanli"
    site["node"]["name"] = "head"
    site.update(changed)
    config = tmp_path / "site.yaml"
    config.write_text(yaml.safe_dump({key: value for key, value in site.items() if value is not None}))
    argv = ["standby", "--config", str(config), "--ray", "10.0.0.1:6379", "--gateway", "http://10.0.0.1:7412", *more]
    return CliRunner().invoke(root, argv, prog_name="suanli")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"store": None}, "a standby needs a store that both services reach"),
        ({"store": "sqlite:////var/lib/suanli/jobs.db"}, "a standby needs a store that both services reach"),
        ({"node": {"site": "dongyang-subnode", "devices": ["cpu"]}}, "node.name: the head's node must have the same"),
        ({}, "secrets/ray_token is missing: copy secrets/ray_token from the home of the running service"),
    ],
)
def test_what_both_services_must_have_in_common_is_checked(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    result = run(tmp_path, **changed)
    assert result.exit_code == 2
    assert said in result.stderr


def test_secrets_that_others_may_read_are_refused(tmp_path: Path, home: Path) -> None:
    (home / "secrets").mkdir(parents=True)
    for name in COPIED:
        (home / name).write_text("x")
        (home / name).chmod(0o600)
    (home / "tokens.json").chmod(0o644)
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "tokens.json may be read by others: chmod 600" in result.stderr


@pytest.mark.parametrize("flags", [("--ray", "nowhere"), ("--gateway", "10.0.0.1:7412")])
def test_addresses_without_sense(tmp_path: Path, flags: tuple[str, str]) -> None:
    result = run(tmp_path, *flags)
    assert result.exit_code == 2
    assert "expected" in result.stderr


def test_a_door_on_all_interfaces_is_found_by_the_machines_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "head-1")
    assert reachable("https://0.0.0.0:7411") == "https://head-1:7411"
    assert reachable("https://[::]:7411") == "https://head-1:7411"
    assert reachable("http://10.0.0.1:7411") == "http://10.0.0.1:7411"


def ask(app: StandbyApp, path: str) -> tuple[int, dict[bytes, bytes], Any]:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("nothing of the body is read")

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app({"type": "http", "path": path}, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"])


def test_before_anybody_is_known_to_lead_it_says_so() -> None:
    status, headers, said = ask(StandbyApp(lambda: (0, "")), "/v1/jobs")
    assert (status, said["leader"]) == (503, None)
    assert said["error"]["message"] == "this is a standby; which service leads is not known yet"
    assert b"suanli-leader" not in headers
    status, headers, said = ask(StandbyApp(lambda: (3, "http://a:1")), "/v1/health")
    assert (status, said["status"], said["leader"], said["epoch"]) == (503, "standby", "http://a:1", 3)
    assert headers[b"suanli-leader"] == b"http://a:1"
