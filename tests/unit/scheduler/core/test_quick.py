"""A quick class is the frozen dataclass that it was, and `replaced` is `dataclasses.replace`."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace

import pytest

from scheduler.core.quick import quick, replaced


@dataclass(frozen=True, slots=True)
class Usual:
    name: str
    new: tuple[int, ...]
    changes: int = 3
    value: float | None = field(default=None)

    @property
    def size(self) -> int:
        return len(self.new)


@quick
@dataclass(frozen=True, slots=True)
class Quick:
    name: str
    new: tuple[int, ...]
    changes: int = 3
    value: float | None = field(default=None)

    @property
    def size(self) -> int:
        return len(self.new)


def both() -> tuple[Usual, Quick]:
    return Usual("a", (1, 2), value=0.5), Quick("a", (1, 2), value=0.5)


def test_it_looks_as_it_did() -> None:
    usual, made = both()
    assert type(made) is Quick
    assert repr(made) == repr(usual).replace("Usual", "Quick")
    assert asdict(made) == asdict(usual)
    assert [each.name for each in fields(made)] == ["name", "new", "changes", "value"]
    assert made.size == usual.size == 2
    assert inspect.signature(Quick) == inspect.signature(Usual)


def test_it_compares_and_hashes_by_its_fields() -> None:
    made = Quick("a", (1, 2))
    assert made == Quick("a", (1, 2), 3, None)
    assert made != Quick("a", (1, 2), 4)
    assert len({made, Quick(name="a", new=(1, 2))}) == 1
    assert made != Usual("a", (1, 2))


def test_it_is_frozen() -> None:
    _, made = both()
    with pytest.raises(FrozenInstanceError):
        made.changes = 4  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del made.name
    assert not hasattr(made, "__dict__")


def test_it_is_copied_and_pickled() -> None:
    _, made = both()
    for again in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert type(again) is Quick
        assert again == made


def test_missing_and_unknown_fields_are_refused() -> None:
    with pytest.raises(TypeError, match="new"):
        Quick("a")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="nosuch"):
        Quick("a", (), nosuch=1)  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="nosuch"):
        replaced(Quick("a", ()), nosuch=1)  # type: ignore[call-arg]


def test_replaced_changes_these_fields_alone_of_quick_classes_and_of_others() -> None:
    usual, made = both()
    assert replaced(made, changes=7, name="b") == Quick("b", (1, 2), 7, 0.5)
    assert type(replaced(made, changes=7)) is Quick
    assert replaced(usual, changes=7) == replace(usual, changes=7)
    assert made == Quick("a", (1, 2), 3, 0.5)


def test_what_it_could_not_make_is_refused() -> None:
    @dataclass(frozen=True, slots=True)
    class Checked:
        name: str

        def __post_init__(self) -> None:
            """Nothing to check."""

    @dataclass(frozen=True, slots=True)
    class Made:
        names: list[str] = field(default_factory=list)

    @dataclass(frozen=True, slots=True)
    class Derived(Usual):
        more: int = 0

    for refused in (Checked, Made, Derived):
        with pytest.raises(AssertionError):
            quick(refused)
