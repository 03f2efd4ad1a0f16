"""Where does a replica's model come from? A tenant's class in a tenant's file, loaded into this process.

class Model:
    def load(self) -> None: ...                      # optional: read weights, move them to the device
    def predict(self, batch: list) -> list: ...      # one output an input
    def warm_up_inputs(self) -> list: ...            # optional: predicted once before the replica is ready
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from node_agent.serving.batching import Failed, Predict, one_line, run_batch


class ModelUnusable(Exception):
    """The model cannot be served; the message names the file, the class and what to do."""


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
    if not callable(getattr(made, "predict", None)):
        raise ModelUnusable(f"class {class_name} in {path} has no predict(batch)")
    return made


def load_model(model_class: type) -> Predict:
    """Make the class, load() it and warm it up. Raises ModelUnusable. To be called in the thread that will predict."""
    name = model_class.__name__
    try:
        model = model_class()
        if callable(load := getattr(model, "load", None)):
            load()
        warm_up = list(model.warm_up_inputs()) if hasattr(model, "warm_up_inputs") else []
    except (Exception, SystemExit) as error:
        raise ModelUnusable(f"loading {name} failed: {one_line(error)}") from error
    predict: Predict = model.predict
    if warm_up:
        (outcome,) = run_batch(predict, [warm_up])
        if isinstance(outcome, Failed):
            raise ModelUnusable(f"warming up {name} failed: {outcome.message}")
    return predict
