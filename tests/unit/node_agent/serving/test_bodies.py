"""Inputs in three forms, outputs in the form of the question, and what is wrong with a body."""

from __future__ import annotations

import io
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from node_agent.serving import bodies
from node_agent.serving.bodies import BadBody, BadOutputs, parse, write


def npy(array: np.ndarray, **options: bool) -> bytes:  # type: ignore[type-arg]
    file = io.BytesIO()
    np.save(file, array, **options)  # type: ignore[call-overload]
    return file.getvalue()


NUMBERS = arrays.arrays(
    st.sampled_from([np.dtype("float32"), np.dtype("int64"), np.dtype("uint8"), np.dtype(">f8")]),
    arrays.array_shapes(max_dims=3, max_side=5),
    elements={"min_value": 0, "max_value": 100},
)


@given(NUMBERS)
def test_arrays_come_back_as_they_went_in_numpys_format(array: np.ndarray) -> None:  # type: ignore[type-arg]
    parsed = parse(npy(array), "application/x-npy")
    assert len(parsed.inputs) == len(array)
    media_type, body = write(parsed.inputs, parsed.form)
    back = np.load(io.BytesIO(body), allow_pickle=False)
    assert media_type == "application/x-npy"
    np.testing.assert_array_equal(back, array)


@given(NUMBERS)
def test_and_as_raw_tensors(array: np.ndarray) -> None:  # type: ignore[type-arg]
    little = array.astype(array.dtype.newbyteorder("<"))
    said = f"application/x-tensor; dtype={little.dtype.name}; shape={','.join(map(str, array.shape))}"
    parsed = parse(little.tobytes(), said)
    media_type, body = write(parsed.inputs, parsed.form)
    assert (media_type, body) == (said, little.tobytes())


def test_an_array_in_columns_is_read_row_by_row() -> None:
    array = np.asfortranarray(np.arange(6).reshape(2, 3))
    assert [row.tolist() for row in parse(npy(array), "application/x-npy").inputs] == [[0, 1, 2], [3, 4, 5]]  # type: ignore[attr-defined]


GOOD = npy(np.zeros((2, 3), "f4"))


@pytest.mark.parametrize(
    ("body", "content_type", "says"),
    [
        (b"", "application/json", "not JSON"),
        (b"[1]", "application/json", 'must be {"inputs"'),
        (b'{"inputs": {}}', "", 'must be {"inputs"'),
        (b"\xff\xfe", "", "not JSON"),
        (GOOD[:-1], "application/x-npy", "does not fit the 23 bytes"),
        (GOOD + b"x", "application/x-npy", "does not fit the 25 bytes"),
        (b"\x93NUMPY", "application/x-npy", "not an array"),
        (b"not at all", "application/x-npy", "not an array"),
        (npy(np.array([{}], object), allow_pickle=True), "application/x-npy", "Python objects"),
        (pickle.dumps([1]), "application/x-npy", "not an array"),
        (GOOD.replace(b"(2, 3)", b"(2, 3" + b"0" * 9 + b")")[: len(GOOD)], "application/x-npy", "not an array"),
        (npy(np.float32(1)), "application/x-npy", "at least one axis"),
        (b"1234", "application/x-tensor", "the content type must be like"),
        (b"1234", "application/x-tensor; dtype=object; shape=1", "dtype is one of"),
        (b"1234", "application/x-tensor; dtype=float32; shape=", "the content type must be like"),
        (b"1234", "application/x-tensor; dtype=float32; shape=-1", "the content type must be like"),
        (b"1234", "application/x-tensor; dtype=float32; shape=1e9", "the content type must be like"),
        (b"1234", "application/x-tensor; dtype=float32; shape=99999999999", "needs 399999999996 bytes; 4 came"),
        (b"1234", "application/x-tensor; dtype=float32; shape=" + ",".join(["1"] * 33), "the content type must be"),
    ],
)
def test_a_bad_body_says_what_was_expected(body: bytes, content_type: str, says: str) -> None:
    with pytest.raises(BadBody, match=says.replace("(", r"\(").replace("{", r"\{")):
        parse(body, content_type)


@pytest.mark.parametrize(
    ("outputs", "form", "says"),
    [
        ([float("nan")], bodies.JSON, "cannot be written as JSON"),
        ([np.array([1.0, np.inf])], bodies.JSON, "cannot be written as JSON"),
        ([{1}], bodies.JSON, "holds a set"),
        ([[1], [1, 2]], bodies.NPY, "do not make one array"),
        (["text"], bodies.TENSOR, "an array of numbers"),
        ([{}], bodies.NPY, "an array of numbers"),
    ],
)
def test_outputs_that_cannot_be_written_say_so(outputs: list[object], form: str, says: str) -> None:
    with pytest.raises(BadOutputs, match=says):
        write(outputs, form)


def test_json_carries_arrays_none_and_large_numbers() -> None:
    body = write([np.arange(3), None, 2**80, {"a": [True]}], bodies.JSON)[1]
    assert json.loads(body) == {"outputs": [[0, 1, 2], None, 2**80, {"a": [True]}]}


def test_without_orjson_json_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_quick", None)
    assert write([np.arange(3), None], bodies.JSON)[1] == b'{"outputs": [[0, 1, 2], null]}'
    assert parse(b'{"inputs": [1]}', "").inputs == [1]
    with pytest.raises(BadBody, match="nested too deep"):
        parse(b"[" * 100_000, "")
