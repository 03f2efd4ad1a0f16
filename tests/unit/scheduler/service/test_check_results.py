"""What a check has left: whatever it is, it is read or says why not, and speaks of its own devices alone."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.device_checks import Came, Part
from scheduler.service.check_results import read_result

jsons = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.sampled_from(["right", "wrong", "a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["check", "devices", "links", "between", "came", "rate", "why", "a", "b", "products", "memory"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


def test_a_result_is_read() -> None:
    said = {
        "check": 1,
        "devices": {
            "a": {
                "products": {"came": "right", "rate": 7, "unit": "TFLOP/s"},
                "memory": {"came": "not run", "why": "x"},
            },
            "other": {"products": {"came": "wrong"}},
        },
        "links": [
            {"between": ["a", "b"], "came": "right", "rate": 20.0, "unit": "GB/s"},
            {"between": ["b", "a"], "came": "wrong", "why": "changed"},
        ],
    }
    found = read_result(json.dumps(said), ["a", "b"]).parts
    assert {uuid: {each.part: each.came for each in parts} for uuid, parts in found.items()} == {
        "a": {Part.PRODUCTS: Came.RIGHT, Part.MEMORY: Came.NOT_RUN, Part.LINKS: Came.WRONG},
        "b": {Part.LINKS: Came.WRONG},
    }


def test_of_several_links_the_slowest_stands_for_all() -> None:
    links = [{"between": ["a", "b"], "came": "right", "rate": rate} for rate in (20.0, 5.0, 9.0)]
    found = read_result(json.dumps({"check": 1, "links": links}), ["a", "b"]).parts
    assert [each.rate for each in found["a"]] == [5.0]


@given(
    st.one_of(st.text(max_size=50), jsons.map(json.dumps), jsons.map(lambda j: json.dumps({"check": 1, "devices": j})))
)
def test_anything_is_a_result_or_says_why_not(text: str) -> None:
    found = read_result(text, ["a", "b"])
    assert set(found.parts) <= {"a", "b"}
    assert found.trouble or found.parts is not None


@given(st.sampled_from(["NaN", "Infinity", "-1", "0", "true", '"7"', "null", "[]"]))
def test_a_rate_that_cannot_be_is_none(rate: str) -> None:
    text = '{"check": 1, "devices": {"a": {"products": {"came": "right", "rate": RATE}}}}'.replace("RATE", rate)
    (part,) = read_result(text, ["a"]).parts["a"]
    assert part.rate is None


def test_long_words_are_cut() -> None:
    said: Any = {"check": 1, "devices": {"a": {"memory": {"came": "wrong", "why": "x\n" * 10_000}}}}
    (part,) = read_result(json.dumps(said), ["a"]).parts["a"]
    assert len(part.why) <= 300
    assert "\n" not in part.why
