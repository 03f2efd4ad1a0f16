"""What the agent writes to its launcher is JSON whatever it holds, a path that is no UTF-8 too."""

from __future__ import annotations

import json

import pytest

from node_agent.launcher.client import _line, _read


@pytest.mark.parametrize(
    "held", ["plain", "中文", "broken \udcff name", "\ud800", 'quote " and \\', "\x00 \n", 2**63 - 1, -1.5, None, True]
)
def test_a_line_arrives_as_it_was_sent(held: object) -> None:
    message = {"id": 1, "order": {"cwd": held, "argv": [held]}}
    line = _line(message)
    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]
    assert json.loads(line) == message  # as the launcher reads it
    assert _read(line) == message
    assert _read(json.dumps(message).encode()) == message  # as the launcher writes it


def test_what_is_no_json_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"JSON|Expecting"):
        _read(b"{oh\n")
