"""What does a replica take up, and what does it answer at once?

    POST /predict     inputs in one of three forms (bodies.py)  -> outputs, likewise
    POST /stream      to model.stream                           -> its pieces as they come: SSE, or bytes, chunked
    POST what the model's `routes` names                        -> what its method answers
    GET  /-/ready     200 {"ready": true}, 503 once it is stopping
    GET  /-/health    200 {"ok": true, ...}, 503 when the model has not come back for longer than it may
    GET  /-/stats     200 counts, as JSON

Errors are {"error": {"message": ...}}: 400 a body that is not what was asked for, 403 without the gateway's secret,
404, 405, 408, 413 a body over the limit, 500 the model failed (one line, never a stack trace), 503 too many waiting or
stopping, 504 the request's deadline (X-Suanli-Timeout-Ms) passed while it waited.

What a model with nothing but predict answers carries `X-Suanli-Resend: safe`: predict may be asked twice (batches are
retried call by call), so the gateway may send a request again to another replica when this one dies before it answers.
"""

from __future__ import annotations

import hmac
import time

from node_agent.serving import bodies
from node_agent.serving.answers import Counts, answer_of
from node_agent.serving.batching import Answered
from node_agent.serving.model import LoadedModel, Request
from node_agent.serving.wire import Connection, HttpRequest, Refused
from node_agent.serving.work import Call, Line, Task

Answer = tuple[int, str, bytes]  # status, media type, body


class Doors:
    """Puts requests for the model in `line`. `secret` None: everybody may ask."""

    def __init__(self, model: LoadedModel, secret: str | None, stuck_s: float, line: Line, counts: Counts) -> None:
        self._model = model
        self._secret = None if secret is None else secret.encode()
        self._stuck_s = stuck_s
        self._line = line
        self._counts = counts
        both = ["/predict"] * (model.predict is not None or model.raw is not None)
        self._paths = ", ".join([*both, *["/stream"] * (model.stream is not None), *model.routes])

    def take_up(self, connection: Connection, request: HttpRequest, stopping: bool, busy_s: float) -> Answer | None:
        """The answer; None: it is in line. `busy_s`: for how long the model has been at its turn. Raises Refused."""
        if request.refused is not None:
            raise request.refused
        if self._secret is not None and not hmac.compare_digest(request.secret, self._secret):
            raise Refused(403, "X-Suanli-Replica-Secret is missing or wrong: ask through the gateway")
        model, path = self._model, request.path
        if path.startswith("/-/"):
            return self._own_door(request, stopping, busy_s)
        method = model.routes.get(path)
        if method is None and path == "/stream":
            method = model.stream
        if method is not None:
            _require_post(request)
            run, asked = method, Request(path, request.body, request.content_type)
            self._line.add_task(Task(connection, lambda: run(asked), stream=path == "/stream"))
            return None
        if path != "/predict" or (model.predict is None and model.raw is None):
            raise Refused(404, f"no {path[:100]} here; this model answers POST {self._paths}")
        _require_post(request)
        return self._predict(connection, request)

    def _predict(self, connection: Connection, request: HttpRequest) -> Answer | None:
        model, media_type = self._model, request.content_type
        raw, body = model.raw, request.body
        if raw is not None and (model.predict is None or not bodies.is_inputs(media_type)):
            self._line.add_task(Task(connection, lambda: raw(body, media_type), stream=False))
            return None
        if model.takes_bytes:
            parsed = bodies.Parsed([body], bodies.BYTES)
        else:
            try:
                parsed = bodies.parse(body, media_type)
            except bodies.BadBody as error:
                raise Refused(400, str(error)) from error
        form = bodies.JSON if b"application/json" in request.accept and not model.takes_bytes else parsed.form
        call = Call(connection, parsed.inputs, form, time.monotonic(), request.deadline_s, request.priority)
        if not parsed.inputs:
            return answer_of(model, call, Answered([]))
        self._line.add_call(call)
        return None

    def _own_door(self, request: HttpRequest, stopping: bool, busy_s: float) -> Answer:
        if request.path not in ("/-/ready", "/-/health", "/-/stats"):
            raise Refused(404, f"no {request.path[:100]} here")
        if request.method not in (b"GET", b"HEAD"):
            raise Refused(405, "use GET")
        told: object
        match request.path:
            case "/-/ready":
                if stopping:
                    raise Refused(503, "this replica is stopping")
                told = {"ready": True}
            case "/-/health":
                if busy_s > self._stuck_s:
                    raise Refused(503, f"the model has not come back for {busy_s:.1f} s")
                told = {"ok": True, "busy_s": round(busy_s, 3)}
            case _:
                told = self._stats()
        return 200, bodies.JSON, bodies.write_json(told)

    def _stats(self) -> dict[str, object]:
        """Counts since the start; `answers` by HTTP status, `predict_s` all batches together, `load_s` as it began."""
        return {
            **self._counts.to_json(),
            "waiting": self._line.waiting,
            "streams": len(self._line.streams),
            "batch_limit": self._line.law.limit,
            "load_s": round(self._model.load_s, 4),
        }


def _require_post(request: HttpRequest) -> None:
    if request.method != b"POST":
        raise Refused(405, "use POST")
