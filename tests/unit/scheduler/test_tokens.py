from __future__ import annotations

import json
import os
import re
import stat
import threading
from pathlib import Path

import pytest

from scheduler import tokens
from scheduler.errors import BadInput, Conflict, NotFound, SuanliError, Unavailable
from scheduler.ports import Principal
from scheduler.tokens import TokenTable, issue, principals, revoke

OLGA = Principal("olga", "site", "operator", "emergency")
FILM = Principal("film", "film-studio", "tenant", "production")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "tokens.json"


def test_a_token_stands_for_whom_it_was_issued_to(path: Path) -> None:
    olga, film = issue(path, OLGA), issue(path, FILM)
    table = TokenTable(path)
    assert table.principal(olga) == OLGA
    assert table.principal(film) == FILM
    assert re.fullmatch(r"suanli_[A-Za-z0-9_-]{43}", olga)
    assert principals(path) == (OLGA, FILM)


def test_the_file_holds_digests_and_is_private(path: Path) -> None:
    token = issue(path, OLGA)
    assert token not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [set(row) for row in json.loads(path.read_text())] == [
        {"sha256", "name", "tenant", "role", "max_priority_class"}
    ]
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["tokens.json", "tokens.json.lock"]


@pytest.mark.parametrize(
    "shown", ["", "x", "suanli_", "suanli_" + "A" * 43, "x" * 100_000, "\ud800", "é", "suanli_\n", "\0"]
)
def test_what_nobody_was_given_stands_for_nobody(path: Path, shown: str) -> None:
    issue(path, OLGA)
    assert TokenTable(path).principal(shown) is None


def test_the_digest_itself_is_no_token(path: Path) -> None:
    issue(path, OLGA)
    digest = json.loads(path.read_text())[0]["sha256"]
    assert TokenTable(path).principal(digest) is None


def test_a_running_table_sees_new_and_revoked_tokens(path: Path) -> None:
    olga = issue(path, OLGA)
    table = TokenTable(path)
    assert table.principal(olga) == OLGA
    film = issue(path, FILM)
    assert table.principal(film) == FILM
    revoke(path, "olga")
    assert table.principal(olga) is None
    assert table.principal(film) == FILM


def test_a_name_is_held_once(path: Path) -> None:
    first = issue(path, OLGA)
    with pytest.raises(Conflict, match="exists already"):
        issue(path, OLGA)
    second = issue(path, OLGA, replace=True)
    assert TokenTable(path).principal(first) is None
    assert TokenTable(path).principal(second) == OLGA


def test_revoking_an_unknown_name(path: Path) -> None:
    issue(path, OLGA)
    with pytest.raises(NotFound, match="no token is named nobody"):
        revoke(path, "nobody")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_file_that_others_can_touch_lets_nobody_in(path: Path, mode: int) -> None:
    token = issue(path, OLGA)
    table = TokenTable(path)
    assert table.principal(token) == OLGA  # so that an old copy could be used, if it were wrongly kept
    path.chmod(mode)
    with pytest.raises(Unavailable, match=rf"mode {mode:04o}\); run: chmod 600"):
        table.principal(token)
    path.chmod(0o600)
    assert table.principal(token) == OLGA


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("{}", "a list"),
        ("[1]", "entry 1"),
        ('[{"name": "x"}]', "entry 1"),
        ('[{"sha256": "zz", "name": "x", "tenant": "t", "role": "operator", "max_priority_class": "n"}]', "bad role"),
        (
            json.dumps([{"sha256": "0" * 64, "name": "x", "tenant": "t", "role": "root", "max_priority_class": "n"}]),
            "bad role",
        ),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_malformed_file_lets_nobody_in(path: Path, text: str, said: str) -> None:
    token = issue(path, OLGA)
    path.write_text(text)
    with pytest.raises(Unavailable, match=said):
        TokenTable(path).principal(token)


def test_a_missing_file_lets_nobody_in(path: Path) -> None:
    with pytest.raises(Unavailable, match="there is no token file"):
        TokenTable(path).principal("x")


@pytest.mark.parametrize(
    "principal",
    [
        Principal("", "site", "operator", "normal"),
        Principal("a b", "site", "operator", "normal"),
        Principal("a\n", "site", "operator", "normal"),
        Principal("olga", "../x", "operator", "normal"),
        Principal("olga", "site", "operator", ""),
        Principal("olga", "site", "root", "normal"),  # type: ignore[arg-type]
    ],
)
def test_bad_names_get_no_token(path: Path, principal: Principal) -> None:
    with pytest.raises(BadInput):
        issue(path, principal)
    assert not path.exists()


def test_a_write_that_fails_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = issue(path, OLGA)

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokens.os, "fsync", full)
    with pytest.raises(Unavailable, match="No space left"):
        issue(path, FILM)
    assert TokenTable(path).principal(token) == OLGA
    assert [name for name in os.listdir(path.parent) if name.startswith(".")] == []


def test_tokens_issued_at_once_are_all_kept(path: Path) -> None:
    failures: list[SuanliError] = []

    def one(number: int) -> None:
        try:
            issue(path, Principal(f"p{number}", "site", "viewer", "normal"))
        except SuanliError as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {principal.name for principal in principals(path)} == {f"p{i}" for i in range(8)}
