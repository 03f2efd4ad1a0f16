"""Does what README, ARCHITECTURE and docs/ name exist: files, folders, links, make targets, verbs and their options?

Said without running anything: verbs are looked up in the command's own tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import click
import pytest

from scheduler.cli.root import root

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]
ROOMS = ("scheduler", "node_agent", "benchmarks", "configs", "examples", "tests", "docs")
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
PROGRAM = re.compile(r"[\w./*{},-]+\.py")
PLACED = re.compile(rf"(?:{'|'.join(ROOMS)})/[\w./*-]*")
COMMAND = re.compile(r"(?:^|[\s(/$])suanli (.+)", re.DOTALL)
END_OF_COMMAND = ("--", "|", "||", "&&", ">", ">>", "#", "&", ";")


@cache
def tree() -> tuple[str, ...]:
    """Files and folders (with a slash at their end) that are the project's own."""
    found: list[str] = []
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            if "__pycache__" not in path.parts:
                found.append(str(path.relative_to(ROOT)) + ("/" if path.is_dir() else ""))
    return (*found, *(f"{room}/" for room in ROOMS), *(path.name for path in ROOT.iterdir() if path.is_file()))


def is_there(name: str) -> bool:
    """By its whole path or the end of it: pages leave out what the sentence has said of the room."""
    wanted = (name, name.rstrip("/") + "/")
    return any(fnmatch(path, end) or fnmatch(path, f"*/{end}") for path in tree() for end in wanted)


def spans(text: str) -> Iterator[str]:
    """What stands between backticks, on one line or wrapped; fenced blocks are left out."""
    for paragraph in re.split(r"\n\s*\n", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        for found in SPAN.finditer(paragraph):
            yield " ".join(found[1].split())


def typed(text: str) -> Iterator[str]:
    """Lines of blocks that are to be typed, those that a backslash joins as one."""
    fenced = re.findall(r"^```.*?\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    indented = [line for line in text.splitlines() if line.startswith("    ")]
    for block in (*fenced, "\n".join(indented)):
        for line in block.replace("\\\n", " ").splitlines():
            yield line.strip()


def commands(text: str) -> Iterator[str]:
    """What follows `suanli` wherever a command is given whole."""
    for span in spans(text):
        if span.startswith("suanli "):
            yield from span.removeprefix("suanli ").split("; suanli ")
    for line in typed(text):
        found = COMMAND.search(re.split(r"\s#\s?|\s{3,}", line)[0])
        if found and re.fullmatch(r"(?:\$ |[A-Z_]+=\S+ |sudo |\S*/)*", line[: line.index("suanli ")]):
            yield from found[1].split("; suanli ")


def complaint(said: str) -> str | None:
    """Why there is no such command; None: there is. Words in capitals and what stands in quotes may be anything."""
    words = re.sub(r'"[^"]*"', "X", said).split()
    command: click.Command = root
    context = click.Context(root, info_name="suanli")
    takes_value = {"--help": False, "--version": False}
    is_value = False
    for word in words:
        if word in END_OF_COMMAND:
            break
        option, given, _ = word.strip("[](),:").partition("=")
        if is_value:
            is_value = False
        elif option.startswith("-"):
            if option not in takes_value:
                return f"{context.command_path} has no option {option}"
            is_value = takes_value[option] and not given
        elif isinstance(command, click.Group) and re.fullmatch(r"[a-z][a-z|-]*", word):
            for each in reversed(word.split("|")):
                try:
                    _, found, _ = command.resolve_command(context, [each])
                except click.UsageError:
                    found = None
                if found is None:
                    return f"there is no {each} in {context.command_path}"
            assert found is not None
            context = click.Context(found, context, info_name=word)
            for param in found.params:
                takes = isinstance(param, click.Option) and not param.is_flag and not param.count
                takes_value |= dict.fromkeys((*param.opts, *param.secondary_opts), takes)
            command = found
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    named = {name for name in spans(text) if PROGRAM.fullmatch(name) or PLACED.fullmatch(name)}
    missing = sorted(name for name in named if not is_there(name))
    missing += sorted(link for link in LINK.findall(text) if not (page.parent / link).exists())
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_can_be_given(page: Path) -> None:
    said = list(commands(page.read_text()))
    assert not [f"`suanli {each}`: {why}" for each in said if (why := complaint(each))]


def test_commands_are_found_and_judged() -> None:
    text = "Say `suanli\nnodes --nothing` or\n\n    suanli drain n1 --reason x   # empties it\n    $ suanli nosuch\n"
    assert [complaint(each) for each in commands(text)] == [
        "suanli nodes has no option --nothing",
        None,
        "there is no nosuch in suanli",
    ]
    assert len(list(commands((ROOT / "README.md").read_text()))) > 10


def test_every_make_target_of_a_page_is_one() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for page in PAGES:
        named = {span.split()[1] for span in spans(page.read_text()) if re.match(r"make [a-z]+", span)}
        assert named <= targets, page.name
