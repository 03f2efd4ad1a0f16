"""What a systemd unit runs: it says when the instance is up, brings its supervisor back, and ends with it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.integration.instances import REPOSITORY, Instance, eventually


def stay(instance: Instance, address: Path | None = None) -> subprocess.Popen[str]:
    notify = {} if address is None else {"NOTIFY_SOCKET": str(address)}
    return subprocess.Popen(
        [sys.executable, "-m", "scheduler.cli", "stay", "--config", str(instance.config)],
        env=instance.environment | notify,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_an_instance_is_watched_over_until_it_is_taken_down(own_instance: Instance, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        first = stay(own_instance, tmp_path / "notify")
        assert systemd.recv(100) == b"READY=1"
    assert own_instance.get("/v1/status")["epoch"] == 1
    first.send_signal(signal.SIGTERM)
    out, _ = first.communicate(timeout=20)
    assert (first.returncode, out.splitlines()[-1]) == (0, "no longer watched; the instance goes on")
    assert own_instance.get("/v1/status")["epoch"] == 1

    second = stay(own_instance)
    started = own_instance.home.started()
    assert started is not None
    before = started.processes["supervisor"]
    before.signal(signal.SIGKILL)

    def another() -> bool:
        now = own_instance.home.started()
        return now is not None and now.processes["supervisor"] != before and now.processes["supervisor"].alive()

    eventually(another, within_s=30, what="another supervisor runs")
    assert own_instance.suanli("down").code == 0
    out, _ = second.communicate(timeout=30)
    assert (second.returncode, out.splitlines()[-1]) == (0, "the instance was taken down")
