"""A ready file chooses a port of its own node and a socket of its own run, nothing else; a port is asked in HTTP."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_agent.execution.logs import RunPaths
from node_agent.execution.order import RunContext
from node_agent.execution.published_sockets import CannotPublish, PublishedSockets
from node_agent.messages import ProbeSpec
from node_agent.watching import Liveness, Ready, ask, said_ready
from tests.fakes.fake_replica import FakeReplica


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
        ("10.0.0.2", "10.0.0.2:80\n/run/docker.sock", "10.0.0.2:80", "not in the run's directory"),
        ("10.0.0.2", "10.0.0.2:80\nHERE/../socket", "10.0.0.2:80", "not in the run's directory"),
        ("10.0.0.2", "10.0.0.2:80\nsocket", "10.0.0.2:80", "not in the run's directory"),
    ],
)
def test_what_a_ready_file_says(tmp_path: Path, own: str, text: str, address: str | None, said: str) -> None:
    paths = RunPaths(tmp_path)
    paths.ready.write_text(text.replace("HERE", str(tmp_path)))
    found, complaint = said_ready(context(own), paths)
    assert (None if found is None else found.address) == address
    assert said in complaint
    assert bool(complaint) == bool(said)


def test_a_ready_file_names_the_socket_of_its_own_run(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    paths.ready.write_text(f"10.0.0.2:80\n{paths.unix_socket}\n")
    assert said_ready(context(), paths) == (Ready("10.0.0.2:80", paths.unix_socket), "")


@pytest.mark.timeout(10)
def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ready")
    found, complaint = said_ready(context(), RunPaths(tmp_path))
    assert found is None
    assert "not a regular file" in complaint


# ---- sockets ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Path]:
    run = tmp_path / "run"
    run.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run / "socket"))
        listener.listen()
        yield run / "socket"


def test_a_published_socket_leads_to_the_one_that_was_looked_at_whatever_becomes_of_its_path(
    tmp_path: Path, listening: Path
) -> None:
    sockets = PublishedSockets(tmp_path / "s")
    published = sockets.publish("run", listening)
    assert stat.S_IMODE(published.parent.stat().st_mode) == 0o700
    listening.unlink()
    listening.symlink_to("/run/docker.sock")  # the tenant has second thoughts
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(published))
    sockets.withdraw("run")
    assert not published.exists()
    sockets.withdraw("run")  # twice is no error


def test_published_again_it_leads_to_the_new_one(tmp_path: Path, listening: Path) -> None:
    sockets = PublishedSockets(tmp_path / "s")
    assert sockets.publish("run", listening) == sockets.publish("run", listening)


def test_a_link_a_file_and_what_is_not_there_are_not_published(tmp_path: Path, listening: Path) -> None:
    sockets = PublishedSockets(tmp_path / "s")
    link = listening.with_name("link")
    link.symlink_to(listening)
    listening.with_name("file").write_text("")
    for name in ("link", "file"):
        with pytest.raises(CannotPublish, match="not a socket of the run's own user"):
            sockets.publish("run", listening.with_name(name))
    with pytest.raises(CannotPublish, match="could not be published"):
        sockets.publish("run", listening.with_name("missing"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_users_socket_in_the_runs_directory_is_not_published(tmp_path: Path, listening: Path) -> None:
    os.chown(listening.parent, 12345, 12345)
    with pytest.raises(CannotPublish, match="not a socket of the run's own user"):
        PublishedSockets(tmp_path / "s").publish("run", listening)
    os.chown(listening, 12345, 12345)
    assert PublishedSockets(tmp_path / "s").publish("run", listening).exists()


def test_where_a_unix_address_is_too_short_the_port_is_used(tmp_path: Path, listening: Path) -> None:
    with pytest.raises(CannotPublish, match="longer than a Unix address may be"):
        PublishedSockets(tmp_path / ("s" * 120)).publish("run", listening)


# ---- ports -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def replica() -> Iterator[FakeReplica]:
    fake = FakeReplica()
    yield fake
    fake.close()


def answers(replica: FakeReplica, status: int = 200, timeout_s: float = 5.0) -> str:
    host, port = replica.address.split(":")
    return asyncio.run(ask(host, int(port), ProbeSpec("/health?deep=1", status=status), timeout_s))


def test_a_replica_is_asked_by_http(replica: FakeReplica) -> None:
    assert answers(replica) == ""
    assert (replica.seen[0].method, replica.seen[0].target) == ("GET", "/health?deep=1")
    assert answers(replica, status=204).endswith("was answered with 200, not 204")
    replica.then(lambda request: request.answer(503))
    assert answers(replica).endswith("was answered with 503, not 200")
    replica.then(lambda request: request.raw(b"SSH-2.0-x\r\n", close=True))
    assert answers(replica).endswith("was not answered in HTTP")
    replica.then(lambda request: request.raw(b"x" * 5000, close=True))
    assert "failed: " in answers(replica)
    replica.then(lambda request: request.break_off())
    assert answers(replica) != ""


@pytest.mark.timeout(20)
def test_a_replica_that_does_not_answer_is_not_waited_for(replica: FakeReplica) -> None:
    with replica.hold():
        assert "was not answered within 0.05 s" in answers(replica, timeout_s=0.05)
    replica.close()
    assert "failed: " in answers(replica)


def test_so_many_bad_answers_in_a_row_end_it() -> None:
    alive = Liveness(ProbeSpec("/health", failures=3))
    heard = ["", "bad", "bad", "", "bad", "bad"]
    assert [alive.heard(each) for each in heard] == [""] * 6
    assert alive.heard("GET /health was answered with 500") == (
        "it was ended, for GET /health was answered with 500, 3 times in a row"
    )
