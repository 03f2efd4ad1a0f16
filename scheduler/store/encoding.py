"""How a job's spec and state become JSON text for a column, and come back: pydantic over the core's own dataclasses.

States and reasons carry a literal `kind`, which tells the members of their unions apart; a text that fits none is
refused with pydantic's ValidationError, never guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from scheduler.core.jobs import JobSpec, JobState

_SPEC: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)
_STATE: TypeAdapter[JobState] = TypeAdapter(Annotated[JobState, Field(discriminator="kind")])


def spec_to_text(spec: JobSpec) -> str:
    return _SPEC.dump_json(spec).decode()


def spec_from_text(text: str) -> JobSpec:
    return _SPEC.validate_json(text)


def state_to_text(state: JobState) -> str:
    return _STATE.dump_json(state).decode()


def state_from_text(text: str) -> JobState:
    return _STATE.validate_json(text)


def detail_to_text(detail: Mapping[str, Any]) -> str:
    return json.dumps(dict(detail), ensure_ascii=False, separators=(",", ":"))


def detail_from_text(text: str) -> Mapping[str, Any]:
    detail = json.loads(text)
    assert isinstance(detail, dict), text
    return detail
