"""How a job's spec and state become JSON text for a column, and come back: pydantic over the core's own dataclasses.

States and reasons carry a literal `kind`, which tells the members of their unions apart; a text that fits none is
refused with pydantic's ValidationError, never guessed.

Every text goes through `scheduler.plain_text`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic_core import PydanticSerializationError

from node_agent.health.verdicts import Finding
from scheduler.core.jobs import Hold, JobSpec, JobState
from scheduler.core.rollout import Deployed
from scheduler.plain_text import plain_text

_SPEC: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)
_STATE: TypeAdapter[JobState] = TypeAdapter(Annotated[JobState, Field(discriminator="kind")])

_DEPLOYED: TypeAdapter[Deployed] = TypeAdapter(Deployed)
_HOLD: TypeAdapter[Hold] = TypeAdapter(Hold)
_FINDINGS: TypeAdapter[tuple[Finding, ...]] = TypeAdapter(tuple[Finding, ...])


def _plain(value: Any) -> Any:
    """The same for every text within a value that is about to be JSON."""
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _dump(adapter: TypeAdapter[Any], value: Any) -> str:
    try:
        return adapter.dump_json(value).decode()
    except (PydanticSerializationError, UnicodeEncodeError):
        return json.dumps(_plain(adapter.dump_python(value)), ensure_ascii=False, separators=(",", ":"))


def spec_to_text(spec: JobSpec) -> str:
    return _dump(_SPEC, spec)


def spec_from_text(text: str) -> JobSpec:
    return _SPEC.validate_json(text)


def state_to_text(state: JobState) -> str:
    return _dump(_STATE, state)


def state_from_text(text: str) -> JobState:
    return _STATE.validate_json(text)


def hold_to_text(hold: Hold | None) -> str | None:
    return None if hold is None else _dump(_HOLD, hold)


def hold_from_text(text: str | None) -> Hold | None:
    return None if text is None else _HOLD.validate_json(text)


def deployed_to_text(service: Deployed) -> str:
    return _dump(_DEPLOYED, service)


def deployed_from_text(text: str) -> Deployed:
    return _DEPLOYED.validate_json(text)


def findings_to_text(findings: tuple[Finding, ...]) -> str:
    return _dump(_FINDINGS, findings)


def findings_from_text(text: str) -> tuple[Finding, ...]:
    return _FINDINGS.validate_json(text)


def detail_to_text(detail: Mapping[str, Any]) -> str:
    return json.dumps(_plain(detail), ensure_ascii=False, separators=(",", ":"))


def detail_from_text(text: str) -> Mapping[str, Any]:
    detail = json.loads(text)
    assert isinstance(detail, dict), text
    return detail
