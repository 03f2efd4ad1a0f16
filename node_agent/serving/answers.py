"""What does a caller get for what the model gave? Statuses, media types and bodies, and how many there were of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from node_agent.serving import bodies
from node_agent.serving.batching import Failed, Outcome
from node_agent.serving.model import LoadedModel
from node_agent.serving.wire import Refused
from node_agent.serving.work import Call

EVENTS = "text/event-stream"
OCTETS = "application/octet-stream"


def answer_of(model: LoadedModel, call: Call, outcome: Outcome) -> tuple[int, str, bytes]:
    """Status, media type and body of a call of predict that is over."""
    if isinstance(outcome, Failed):
        return 500, bodies.JSON, Refused(500, f"the model failed: {outcome.message}").body()
    outputs = call.all_outputs() if call.outputs else outcome.outputs
    try:
        if call.form == bodies.BYTES:
            return 200, model.answers, _as_bytes(outputs[0])
        return 200, *bodies.write(outputs, call.form)
    except bodies.BadOutputs as error:
        return 500, bodies.JSON, Refused(500, str(error)).body()


def _as_bytes(output: object) -> bytes:
    if not isinstance(output, bytes | bytearray | memoryview):
        raise bodies.BadOutputs(f"a model that accepts bytes answers bytes, and this one a {type(output).__name__}")
    return bytes(output)


def pieces_of(answer: object, media_type: str, stream: bool) -> tuple[str, bytes] | Iterator[object]:
    """What a method of the model's own answered: a media type and a body, or the pieces of a stream.

    bytes, (bytes, media type), text, an iterator (a generator), or what JSON can carry. `stream`: whatever can be
    iterated over is a stream. Raises bodies.BadOutputs.
    """
    if isinstance(answer, Iterator):
        return cast("Iterator[object]", answer)
    match answer:
        case bytes() | bytearray() | memoryview():
            return media_type, bytes(answer)
        case (bytes() | bytearray() as body, str() as said):
            return said, bytes(body)
        case str():
            return "text/plain; charset=utf-8", answer.encode()
        case _:
            if stream and hasattr(answer, "__iter__") and not isinstance(answer, dict):
                return cast("Iterator[object]", iter(answer))
            return bodies.JSON, bodies.write_json(answer)


def piece_of(piece: object) -> tuple[str, bytes]:
    """One piece of a stream: bytes as they are; text and what JSON can carry as an event (HTML standard, section
    9.2, "Server-sent events"). Raises bodies.BadOutputs."""
    if isinstance(piece, bytes | bytearray | memoryview):
        return OCTETS, bytes(piece)
    text = piece if isinstance(piece, str) else bodies.write_json(piece).decode()
    return EVENTS, ("".join(f"data: {line}\n" for line in text.split("\n")) + "\n").encode()


def error_event(message: str) -> bytes:
    return b"event: error\ndata: " + bodies.write_json({"error": {"message": message}}) + b"\n\n"


class Counts:
    """Since the replica started. `largest_batch` and `inputs` count inputs; `predict_s` is all batches together."""

    def __init__(self) -> None:
        self.requests = 0
        self.batches = 0
        self.inputs = 0
        self.failed_calls = 0
        self.largest_batch = 0
        self.predict_s = 0.0
        self._answers: dict[int, int] = {}

    def answered(self, status: int) -> None:
        self._answers[status] = self._answers.get(status, 0) + 1
        if status == 500:
            self.failed_calls += 1

    def batch(self, size: int, seconds: float) -> None:
        self.batches += 1
        self.inputs += size
        self.predict_s += seconds
        self.largest_batch = max(self.largest_batch, size)

    def to_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "answers": {str(status): count for status, count in sorted(self._answers.items())},
            "batches": self.batches,
            "inputs": self.inputs,
            "failed_calls": self.failed_calls,
            "largest_batch": self.largest_batch,
            "predict_s": round(self.predict_s, 6),
        }
