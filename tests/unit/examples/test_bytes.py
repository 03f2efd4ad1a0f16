"""The byte-level transformer: it learns, stops and goes on as one gang, and what it learnt can be served."""

from __future__ import annotations

import math
import shutil
import signal
from pathlib import Path

import pytest
import torch

from examples.byte_transformer import ByteTransformer, FlatParameters, Shape, TrainingState
from examples.serve_bytes import ByteModel, newest_checkpoint
from node_agent.checkpointing import Checkpoints
from tests.unit.examples.conftest import Runs


@pytest.fixture
def model() -> ByteTransformer:
    torch.manual_seed(1)
    return ByteTransformer()


def test_the_model_is_small_and_knows_nothing_at_first(model: ByteTransformer) -> None:
    assert 100_000 <= sum(p.numel() for p in model.parameters()) <= 200_000
    tokens = torch.randint(0, 256, (8, 65))
    assert model.loss(tokens).item() == pytest.approx(math.log(256), abs=0.1)


def test_no_byte_sees_those_after_it(model: ByteTransformer) -> None:
    tokens = torch.randint(0, 256, (1, 20))
    changed = tokens.clone()
    changed[0, 10:] = 7
    assert torch.equal(model(tokens)[0, :10], model(changed)[0, :10])


def test_adam_is_that_of_the_paper() -> None:
    """Element by element, in Python's own numbers (importing torch.optim for a reference takes seconds)."""
    torch.manual_seed(1)
    layer = torch.nn.Linear(3, 2)
    flat = FlatParameters(layer)
    values, first, second = flat.values.tolist(), [0.0] * 8, [0.0] * 8
    for step in range(1, 5):
        flat.gradients.copy_(torch.randn(8))
        for at, gradient in enumerate(flat.gradients.tolist()):
            first[at] = 0.9 * first[at] + 0.1 * gradient
            second[at] = 0.95 * second[at] + 0.05 * gradient**2
            corrected = first[at] / (1 - 0.9**step), second[at] / (1 - 0.95**step)
            values[at] -= 3e-3 * corrected[0] / (math.sqrt(corrected[1]) + 1e-8)
        flat.adam(step, 3e-3)
    assert [*layer.weight.flatten().tolist(), *layer.bias.tolist()] == pytest.approx(values, rel=1e-5)


def test_training_lowers_the_loss_and_a_resumed_run_ends_where_an_unbroken_one_does(runs: Runs) -> None:
    train = ("-m", "examples.train_bytes", "--checkpoint-every", "8", "--steps", "12")
    (whole,) = runs.attempt(1, *train)
    assert whole.end() == 0
    assert "step 10 loss " in " ".join(whole.lines)
    assert whole.result["first_loss"] > 5
    assert whole.result["last_loss"] < whole.result["first_loss"] - 1
    assert (whole.result["steps"], whole.result["resumed_from_step"]) == (12, 0)

    shutil.rmtree(runs.checkpoint_dir(1) / "step-0000000012")  # as if it had been killed before
    (rest,) = runs.attempt(2, *train, resume_from=1)
    assert rest.end() == 0
    assert rest.result == whole.result | {"resumed_from_step": 8}


def test_a_request_to_one_worker_stops_the_gang_after_one_step(runs: Runs) -> None:
    """Asked are, as a scheduler does, both: but the second only when the first has already stopped the gang."""
    train = ("-m", "examples.train_bytes", "--steps", "900", "--checkpoint-every", "900", "--step-delay-s", "0.02")
    zero, one = runs.attempt(1, *train, workers=2)
    zero.read_until("step 10 ")
    one.ask_for_checkpoint()
    one.wait_ack()
    assert newest_checkpoint(runs.checkpoint_dir(1)) is not None, "acknowledged before it was saved"
    zero.read_until("saved at step")
    zero.ask_for_checkpoint()
    zero.wait_ack()
    for run in (zero, one):
        run.process.send_signal(signal.SIGTERM)
        assert run.end() == -signal.SIGTERM
    newest = newest_checkpoint(runs.checkpoint_dir(1))
    assert newest is not None
    assert 10 < TrainingState.read(newest).step < 900


# ---- serving -----------------------------------------------------------------------------------------------------


def saved(directory: Path, model: ByteTransformer, step: int = 1) -> None:
    flat = FlatParameters(model)
    state = TrainingState(model.shape, step, 5.5, 0, flat.values, flat.first_moment, flat.second_moment)
    Checkpoints(directory, None, None, writes=True, keep=2).save(state.write, step)


@pytest.fixture
def served(model: ByteTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ByteModel:
    saved(tmp_path / "attempt-1", model)
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path))
    made = ByteModel()
    made.load()
    return made


def test_a_checkpoint_carries_its_shape(tmp_path: Path) -> None:
    shape = Shape(width=32, heads=2, layers=1, context=16)
    saved(tmp_path, ByteTransformer(shape))
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert TrainingState.read(found).shape == shape


def test_the_last_attempts_checkpoint_is_served(model: ByteTransformer, tmp_path: Path) -> None:
    for attempt in (2, 10, 9):
        saved(tmp_path / f"attempt-{attempt}", model, step=attempt)
    (tmp_path / "attempt-11").mkdir()
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.parent.name == "attempt-10"


def test_a_batch_answers_as_each_alone(served: ByteModel) -> None:
    asks: list[object] = [
        "import os",
        {"prompt": "def f(x):\n" * 30, "tokens": 32},
        {"prompt": "x", "tokens": 0},
        {"prompt": "", "tokens": 3},
        {"prompt": "算力", "tokens": 1},
    ]
    together = served.predict(asks)
    for ask, answer in zip(asks, together, strict=True):
        (alone,) = served.predict([ask])
        assert alone["completion"] == answer["completion"]
        assert alone["loss"] == pytest.approx(answer["loss"], abs=1e-4)
    assert together[2] == {"completion": "", "loss": 0.0}
    assert together[1]["loss"] == pytest.approx(math.log(256), abs=0.5)


@pytest.mark.parametrize(
    "ask", [3, None, {}, {"prompt": 3}, {"prompt": "a", "tokens": 33}, {"prompt": "a", "tokens": -1}]
)
def test_an_input_of_another_form_is_refused(served: ByteModel, ask: object) -> None:
    with pytest.raises(ValueError, match=r"an input is|tokens must"):
        served.predict([ask])


@pytest.mark.parametrize("directory", [None, "empty"])
def test_no_checkpoint_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: str | None) -> None:
    monkeypatch.delenv("CHECKPOINT_DIR", raising=False)
    if directory is not None:
        monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path / directory))
    with pytest.raises(ValueError, match="checkpoint"):
        ByteModel().load()
