"""How do loads travel? {"number", "loads": [ports.ServiceLoad as an object]}, parsed strictly."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from scheduler.errors import BadInput
from scheduler.ports import ServiceLoad

_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
}
_FIELDS = {field.name: _KINDS[str(field.type)] for field in fields(ServiceLoad)}


def loads_from_json(text: bytes) -> tuple[int, tuple[ServiceLoad, ...]]:
    """The number of the report, and what it says. Raises BadInput."""
    try:
        report = json.loads(text)
        number, loads = report["number"], report["loads"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise BadInput("what the gateway said of its loads is not understood") from error
    if not isinstance(number, int) or not isinstance(loads, list):
        raise BadInput("what the gateway said of its loads is not understood")
    return number, tuple(_load(one) for one in loads)


def _load(value: Any) -> ServiceLoad:
    if not isinstance(value, dict):
        raise BadInput("a load is not an object")
    for name, kinds in _FIELDS.items():
        held = value.get(name)
        if not isinstance(held, kinds) or isinstance(held, bool):
            raise BadInput(f"{name} of a load has the wrong type ({type(held).__name__})", field=name)
    return ServiceLoad(**{name: value[name] for name in _FIELDS})
