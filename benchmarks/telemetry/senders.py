"""`python -m benchmarks.telemetry.senders NODES CARDS HOW`: agents of made-up cards, each with a door of its own.

One line on its output names the doors as JSON; it ends when its input does. HOW is how readings are told: `changes` as
agents do (readings_book), or `dicts`: all of them, as dictionaries for JSON, in the form in which Ray carries them
(pickle): as it was before there were changes. These were packed beforehand, so that the sender keeps up.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import sys
import time
from collections.abc import Sequence

from benchmarks.telemetry.made_up import MadeUpCards
from node_agent.lane import LaneServer, ToldReadings
from node_agent.messages import Command, EventBatch
from node_agent.nodes import readings_json
from node_agent.readings_book import ReadingsBook
from node_agent.readings_wire import batches

PACKED = 3
EVERY_S = 2.0


class MadeUpAgent:
    """Tells of its readings and of nothing else."""

    def __init__(self, number: int, cards: int, *, changes: bool) -> None:
        self.name = f"n{number:04d}"
        self._cards = MadeUpCards(number, cards)
        self._book = ReadingsBook()
        self._packed: list[bytes] = []
        if not changes:
            for second in range(PACKED):
                readings = self._cards.read(time.time() + EVERY_S * second)
                self._packed.append(pickle.dumps({self.name: readings_json(readings)}))
        self.door = LaneServer(self.perform, self.events, self.read)

    def perform(self, session: int, number: int, commands: Sequence[Command]) -> None:
        raise AssertionError("nobody commands it")

    async def events(self, after_seq: int, wait_s: float) -> EventBatch:
        raise AssertionError("nobody polls it")

    async def read(self, book: int, number: int) -> ToldReadings:
        if self._packed:
            return ToldReadings((self._packed[number % PACKED],), 1, number + 1)
        kept = self._book
        kept.turn()
        kept.update(self.name, self._cards.read(time.time()))
        return ToldReadings(tuple(batches(kept.book, kept.since(book, number))), kept.book, kept.number)


async def serve(nodes: int, cards: int, how: str) -> None:
    agents = [MadeUpAgent(number, cards, changes=how == "changes") for number in range(nodes)]
    doors = []
    for agent in agents:
        await agent.door.open("127.0.0.1")
        offer = agent.door.offer
        assert offer is not None
        doors.append([agent.name, offer.host, offer.port, offer.key.hex()])
    print(json.dumps(doors), flush=True)
    await asyncio.to_thread(os.read, sys.stdin.fileno(), 1)
    for agent in agents:
        agent.door.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
