"""Unit tests know no Ray: importing it, or starting it where it was imported already, fails the test."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest


class _NoRay(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "ray":
            raise AssertionError("a unit test imported ray; move it to tests/integration")
        return None


@pytest.fixture(autouse=True)
def _forbid_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a unit test called ray.init; move it to tests/integration")

    if (ray := sys.modules.get("ray")) is not None:
        monkeypatch.setattr(ray, "init", refuse)
        yield
        return
    finder = _NoRay()
    sys.meta_path.insert(0, finder)
    yield
    sys.meta_path.remove(finder)
