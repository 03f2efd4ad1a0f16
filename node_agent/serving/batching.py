"""How do requests become batches, and what does each get back when a batch goes wrong? Pure.

`BatchLaw` says how many inputs may run together and whether an idle model should wait a moment for company;
`take_batch` which waiting calls those are; `run_batch` runs them and settles each call by itself.

The rule without configuration: an idle model starts at once with whatever is there; while it computes, calls collect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

MAX_BATCH = 32
MAX_WAITING = 1024

# A call that comes as a batch starts waits for that one and then for its own: two batches, and a fifth of the SLO is
# left for the way there and back.
BATCH_OF_SLO = 0.4
BACKOFF = 0.9  # Clipper's: "a small multiplicative backoff, reducing the maximum batch size by 10%"
WAIT_OF_SLO = 0.1
WAIT_OF_BATCH = 0.5  # company is worth waiting for as long as the batch that it joins is worth, and no longer
LEAST_WAIT_S = 0.0002  # shorter ones cost more than they bring, and a poll counts in milliseconds
MEMORY = 0.25  # weight of the newest batch in what is remembered of those before

Predict = Callable[[list[object]], object]


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """`max_wait_s`: so long a call may be held back for company; 0: never. `slo_s` None: no latency is promised."""

    max_batch: int = MAX_BATCH
    max_wait_s: float = 0.0
    slo_s: float | None = None


class BatchLaw:
    """How large may the next batch be, and is it to start now? Told what happened; never looks at a clock.

    Size. With an SLO the largest batch is found by additive increase and multiplicative decrease: one more input after
    each full batch that stayed within its part of the SLO, a tenth less after one that did not. From Crankshaw et al.,
    "Clipper: A Low-Latency Online Prediction Serving System", NSDI 2017, section 4.3.1. Without an SLO it is
    `max_batch`.

    Time. An idle model starts at once, unless `max_wait_s` allows it to wait and company is expected: as many inputs as
    were lately in the house together (running and waiting, an exponentially weighted mean), and those are not yet here.
    Callers who wait for their answers before they ask again come back in a burst just after a batch; without the wait
    the first of them would run alone and the others wait for it. A lone caller is never held back: what was lately in
    the house together was one. Clipper's batch delay (section 4.3.2) waits always, which costs a lone caller all of it.
    """

    def __init__(self, settings: BatchSettings) -> None:
        self.settings = settings
        self.limit = settings.max_batch if settings.slo_s is None else 1
        self.together = 1.0
        self.batch_s = 0.0

    def finished(self, size: int, seconds: float, waiting: int) -> None:
        """A batch of `size` inputs took `seconds`; `waiting` inputs had collected when it ended."""
        self.together += MEMORY * (size + waiting - self.together)
        self.batch_s += MEMORY * (seconds - self.batch_s) if self.batch_s else seconds
        if self.settings.slo_s is None:
            return
        if seconds > self.settings.slo_s * BATCH_OF_SLO:
            self.limit = max(1, int(min(self.limit, size) * BACKOFF))
        elif size >= self.limit and self.limit < self.settings.max_batch:
            self.limit += 1

    def hold_s(self, waiting: int, waited_s: float) -> float:
        """How much longer an idle model should wait when `waiting` inputs are there, the oldest for `waited_s`."""
        if not self.settings.max_wait_s or waiting >= min(self.limit, round(self.together)):
            return 0.0
        longest_s = min(self.settings.max_wait_s, self.batch_s * WAIT_OF_BATCH)
        if self.settings.slo_s is not None:
            longest_s = min(longest_s, self.settings.slo_s * WAIT_OF_SLO)
        left_s = longest_s - waited_s
        return left_s if left_s >= LEAST_WAIT_S else 0.0


@dataclass(frozen=True, slots=True)
class Answered:
    outputs: list[object]


@dataclass(frozen=True, slots=True)
class Failed:
    message: str


Outcome = Answered | Failed


def take_batch(sizes: Iterable[int], max_batch: int) -> int:
    """How many calls from the front, of `sizes` inputs each, go together: as many as fit, at least one."""
    total = taken = 0
    for size in sizes:
        if taken and total + size > max_batch:
            break
        total += size
        taken += 1
    return taken


def run_batch(predict: Predict, calls: Sequence[Sequence[object]]) -> list[Outcome]:
    """One outcome a call. When a batch of several fails, each call is tried alone, so that only the guilty fails.

    So `predict` must give the same answer whether it is asked once or twice: a model that counts its calls is wrong.
    """
    if len(calls) == 1:
        return [_predict(predict, list(calls[0]))]
    joined = _predict(predict, [one for call in calls for one in call])
    if isinstance(joined, Failed):
        return [_predict(predict, list(call)) for call in calls]
    outcomes: list[Outcome] = []
    start = 0
    for call in calls:
        outcomes.append(Answered(joined.outputs[start : start + len(call)]))
        start += len(call)
    return outcomes


def _predict(predict: Predict, inputs: list[object]) -> Outcome:
    count = len(inputs)
    try:
        answer = predict(inputs)
        if isinstance(answer, str | bytes | dict) or not isinstance(answer, Iterable):
            return Failed(f"predict answered a {type(answer).__name__}; it must answer a list, one output an input")
        outputs: list[object] = answer if type(answer) is list else list(answer)  # an array or a tensor gives its rows
    except BaseException as error:  # a tenant's code may raise anything, SystemExit too; the replica goes on
        return Failed(one_line(error))
    if len(outputs) != count:
        return Failed(f"predict answered {len(outputs)} outputs for {count} inputs; it must answer one for each")
    return Answered(outputs)


def one_line(error: BaseException, limit: int = 300) -> str:
    """`ValueError: first line of the message`, for a caller who must not be shown a stack trace."""
    text = str(error).strip().split("\n", 1)[0]
    name = type(error).__name__
    return f"{name}: {text}"[:limit] if text else name
