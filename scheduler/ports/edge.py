"""What an answer is at the very edge: about to be JSON."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
