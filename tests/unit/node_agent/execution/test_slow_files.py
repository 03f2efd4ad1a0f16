"""A file system that does not answer holds up nobody who does not ask it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from node_agent.execution.slow_files import SlowFiles


def test_answers_errors_and_silence() -> None:
    never = threading.Event()

    async def scene() -> None:
        slow = SlowFiles(places=2)
        assert await slow.ask(lambda: 5, 10.0) == 5
        with pytest.raises(ValueError, match="invalid literal"):
            await slow.ask(lambda: int("x"), 10.0)
        for _ in range(3):  # the third finds no place, and is told so in time too
            with pytest.raises(TimeoutError):
                await slow.ask(never.wait, 0.05)
        never.set()
        assert await slow.ask(lambda: 6, 10.0) == 6

    try:
        asyncio.run(scene())
    finally:
        never.set()
