"""A server in the style of OpenAI's chat completions, with nothing but the standard library: for jobs that serve by a
`command:`, as vLLM, Triton or any container's HTTP server would.

    GET  /health                 200 once it has "loaded" (--load-s seconds after its start), 503 before
    GET  /v1/models              the one model that it has
    POST /v1/chat/completions    {"model", "messages": [...], "stream": bool, "max_tokens": n}

It repeats the last message, a word a token. With `stream: true` the answer is server-sent events, ended by
`data: [DONE]`. It listens on SUANLI_BIND_HOST and SUANLI_PORT. configs/jobs/openai-style.yaml is a job file for it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "parrot"
MOST_TOKENS = 256
BODY_BYTES = 1 << 20


def words_of(asked: object) -> list[str]:
    """The tokens of the answer. Raises ValueError, whose text the caller reads."""
    if not isinstance(asked, dict) or not isinstance(asked.get("messages"), list) or not asked["messages"]:
        raise ValueError("messages must be a list with at least one message")
    last = asked["messages"][-1]
    if not isinstance(last, dict) or not isinstance(last.get("content"), str):
        raise ValueError('a message is {"role": ..., "content": text}')
    most = asked.get("max_tokens", MOST_TOKENS)
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MOST_TOKENS:
        raise ValueError(f"max_tokens must be a whole number from 1 to {MOST_TOKENS}")
    words = last["content"].split()[:most]
    return [word if index == 0 else f" {word}" for index, word in enumerate(words)]


class Chat(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    ready_at_s = 0.0

    def do_GET(self) -> None:
        if self.path == "/health":
            self._answer(200 if time.monotonic() >= self.ready_at_s else 503, {})
        elif self.path == "/v1/models":
            self._answer(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        else:
            self._refuse(404, f"no {self.path} here")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > BODY_BYTES:
            self.close_connection = True
            self._refuse(413, f"a body of at most {BODY_BYTES} bytes is taken")
            return
        body = self.rfile.read(int(length))
        if self.path != "/v1/chat/completions":
            self._refuse(404, f"no {self.path} here")
            return
        try:
            asked = json.loads(body)
            words = words_of(asked)
        except ValueError as error:
            self._refuse(400, str(error))
            return
        if asked.get("stream"):
            self._stream(words)
        else:
            message = {"role": "assistant", "content": "".join(words)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._answer(200, {"object": "chat.completion", "model": MODEL, "choices": [choice]})

    def _stream(self, words: Sequence[str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in words:
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            self._piece(json.dumps({"object": "chat.completion.chunk", "model": MODEL, "choices": [choice]}))
        self._piece("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _piece(self, text: str) -> None:
        event = f"data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

    def _answer(self, status: int, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, message: str) -> None:
        self._answer(status, {"error": {"message": message, "type": "invalid_request_error"}})

    def log_message(self, format: str, *args: object) -> None:
        """A line for each request helps nobody here."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Chat completions that repeat what was said.")
    parser.add_argument("--load-s", type=float, default=0.0, help="seconds until it is ready")
    options = parser.parse_args(argv)
    Chat.ready_at_s = time.monotonic() + options.load_s
    where = (os.environ.get("SUANLI_BIND_HOST") or "127.0.0.1", int(os.environ.get("SUANLI_PORT") or 8000))
    with ThreadingHTTPServer(where, Chat) as server:
        print(f"serving {MODEL} on {where[0]}:{where[1]}", flush=True)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
