"""Where does a replica's model come from, and what can it do? A tenant's class in a tenant's file.

class Model:
    def load(self) -> None: ...                        # optional: read weights, move them to the device
    def predict(self, batch: list) -> list: ...        # one output an input
    def warm_up_inputs(self) -> list: ...              # optional: predicted once before the replica is ready
    def predict_raw(self, body: bytes, content_type: str) -> bytes: ...   # optional: bodies that are not inputs
    def stream(self, request) -> Iterator: ...         # optional: POST /stream, answered piece by piece
    accepts = "bytes"                                  # optional: each body is one input, untouched
    answers = "image/png"                              # optional: the media type of outputs that are bytes
    batching = {"max": 32, "max_wait": 0.005}          # optional, seconds; the job file's word counts more
    routes = {"/v1/embed": "embed"}                    # optional: POST to a path calls a method with the request

docs/serving-models.md is the page for whoever writes one.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node_agent.serving.batching import Failed, Predict, one_line, run_batch

OCTETS = "application/octet-stream"


class ModelUnusable(Exception):
    """The model cannot be served; the message names the file, the class and what to do."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a method other than predict is given. `json()` raises bodies.BadBody, a ValueError: left alone, it becomes
    an answer of 400."""

    path: str
    body: bytes
    content_type: str

    def json(self) -> Any:
        from node_agent.serving.bodies import BadBody, parse_json

        try:
            return parse_json(self.body)
        except ValueError as error:
            raise BadBody(f"the body is not JSON: {one_line(error)}") from error


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What the class offers. `batching` is its own word on batches: `max` and `max_wait` (seconds).

    `predict` None: a model that has only predict_raw, stream or routes. `load_s` is what load and warm-up took.
    """

    name: str
    predict: Predict | None
    raw: Callable[[bytes, str], object] | None = None
    stream: Callable[[Request], object] | None = None
    routes: Mapping[str, Callable[[Request], object]] = field(default_factory=dict)
    takes_bytes: bool = False
    answers: str = OCTETS
    batching: Mapping[str, float] = field(default_factory=dict)
    load_s: float = 0.0

    @property
    def resend_safe(self) -> bool:
        """Whether every request may be made twice. Of predict it is asked, of methods of the model's own not known."""
        return self.raw is None and self.stream is None and not self.routes


def find_class(path: Path, class_name: str) -> type:
    """Import the file and take its class. Raises ModelUnusable.

    As for a script, the file's own directory comes first on the import path, so that it can import its neighbours.
    """
    path = path.resolve()
    if not path.is_file():
        raise ModelUnusable(f"model file {path} does not exist on this node")
    # Weights and dataclasses look their module up by name; a model in json.py must not take the real one's place.
    name = path.stem if path.stem not in sys.modules else f"model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelUnusable(f"model file {path} is not a Python file (*.py)")
    sys.path.insert(0, str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ModelUnusable(f"importing {path} failed: {one_line(error)}") from error
    made = getattr(module, class_name, None)
    if not isinstance(made, type):
        raise ModelUnusable(f"{path} has no class {class_name}")
    if not any(callable(getattr(made, each, None)) for each in ("predict", "predict_raw", "stream")) and not hasattr(
        made, "routes"
    ):
        raise ModelUnusable(f"class {class_name} in {path} has no predict(batch), predict_raw, stream or routes")
    return made


def load_model(model_class: type) -> LoadedModel:
    """Make the class, load() it and warm it up. Raises ModelUnusable. To be called in the thread that will predict."""
    name = model_class.__name__
    began_s = time.perf_counter()
    try:
        model = model_class()
        if callable(load := getattr(model, "load", None)):
            load()
        warm_up = list(model.warm_up_inputs()) if hasattr(model, "warm_up_inputs") else []
    except (Exception, SystemExit) as error:
        raise ModelUnusable(f"loading {name} failed: {one_line(error)}") from error
    predict: Predict | None = getattr(model, "predict", None)
    if warm_up and predict is not None:
        (outcome,) = run_batch(predict, [warm_up])
        if isinstance(outcome, Failed):
            raise ModelUnusable(f"warming up {name} failed: {outcome.message}")
    accepts = getattr(model, "accepts", None)
    if accepts not in (None, "bytes"):
        raise ModelUnusable(f"{name}.accepts is {accepts!r}; it may be 'bytes', or left out")
    return LoadedModel(
        name=name,
        predict=predict,
        raw=getattr(model, "predict_raw", None),
        stream=getattr(model, "stream", None),
        routes=_routes(name, model),
        takes_bytes=accepts == "bytes",
        answers=_media_type(name, getattr(model, "answers", OCTETS)),
        batching=_batching(name, getattr(model, "batching", {})),
        load_s=time.perf_counter() - began_s,
    )


def _routes(name: str, model: object) -> dict[str, Callable[[Request], object]]:
    routes = getattr(model, "routes", {})
    if not isinstance(routes, Mapping):
        raise ModelUnusable(f'{name}.routes must be like {{"/v1/embed": "embed"}}: paths and names of methods')
    found: dict[str, Callable[[Request], object]] = {}
    for path, method in routes.items():
        called = getattr(model, method, None) if isinstance(method, str) else None
        if not isinstance(path, str) or not path.startswith("/") or path.startswith("/-/") or not callable(called):
            raise ModelUnusable(
                f"{name}.routes: {path!r}: {method!r} is not a path (not /-/...) and a method of {name}"
            )
        found[path] = called
    return found


def _media_type(name: str, said: object) -> str:
    if not isinstance(said, str) or not said.isascii() or any(ord(each) < 32 for each in said):
        raise ModelUnusable(f"{name}.answers is {said!r}; it must be a media type such as image/png")
    return said


def _batching(name: str, said: object) -> dict[str, float]:
    words = f'{name}.batching must be like {{"max": 32, "max_wait": 0.005}}, max_wait in seconds'
    if not isinstance(said, Mapping) or not said.keys() <= {"max", "max_wait"}:
        raise ModelUnusable(words)
    for value in said.values():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
            raise ModelUnusable(words)
    if "max" in said and (said["max"] != int(said["max"]) or said["max"] < 1):
        raise ModelUnusable(words)
    return {key: float(value) for key, value in said.items()}
