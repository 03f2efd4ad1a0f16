"""A vendor's tool without a vendor."""

from __future__ import annotations

from node_agent.devices.tool_run import ToolFailed


class Prints:
    """A tool that prints what it is told to."""

    def __init__(self, text: str | ToolFailed) -> None:
        self.text = text

    def output(self) -> str:
        if isinstance(self.text, ToolFailed):
            raise self.text
        return self.text

    def close(self) -> None:
        pass
