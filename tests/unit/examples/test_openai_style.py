"""The example of a service that is any HTTP server: asked as an OpenAI client asks, and as its node asks."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.openai_style import words_of
from node_agent.execution.ports import free_port
from node_agent.messages import ProbeSpec
from node_agent.watching import ask
from tests.fakes.processes import eventually

SCRIPT = Path(__file__).parents[3] / "examples" / "openai_style.py"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    chosen = free_port("127.0.0.1")
    environment = {**os.environ, "SUANLI_PORT": str(chosen)}
    process = subprocess.Popen([sys.executable, str(SCRIPT)], env=environment, stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: _health(chosen) == "", "a server that says that it is well")
        yield chosen
    finally:
        process.terminate()
        process.wait(10)


def _health(port: int) -> str:
    return asyncio.run(ask("127.0.0.1", port, ProbeSpec("/health"), 2.0))


def chat(port: int, asked: object, path: str = "/v1/chat/completions") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", path, json.dumps(asked))
    response = connection.getresponse()
    told = response.read()
    connection.close()
    return response.status, told


MESSAGES = [{"role": "user", "content": "three small words"}]


def test_a_completion(port: int) -> None:
    status, told = chat(port, {"model": "parrot", "messages": MESSAGES})
    assert status == 200
    assert json.loads(told)["choices"][0]["message"]["content"] == "three small words"


def test_a_completion_as_a_stream(port: int) -> None:
    status, told = chat(port, {"messages": MESSAGES, "stream": True, "max_tokens": 2})
    events = [line[6:] for line in told.decode().split("\n\n") if line]
    assert (status, events[-1]) == (200, "[DONE]")
    assert [json.loads(each)["choices"][0]["delta"]["content"] for each in events[:-1]] == ["three", " small"]


@pytest.mark.parametrize(
    "asked", [[], {}, {"messages": []}, {"messages": [1]}, {"messages": MESSAGES, "max_tokens": 0}]
)
def test_what_is_wrong_is_said(port: int, asked: object) -> None:
    status, told = chat(port, asked)
    assert (status, "message" in json.loads(told)["error"]) == (400, True)
    assert chat(port, {}, "/v1/else")[0] == 404


def test_tokens_are_words() -> None:
    assert words_of({"messages": [{"role": "user", "content": ""}]}) == []
