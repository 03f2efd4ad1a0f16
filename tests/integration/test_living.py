"""Starting, stopping, being interrupted, being killed: nothing is lost, nothing runs twice, nothing is left."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml

from scheduler.cli.demo import example
from tests.integration.instances import UNTIL_ASKED, Instance, demand, eventually, python


@pytest.mark.nightly  # tests/survival kills it twice in each run
def test_the_service_is_killed_and_no_job_is_lost_or_started_twice(own_instance: Instance, tmp_path: Path) -> None:
    own_instance.up()
    marks = tmp_path / "marks"
    marks.mkdir()
    script = (
        "import os, time, uuid\n"
        "name = '-'.join([os.environ['SUANLI_JOB_ID'], os.environ['RANK'], uuid.uuid4().hex])\n"
        f"open(os.path.join({str(marks)!r}, name), 'x')\n"
        "time.sleep(float(os.environ['LASTS']))\n"
    )
    base = {"kind": "training", "workers": 2, "resources": demand(), "time_limit": "5m", "command": python(script)}
    running = own_instance.submit({**base, "name": "running", "env": {"LASTS": "6"}})
    own_instance.in_state(running, "running")
    training = own_instance.submit(
        {
            **base,
            "name": "train-bytes",
            "command": [sys.executable, example("train_bytes.py"), "--steps", "30", "--checkpoint-every", "10"],
            "checkpoint": {"dir": str(tmp_path / "checkpoints"), "grace": "20s"},
        }
    )
    own_instance.in_state(training, "running")
    short = own_instance.submit({**base, "name": "ends-meanwhile", "env": {"LASTS": "0.5"}})
    waiting = own_instance.submit({**base, "name": "waiting", "workers": 8, "env": {"LASTS": "0"}})
    eventually(lambda: len([*marks.glob(f"{short}-*")]) == 2, within_s=30, what="the short job has started")
    own_instance.kill("service")
    pids = {mark.name for mark in marks.iterdir()}
    own_instance.answers()  # nobody started it
    for job_id in (training, running, short, waiting):
        ended = own_instance.ended(job_id)
        assert ended["state"] == "succeeded", ended
        assert ended["attempt"] == 1
    trained = own_instance.job(training)
    assert [event["event"] for event in trained["events"]].count("started") == 1
    (result,) = [entry["result"] for entry in trained["results"] if entry["worker"] == 0]
    assert result["steps"] == 30
    assert result["resumed_from_step"] in (None, 0)  # it was never begun again
    started = sorted(mark.name.rsplit("-", 1)[0] for mark in marks.iterdir())
    expected = [f"{j}-{r}" for j, n in ((running, 2), (short, 2), (waiting, 8)) for r in range(n)]
    assert started == sorted(expected)
    assert pids <= {mark.name for mark in marks.iterdir()}


def test_down_leaves_nothing_and_may_come_twice_and_the_next_up_goes_on_from_what_was_saved(
    own_instance: Instance, tmp_path: Path
) -> None:
    """A job that saved on SIGTERM and left with 0 was once taken for finished, and its work was lost. All of it with a
    certificate, where one can be made: then the doors speak TLS alone."""
    before = rays_shared_memory()
    nap = f"300.{os.getpid():07d}"  # nobody else sleeps for so long
    tls = with_certificate(own_instance)
    own_instance.up()
    if tls:
        speaks_tls_alone(own_instance)
    saves = own_instance.submit(
        {
            "name": "saves",
            "kind": "training",
            "resources": demand(),
            "time_limit": "10m",
            "command": UNTIL_ASKED,
            "checkpoint": {"dir": str(tmp_path / "saved"), "grace": "20s"},
        }
    )
    busy = own_instance.submit(
        {"name": "busy", "kind": "batch", "resources": demand(), "time_limit": "5m", "command": ["sleep", nap]}
    )
    own_instance.in_state(saves, "running")
    own_instance.in_state(busy, "running")
    eventually(lambda: own_instance.suanli("logs", saves).out, within_s=10, what="it works")
    found = subprocess.run(["pgrep", "-f", f"^sleep {re.escape(nap)}$"], capture_output=True, text=True, check=False)
    sleeper = found.stdout.split()
    assert sleeper
    own_instance.down()
    assert rays_shared_memory() <= before
    for pid in sleeper:
        assert not Path(f"/proc/{pid}").exists()
    again = own_instance.suanli("down")
    assert again.code == 0
    assert "nothing is running" in again.out
    assert own_instance.suanli("queue").code == 6

    own_instance.up()
    ended = own_instance.ended(saves)
    assert (ended["state"], ended["attempt"], ended["failures"]) == ("succeeded", 2, 0)
    (result,) = [entry["result"] for entry in ended["results"] if entry["attempt"] == 2]
    assert result["resumed_from"] > 0


def with_certificate(instance: Instance) -> bool:
    """Give its doors one of its own; False where none can be made."""
    if shutil.which("openssl") is None:
        return False
    certificate, key = instance.directory / "cert.pem", instance.directory / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    site = yaml.safe_load(instance.config.read_text())
    site["tls"] = {"cert": str(certificate), "key": str(key)}
    instance.config.write_text(yaml.safe_dump(site))
    return True


def speaks_tls_alone(instance: Instance) -> None:
    started = instance.home.started()
    assert started is not None
    assert started.api.startswith("https://")
    assert instance.suanli("queue").code == 0
    with pytest.raises(OSError, match=r".*"):
        urlopen(started.api.replace("https", "http") + "/v1/health", timeout=5)


@pytest.mark.nightly
def test_work_that_ran_at_down_is_taken_up_again(own_instance: Instance, tmp_path: Path) -> None:
    own_instance.up()
    script = "import os, time; time.sleep(300 if os.environ['SUANLI_ATTEMPT'] == '1' else 0)"
    job_id = own_instance.submit(
        {"name": "again", "kind": "batch", "resources": demand(), "time_limit": "10m", "command": python(script)}
    )
    own_instance.in_state(job_id, "running")
    own_instance.down()
    own_instance.up()
    ended = own_instance.ended(job_id, within_s=60)
    assert (ended["state"], ended["attempt"]) == ("succeeded", 2)


@pytest.mark.parametrize("after", ["starting ray", "starting service", "nodes answer"])
def test_ctrl_c_takes_everything_back(own_instance: Instance, after: str) -> None:
    process = own_instance.popen("up", "--config", str(own_instance.config), start_new_session=True)
    assert process.stderr is not None
    for line in process.stderr:
        if after in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    if process.returncode == 0:  # it was ready before the signal came
        assert after == "nodes answer"
        return
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert own_instance.leftovers() == {"processes": [], "runtime": []}
    assert own_instance.home.started() is None


def test_a_taken_port_is_named_and_nothing_starts(own_instance: Instance) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = own_instance.suanli("up", "--config", str(own_instance.config), "--api-port", str(port))
    assert answer.code == 5
    assert str(port) in answer.err
    assert "--api-port" in answer.err
    assert own_instance.leftovers() == {"processes": [], "runtime": []}


def test_a_bad_configuration_starts_nothing(own_instance: Instance) -> None:
    own_instance.config.write_text(own_instance.config.read_text().replace("dongyang-subnode", "dongyang-subnod"))
    answer = own_instance.suanli("up", "--config", str(own_instance.config))
    assert answer.code == 2
    assert "dongyang-subnode" in answer.err
    assert "site.yaml" in answer.err
    assert own_instance.leftovers() == {"processes": [], "runtime": []}


@pytest.mark.nightly  # as is the demo itself; ctrl-C in its `up` is above
def test_ctrl_c_in_the_demo_leaves_nothing(tmp_path: Path, own_instance: Instance) -> None:
    from scheduler.cli.instance import Home, strays

    process = own_instance.popen("demo", "--out", str(tmp_path / "out"), start_new_session=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "[2/" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    home = Home(tmp_path / "out" / "demo" / "home")
    assert strays(home.identity) == []
    assert not home.runtime_dir.exists()


def rays_shared_memory() -> set[str]:
    """Objects kept in files with names. (What else is there comes and goes with whatever runs on this machine.)"""
    return {name for name in os.listdir("/dev/shm") if "plasma" in name or "ray" in name}
