"""POST /v1/health/flags: devices that were slow in the nights' measurements, as whoever compares them says."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Depends
from pydantic import Field, model_validator
from starlette.responses import Response

from scheduler.api.answers import answer, encoded
from scheduler.api.context import Context, Operator, bearer
from scheduler.api.models import Answer, Shape

MOST_FLAGS = 20_000

router = APIRouter(dependencies=[Depends(bearer)])


class FlagShape(Shape):
    """A device that was slow: `value` where `expected` would have been usual, both in `unit`."""

    device: str = Field(min_length=1, max_length=128, description="uuid")
    rule: Literal["slow_than_like", "slow_than_before"] = Field(
        description="compared with others of its kind, or with its own history"
    )
    value: float = Field(allow_inf_nan=False)
    expected: float = Field(allow_inf_nan=False)
    unit: str = Field(max_length=40)
    text: str = Field(min_length=1, max_length=500, description="a sentence for operators")
    since_s: float = Field(ge=0, lt=1e11, allow_inf_nan=False, description="epoch seconds")


class FlagsRequest(Shape):
    """All that is flagged: it replaces what was flagged before."""

    run: str = Field(min_length=1, max_length=200, description="the measurements that it was made of")
    flags: list[FlagShape] = Field(max_length=MOST_FLAGS)

    @model_validator(mode="after")
    def _each_once(self) -> FlagsRequest:
        seen: set[tuple[str, str]] = set()
        for flag in self.flags:
            if (flag.device, flag.rule) in seen:
                raise ValueError(f"device {flag.device} has {flag.rule} twice; each once is expected")
            seen.add((flag.device, flag.rule))
        return self


class FlagsAnswer(Answer):
    """`taken`: how many are held against devices now; `ignored`: devices that no node is known to have."""

    run: str
    taken: int
    ignored: list[str]


@router.post("/v1/health/flags", response_model=FlagsAnswer, tags=["nodes"])
async def flags(request: FlagsRequest, by: Operator, context: Context) -> Response:
    """Flag devices that are slow. They go on being given work; what `suanli nodes --reasons` shows says why not to."""
    told = [
        {
            "device": flag.device,
            "rule": flag.rule.replace("_", "-"),
            "text": f"{flag.text} ({flag.value:.6g} where {flag.expected:.6g} {flag.unit} was expected)",
            "since_s": flag.since_s,
        }
        for flag in request.flags
    ]
    work = context.rooms.commands.call(lambda: encoded("flags", context.control.flag_devices(request.run, told, by)))
    return answer(await work)
