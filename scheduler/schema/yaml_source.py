"""A YAML file as plain data, and the line on which each field stands.

What is accepted is the part of YAML that means one thing: mappings with text keys, lists, text, numbers, true/false and
null. Refused, with the line: duplicate keys, merge keys (`<<`), tags of other types, more than one document, and files
too big, too deep or (through aliases) too full to be a configuration. Dates stay text. Every failure is a BadInput.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from scheduler.errors import BadInput
from scheduler.schema.problems import Problems, field_path, shown

MAX_FILE_BYTES: Final = 1 << 20
MAX_NODES: Final = 50_000
MAX_DEPTH: Final = 40

_TAG: Final = "tag:yaml.org,2002:"
_TEXT_TAGS: Final = frozenset({_TAG + "str", _TAG + "timestamp", _TAG + "value"})
_OTHER_SCALARS: Final = frozenset({_TAG + "int", _TAG + "float", _TAG + "bool", _TAG + "null"})


@dataclass(frozen=True, slots=True)
class Document:
    """`data` is made of dict (text keys), list, str, int, float, bool and None. `lines` maps `a.b[0].c` to its line,
    from 1; `""` is the whole document."""

    source: str
    data: object
    lines: Mapping[str, int]

    def mapping(self) -> dict[str, Any]:
        """`data`, which must be a mapping: every file of ours is one."""
        if isinstance(self.data, dict):
            return self.data
        problems = Problems(self.source, self.lines)
        if self.data is None:
            problems.expected("", "a mapping of fields (name: value); the file says nothing")
        else:
            problems.expected("", "a mapping of fields (name: value)", self.data)
        problems.raise_if_any()
        raise AssertionError("unreachable: a problem was added")


def read_yaml(path: Path, *, source: str | None = None) -> Document:
    """Read a file of at most 1 MiB. `source` is its name in messages (default: the path as given)."""
    name = source or str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise BadInput(f"{name}: there is no such file; check the path") from None
    except IsADirectoryError:
        raise BadInput(f"{name}: is a directory; name a YAML file in it") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{name}: cannot be read: {error}") from None
    return parse_yaml(raw, name)


def parse_yaml(raw: bytes | str, source: str) -> Document:
    """Parse one document; `source` names it in messages."""
    if len(raw) > MAX_FILE_BYTES:
        raise BadInput(f"{source}: is larger than {MAX_FILE_BYTES} bytes, the most that is read as YAML")
    text = raw if isinstance(raw, str) else _decoded(raw, source)
    try:
        loader = _BoundedLoader(text)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise BadInput(_syntax_message(error, source)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise BadInput(
            f"{source}:{line}: holds a character that YAML does not allow (code {error.character})"
        ) from None
    except (ValueError, OverflowError) as error:  # PyYAML's scanner on escapes such as "\UFFFFFFFF"
        raise BadInput(f"{source}: is no YAML: {error}") from None
    if root is None:
        return Document(source, None, {"": 1})
    builder = _Builder(source)
    data = builder.value(root, (), 0)
    builder.problems.raise_if_any()
    return Document(source, data, builder.lines)


def _decoded(raw: bytes, source: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{source}:{line}: is not UTF-8 text (byte {error.start}); save the file as UTF-8") from None


def _syntax_message(error: yaml.MarkedYAMLError, source: str) -> str:
    mark = error.problem_mark or error.context_mark
    place = source if mark is None else f"{source}:{mark.line + 1}"
    said = "; ".join(part for part in (error.context, error.problem, error.note) if part)
    column = "" if mark is None else f" (column {mark.column + 1})"
    return f"{place}: is not valid YAML: {said}{column}"


class _BoundedLoader(yaml.SafeLoader):
    """Composes nodes only, to a bounded depth: PyYAML recurses, and a megabyte of `[` would exhaust the stack."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._composed = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        self._composed += 1
        too_much = None
        if self._depth > MAX_DEPTH:
            too_much = f"it is nested more than {MAX_DEPTH} levels deep"
        elif self._composed > MAX_NODES:
            too_much = f"it has more than {MAX_NODES} values"
        if too_much:
            raise yaml.MarkedYAMLError(problem=too_much, problem_mark=self.get_mark())
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _Builder:
    """Turns nodes into plain data. Aliases are followed, and counted each time: a bomb of them ends at MAX_NODES."""

    def __init__(self, source: str) -> None:
        self.lines: dict[str, int] = {}
        self.problems = Problems(source, self.lines)
        self._source = source
        self._count = 0
        self._constructor = yaml.constructor.SafeConstructor()
        self._resolver = yaml.resolver.Resolver()

    def value(self, node: yaml.Node, path: tuple[str | int, ...], depth: int, line: int | None = None) -> object:
        self._count += 1
        here = node.start_mark.line + 1
        if self._count > MAX_NODES or depth > MAX_DEPTH:
            raise BadInput(
                f"{self._source}:{here}: aliases (*name) make this file more than {MAX_NODES} values or "
                f"{MAX_DEPTH} levels; write the values out"
            )
        self.lines[field_path(path)] = line or here
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.value(item, (*path, i), depth + 1) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self.problems.expected(field_path(path), f"a plain value, without the tag {node.tag!r}", line=here)
        return None

    def _mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...], depth: int) -> dict[str, object]:
        result: dict[str, object] = {}
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _TAG + "merge":
                self.problems.add(field_path(path), "merge keys (<<) are not accepted; write the fields out", line=line)
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in _TEXT_TAGS:
                hint = f"; put {shown(key_node.value)} in quotes" if isinstance(key_node, yaml.ScalarNode) else ""
                self.problems.add(field_path(path), f"expected a name (text) before the colon{hint}", line=line)
                continue
            key = str(key_node.value)
            field = (*path, key)
            if key in result:
                self.problems.add(
                    field_path(field), f"is given twice (first on line {first_line[key]}); keep one", line=line
                )
                continue
            first_line[key] = line
            result[key] = self.value(value_node, field, depth + 1, line)
        return result

    def _scalar(self, node: yaml.ScalarNode, path: tuple[str | int, ...]) -> object:
        if node.tag in _TEXT_TAGS:
            return str(node.value)
        # An explicit tag on text that does not look like its type (`!!int x`) would make PyYAML fail in many ways.
        implicit = self._resolver.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
        if node.tag in _OTHER_SCALARS and implicit == node.tag:
            try:
                value: object = self._constructor.construct_object(node)
                return value
            except (ValueError, OverflowError):  # an int of thousands of digits, "0x_"
                pass  # said below
        self._bad_scalar(node, path)
        return None

    def _bad_scalar(self, node: yaml.ScalarNode, path: tuple[str | int, ...]) -> None:
        kind = str(node.tag).removeprefix(_TAG)
        line = node.start_mark.line + 1
        self.problems.add(field_path(path), f"cannot be read as {kind}; write it as plain text or in quotes", line=line)
