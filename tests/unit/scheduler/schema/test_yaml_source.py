"""YAML as plain data with lines, and every way in which a file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scheduler.errors import BadInput
from scheduler.schema import yaml_source
from scheduler.schema.yaml_source import parse_yaml, read_yaml


def test_data_is_plain_and_every_field_has_its_line() -> None:
    document = parse_yaml(
        "name: train  # comment\n"
        "resources:\n"
        "  - {device: H100 SXM, count: 1}\n"
        "  - device: any\n"
        "    share: 0.5\n"
        "due: 2029-03-15\n"
        "env:\n"
        "  A: null\n"
        "on_top: true\n",
        "job.yaml",
    )
    assert document.mapping() == {
        "name": "train",
        "resources": [{"device": "H100 SXM", "count": 1}, {"device": "any", "share": 0.5}],
        "due": "2029-03-15",
        "env": {"A": None},
        "on_top": True,
    }
    wanted = {
        "": 1,
        "name": 1,
        "resources": 2,
        "resources[0]": 3,
        "resources[0].count": 3,
        "resources[1].share": 5,
        "env.A": 8,
        "on_top": 9,
    }
    assert wanted.items() <= dict(document.lines).items()


def test_an_alias_is_the_value_it_stands_for() -> None:
    document = parse_yaml("a: &x [1, 2]\nb: *x\n", "f.yaml")
    assert document.data == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a: 1\nb: 2\na: 3\n", ["f.yaml:3: a: is given twice (first on line 1)"]),
        ("a:\n  b: 1\n  b: 2\nc: 1\nc: 2\n", ["f.yaml:3: a.b: is given twice", "f.yaml:5: c: is given twice"]),
        ("a: [1, 2\nb: 3\n", ["f.yaml:2: is not valid YAML"]),
        ("a: 1\n\tb: 2\n", ["f.yaml:2: is not valid YAML", "column 1"]),
        ("a: &x 1\nb: *y\n", ["f.yaml:2: is not valid YAML", "undefined alias"]),
        ("a: 1\n---\nb: 2\n", ["f.yaml:2: is not valid YAML", "single document"]),
        ("base: &b {x: 1}\nc:\n  <<: *b\n", ["f.yaml:3: c: merge keys (<<) are not accepted"]),
        ("a: 1\n7: x\n", ["f.yaml:2: expected a name (text) before the colon; put '7' in quotes"]),
        ("yes: 1\n", ["f.yaml:1: expected a name (text) before the colon; put 'yes' in quotes"]),
        ("? [a, b]\n: 1\n", ["f.yaml:1: expected a name (text) before the colon"]),
        ("a: 1\nb: !!python/object:os.system {}\n", ["f.yaml:2: b: expected a plain value, without the tag"]),
        ("a: !secret x\n", ["f.yaml:1: a: cannot be read as !secret"]),
        ("a: !!int x\n", ["f.yaml:1: a: cannot be read as int"]),
        ("a: !!set {x}\n", ["f.yaml:1: a: expected a plain value"]),
        ("a: " + "9" * 5000 + "\n", ["f.yaml:1: a: cannot be read as int"]),
        ("a: 1\nb: \x07\n", ["f.yaml:2: holds a character that YAML does not allow"]),
        ('a: "\\UFFFFFFFF"\n', ["f.yaml"]),
        ("[" * 5000, ["f.yaml:1: is not valid YAML: it is nested more than 40 levels deep"]),
        ("a: &a [*a]\n", ["f.yaml:1: aliases", "write the values out"]),
        (
            "a: &a [1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{n}: &{n} [{','.join(['*' + p] * 9)}]\n" for p, n in zip("abcdefg", "bcdefgh", strict=True)),
            ["f.yaml:", "aliases (*name) make this file more than 50000 values"],
        ),
    ],
)
def test_what_yaml_is_refused(text: str, parts: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        parse_yaml(text, "f.yaml")
    for part in parts:
        assert part in caught.value.message


def test_too_many_values_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_source, "MAX_NODES", 20)
    with pytest.raises(BadInput, match=r"f\.yaml:2[0-9]: is not valid YAML: it has more than 20 values"):
        parse_yaml("".join("- 1\n" for _ in range(40)), "f.yaml")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["no such file"]),
        (b"", ["expected a mapping of fields (name: value); the file says nothing"]),
        (b"- 1\n- 2\n", [":1: expected a mapping of fields (name: value); got a list of 2"]),
        (b"just text\n", ["expected a mapping", "got 'just text'"]),
        (b"a: 1\nb: \xff\n", [":2: is not UTF-8 text"]),
        (b"#" * ((1 << 20) + 1), ["larger than 1048576 bytes"]),
    ],
)
def test_what_file_is_refused(tmp_path: Path, content: bytes | None, parts: list[str]) -> None:
    path = tmp_path / "f.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read_yaml(path).mapping()
    assert caught.value.message.startswith(str(path))
    for part in parts:
        assert part in caught.value.message


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a directory"):
        read_yaml(tmp_path)


YAMLISH = st.text(
    alphabet=st.one_of(st.sampled_from("ab: -?[]{},&*!|>'\"%@`#\n\t<=~.0179exo_\\U\ufeff\ud800"), st.characters()),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(YAMLISH)
@example("!!bool x")
@example("!!float ''")
@example("!!timestamp x")
@example("!!binary \xe9")
@example("a: 0x_")
@example('"\\ud800": 1')
def test_any_text_gives_data_or_bad_input(text: str) -> None:
    said = ""
    try:
        parse_yaml(text, "any")
    except BadInput as error:
        said = error.message
    assert all(line.startswith("any") for line in said.splitlines())
