"""What is in a body? Inputs in three forms, and outputs in the form of the question.

    application/json            {"inputs": [...]}           -> {"outputs": [...]}
    application/x-npy           an array in NumPy's format  -> likewise; its first axis counts inputs
    application/x-tensor;dtype=float32;shape=2,512          -> likewise; raw values, row by row, little-endian
    anything else is JSON, as long as the model does not ask for bytes

The NumPy format is numpy.lib.format, version 1 to 3, without pickled objects: those would be somebody else's code.
orjson is used where it is installed; without it json does the same, slower.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from node_agent.serving.batching import one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _quick_json() -> Any:
    """orjson, or None in an interpreter of a tenant's own that has none."""
    try:
        import orjson
    except ImportError:
        return None
    return orjson


_quick = _quick_json()

JSON = "application/json"
NPY = "application/x-npy"
TENSOR = "application/x-tensor"
BYTES = "bytes"  # untouched, for a model that asks for it
# Of fixed size, and alike on all machines. Objects, texts and times are not tensors.
DTYPES = frozenset(
    ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
)
MAX_AXES = 32


class BadBody(ValueError):
    """The caller's fault; the message says what was expected."""


class BadOutputs(Exception):
    """The model's fault: its outputs cannot be written in the form that was asked for."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """`form` is one of JSON, NPY and TENSOR, and says how to write the outputs."""

    inputs: list[object]
    form: str = JSON


def parse_json(body: bytes) -> Any:
    """Raises ValueError."""
    if _quick is not None:
        return _quick.loads(body)
    try:
        return json.loads(body)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def is_inputs(content_type: str) -> bool:
    """Whether a body of this type is for predict, where the model takes raw bodies too."""
    return content_type.partition(";")[0].strip().lower() in (JSON, NPY, TENSOR, "")


def parse(body: bytes, content_type: str) -> Parsed:
    """Raises BadBody."""
    media, _, parameters = content_type.partition(";")
    match media.strip().lower():
        case "application/x-npy":
            return Parsed(list(_rows(_from_npy(body))), NPY)
        case "application/x-tensor":
            return Parsed(list(_rows(_from_tensor(body, parameters))), TENSOR)
        case _:
            return Parsed(_from_json(body))


def write(outputs: list[object], form: str) -> tuple[str, bytes]:
    """The media type and the body. Raises BadOutputs."""
    match form:
        case "application/x-npy":
            return NPY, _to_npy(outputs)
        case "application/x-tensor":
            array = _stacked(outputs)
            shape = ",".join(map(str, array.shape))
            return f"{TENSOR}; dtype={array.dtype.name}; shape={shape}", array.tobytes()
        case _:
            return JSON, write_json({"outputs": outputs})


# ---- JSON ------------------------------------------------------------------------------------------------------------


def _from_json(body: bytes) -> list[object]:
    try:
        parsed = parse_json(body)
    except ValueError as error:
        raise BadBody(f"the body is not JSON: {one_line(error)}") from error
    if not isinstance(parsed, dict) or not isinstance(parsed.get("inputs"), list):
        raise BadBody('the body must be {"inputs": [...]}')
    inputs: list[object] = parsed["inputs"]
    return inputs


def write_json(value: object) -> bytes:
    """Raises BadOutputs."""
    if _quick is not None:
        try:
            as_json_does = _quick.OPT_PASSTHROUGH_DATACLASS | _quick.OPT_PASSTHROUGH_DATETIME
            text: bytes = _quick.dumps(value, default=_plain, option=_quick.OPT_SERIALIZE_NUMPY | as_json_does)
            if b"null" not in text:  # as which it writes what is no number, and json refuses
                return text
        except TypeError:
            pass  # json may be able to, or says it better
    try:
        return json.dumps(value, default=_plain, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadOutputs(f"the model's outputs cannot be written as JSON: {one_line(error)}") from error


def _plain(value: object) -> object:
    """Arrays and tensors as lists: what json cannot write by itself but says how to."""
    to_list: Callable[[], object] | None = getattr(value, "tolist", None)
    if callable(to_list):
        return to_list()
    raise TypeError(f"an output holds a {type(value).__name__}, which JSON cannot carry")


# ---- arrays ----------------------------------------------------------------------------------------------------------


def _from_npy(body: bytes) -> NDArray[Any]:
    import numpy as np

    file = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, in_columns, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, in_columns, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"version {version} of the format is not read here; write 1.0 or 2.0")
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are not taken")
        # Checked before anything of that size is made: a header of a few bytes may promise any size.
        if any(axis < 0 for axis in shape) or math.prod(shape) * dtype.itemsize != len(body) - file.tell():
            raise ValueError(f"shape {shape} of {dtype} does not fit the {len(body) - file.tell()} bytes that follow")
        array = np.frombuffer(body, dtype, offset=file.tell())
        return array.reshape(shape, order="F" if in_columns else "C")
    except (ValueError, TypeError, SyntaxError, EOFError, OverflowError) as error:
        raise BadBody(f"the body is not an array in NumPy's format: {one_line(error)}") from error


def _from_tensor(body: bytes, parameters: str) -> NDArray[Any]:
    import numpy as np

    said = {
        key.strip().lower(): value.strip(" \"'") for key, _, value in (p.partition("=") for p in parameters.split(";"))
    }
    words = f"the content type must be like {TENSOR}; dtype=float32; shape=2,512"
    dtype, axes = said.get("dtype", ""), said.get("shape", "").split(",")
    if dtype not in DTYPES:
        raise BadBody(f"{words}; dtype is one of {', '.join(sorted(DTYPES))}")
    if len(axes) > MAX_AXES or not all(axis.isascii() and axis.isdecimal() and len(axis) < 12 for axis in axes):
        raise BadBody(words)
    shape = tuple(map(int, axes))
    values = np.dtype(dtype).newbyteorder("<")
    if math.prod(shape) * values.itemsize != len(body):
        raise BadBody(f"shape {axes} of {dtype} needs {math.prod(shape) * values.itemsize} bytes; {len(body)} came")
    return np.frombuffer(body, values).reshape(shape)


def _rows(array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim == 0:
        raise BadBody("an array of inputs has at least one axis, the first of which counts them")
    return array


def _to_npy(outputs: list[object]) -> bytes:
    import numpy as np

    file = io.BytesIO()
    np.lib.format.write_array(file, _stacked(outputs), allow_pickle=False)
    return file.getvalue()


def _stacked(outputs: list[object]) -> NDArray[Any]:
    """Outputs of one shape, one behind another: arrays, numbers, lists of them, or tensors in the host's memory."""
    import numpy as np

    try:
        array: np.ndarray[Any, Any] = np.stack([np.asarray(each) for each in outputs]) if outputs else np.empty(0)
    except (ValueError, TypeError, RuntimeError) as error:
        raise BadOutputs(f"the model's outputs do not make one array: {one_line(error)}") from error
    if array.dtype.name not in DTYPES:
        raise BadOutputs(f"the model's outputs are {array.dtype}, and an array of numbers was asked for")
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
