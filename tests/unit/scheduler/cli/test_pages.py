"""Every command that README.md and the pages under docs/ show is one that there is, with options that it has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from scheduler.cli.root import root

ROOT = Path(__file__).parents[4]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
SHOWN = re.compile(r"^ {4}(?:\$ )?(suanli .+)$|`(suanli [^`]+)`", re.MULTILINE)


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """As it stands there, and in words; what is optional counts as given, `a|b` as `a`, and what follows a comment, a
    pipe or the next command of the line stands for itself."""
    for found in SHOWN.finditer(page.read_text()):
        line = re.split(r"\s{2,}#|\s{4,}(?![\s\-\[])", (found[1] or found[2]).replace("\n", " "))[0]
        for part in re.split(r"[;|] (?=\S)", line):
            words = shlex.split(part.replace("[", " ").replace("]", " "), comments=True)
            if words[:1] == ["suanli"] and len(words) > 1 and words[1].islower():
                yield part, [word for word in words[1:] if word != "..."]


def parse(argv: list[str]) -> str:
    """What click says against it; empty: nothing. Values are not looked at, and prose may name an option without."""
    command: click.Command = root
    try:
        while isinstance(command, click.Group) and argv and not argv[0].startswith("-"):
            context = click.Context(command, info_name=command.name)
            _, below, argv = command.resolve_command(context, [argv[0].split("|")[0], *argv[1:]])
            assert below is not None
            command = below
        parser = command.make_parser(click.Context(command, info_name=command.name))
        parser.parse_args([word for word in argv if word not in ("-h", "--help")])
    except click.BadOptionUsage:
        return ""
    except click.ClickException as error:
        return error.format_message()
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_can_be_typed(page: Path) -> None:
    wrong = [f"{part}: {said}" for part, argv in commands(page) if (said := parse(argv))]
    assert wrong == []


def test_there_are_commands_to_look_at() -> None:
    found = [argv for page in PAGES for _, argv in commands(page)]
    assert len(found) > 150
    assert {argv[0] for argv in found} > {"up", "submit", "bench", "node", "report", "top"}


def test_a_command_that_is_none_is_found() -> None:
    assert parse(["queue", "--reason"]) == "No such option '--reason'."
    assert parse(["service", "deplore"]).startswith("No such command 'deplore'.")
