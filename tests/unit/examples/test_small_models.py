"""The two models that measure serving."""

from __future__ import annotations

import numpy as np
import pytest

from examples.serve_mlp import Mlp
from examples.serve_noop import Noop


def test_the_noop_answers_each_input_with_itself() -> None:
    assert Noop().predict([1, "two", None]) == [1, "two", None]


def test_the_mlp_gives_the_same_answer_alone_and_in_company() -> None:
    first, second = Mlp(), Mlp()
    first.load()
    second.load()
    rows = np.random.default_rng(1).standard_normal((3, 512)).tolist()
    together = first.predict(rows)
    assert together.shape == (3, 128)
    alone = np.concatenate([second.predict([row]) for row in rows])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [[[1.0] * 511], [1.0], [[[0.0]]]])
def test_the_mlp_says_what_an_input_is(batch: list[object]) -> None:
    model = Mlp()
    model.load()
    with pytest.raises(ValueError, match="512 numbers"):
        model.predict(batch)
