"""`suanli gateway`: one more gateway as a process of its own, sent its table as the first one is."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from scheduler.cli.instance import free_port
from scheduler.cli.root import root
from scheduler.gateway.control import HttpGatewayControl
from scheduler.ports import Principal
from scheduler.schema.load import load_site
from scheduler.tokens import issue
from tests.fakes.processes import eventually
from tests.unit.scheduler.gateway.conftest import route

REPOSITORY = Path(__file__).resolve().parents[4]
CONTROL = "control-token"


@pytest.fixture
def copied(home: Path) -> Path:
    """A home with what is copied from the head's."""
    (home / "secrets").mkdir(parents=True)
    (home / "secrets" / "gateway_control").write_text(CONTROL + "\n")
    (home / "secrets" / "gateway_control").chmod(0o600)
    issue(home / "tokens.json", Principal("op", "site", "operator", "normal"))
    return home


@pytest.fixture
def running(copied: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port("127.0.0.1")
    with open(copied / "gateway.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "scheduler.cli", "gateway", "--listen", f"127.0.0.1:{port}", "--site", "east"],
            cwd=REPOSITORY,
            env={**os.environ, "SUANLI_HOME": str(copied), "PYTHONPATH": str(REPOSITORY)},
            stdout=log,
            stderr=log,
        )
    yield process, port
    process.kill()
    process.wait(timeout=10)


def services(port: int) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/-/health")
        return int(json.loads(connection.getresponse().read())["services"])
    except OSError:
        return None
    finally:
        connection.close()


def test_it_serves_the_table_that_the_service_sends_it(
    running: tuple[subprocess.Popen[bytes], int], home: Path
) -> None:
    process, port = running
    control = HttpGatewayControl(f"http://127.0.0.1:{port}", CONTROL, retry_s=0.05)
    control.publish([route("127.0.0.1:1")], epoch=1)
    assert control.wait_arrived(30), (home / "gateway.log").read_text()
    control.close()
    assert services(port) == 1
    again = CliRunner().invoke(root, ["gateway", "--listen", f"127.0.0.1:{free_port('127.0.0.1')}"])
    assert again.exit_code == 5
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=15)
    eventually(lambda: services(port) is None, "its door is closed")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--listen", "nowhere"], "--listen: expected HOST:PORT"),
        (["--listen", "10.0.2.1:7412"], "beyond this machine the gateway speaks TLS alone"),
        (["--listen", "127.0.0.1:7412", "--cert", "a.pem"], "--cert and --key go together"),
        (["--listen", "127.0.0.1:7412", "--cert", "a.pem", "--key", "a.key"], "there is no file a.pem"),
        (["--listen", "127.0.0.1:7412"], "secrets/gateway_control is missing"),
    ],
)
def test_what_it_cannot_run_with_is_said(argv: list[str], said: str) -> None:
    result = CliRunner().invoke(root, ["gateway", *argv], prog_name="suanli")
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


def test_the_site_file_names_the_others(tmp_path: Path) -> None:
    text = (REPOSITORY / "configs" / "local.yaml").read_text().replace("include:", "include:\n")
    files = ("sites", "priority_classes", "tenants", "policy", "health")
    for name in ("hardware_catalogue.csv", *(f"{each}.yaml" for each in files)):
        text = text.replace(f": {name}", f": {REPOSITORY / 'configs' / name}")
    path = tmp_path / "site.yaml"
    path.write_text(text.replace("port: 7412}", "port: 7412, also: [https://10.0.2.1:7412/]}"))
    assert load_site(path).more_gateways == ("https://10.0.2.1:7412",)
    assert load_site(REPOSITORY / "configs" / "local.yaml").more_gateways == ()
    path.write_text(text.replace("port: 7412}", "port: 7412, also: [10.0.2.1]}"))
    with pytest.raises(Exception, match=r"gateway\.also: expected a list of other gateways' URLs"):
        load_site(path)
