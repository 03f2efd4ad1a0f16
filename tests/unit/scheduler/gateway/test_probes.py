"""A replica is asked whether it answers at all: nothing of that reaches a caller."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.gateway.replica_state import ReplicaState
from scheduler.gateway.upstream import Connection, ConnectionPool
from scheduler.gateway.watching import probe
from scheduler.ports import Replica
from tests.fakes.fake_replica import FakeReplica, Request

_ASK = b"GET /mine HTTP/1.1\r\nhost: replica\r\n\r\n"


def at_once(request: Request) -> None:
    said = request.seen.target.encode()
    request.raw(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said))


def in_pieces(request: Request) -> None:
    request.answer(body=request.seen.target.encode())


def in_chunks(request: Request) -> None:
    said = request.seen.target.encode()
    request.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(said), said))


def busy(request: Request) -> None:
    request.answer(503, b"still loading") if request.seen.target == "/-/ready" else at_once(request)


async def whole(connection: Connection) -> bytes:
    body = b""
    while piece := await connection.read():
        body += piece
    return body


@pytest.mark.parametrize("behave", [at_once, in_pieces, in_chunks, busy])
def test_what_a_probe_was_answered_does_not_come_before_the_next_answer(behave: object) -> None:
    replica = FakeReplica(behave)  # type: ignore[arg-type]
    pool = ConnectionPool(replica.address)
    state = ReplicaState(Replica("7", 0, 1, replica.address, False), "secret", pool)

    async def told() -> list[bytes]:
        assert await probe(state, 10.0)
        kept = pool.take()
        assert kept is not None, "a connection that is in order is kept for the next request"
        answers = []
        for _ in range(2):
            await kept.exchange(_ASK, b"", without_body=False)
            answers.append(await whole(kept))
            assert kept.reusable
            kept.reset()
        pool.close()
        kept.close()
        return answers

    try:
        assert asyncio.run(told()) == [b"/mine", b"/mine"]
    finally:
        replica.close()


def test_a_connection_with_an_answer_that_nobody_read_is_not_used_again() -> None:
    replica = FakeReplica(at_once)
    pool = ConnectionPool(replica.address)

    async def told() -> Connection | None:
        connection = await pool.checkout()
        await connection.exchange(_ASK, b"", without_body=False)
        assert connection.finished
        pool.give_back(connection)
        return pool.take()

    try:
        assert asyncio.run(told()) is None
    finally:
        replica.close()
