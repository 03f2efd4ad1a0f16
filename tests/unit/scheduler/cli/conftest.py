from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from scheduler.cli.root import root
from tests.fakes.api_site import first_job
from tests.fakes.fake_control import FakeControl
from tests.fakes.live_api import LiveApi, serving


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs verbs in this process, their output in a pipe, against a served API."""

    api: LiveApi
    directory: Path

    @property
    def control(self) -> FakeControl:
        return self.api.control

    def run(self, *argv: str, who: str = "operator") -> Result:
        environment = {"SUANLI_TOKEN_FILE": str(self.api.home / f"{who}.token")} if who != "operator" else {}
        return CliRunner().invoke(root, argv, env=environment, prog_name="suanli")

    def out(self, *argv: str) -> str:
        """The output of a verb that must succeed."""
        result = self.run(*argv)
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        return result.stdout


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and a clean environment, so that no test meets the instance of whoever runs it."""
    for name in ("SUANLI_API", "SUANLI_TOKEN", "SUANLI_TOKEN_FILE", "COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "home"
    monkeypatch.setenv("SUANLI_HOME", str(path))
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveApi]:
    """One server a module: starting and ending one takes a quarter of a second."""
    with serving(tmp_path_factory.mktemp("served") / "home") as api:
        yield api


@pytest.fixture
def shell(served: LiveApi, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """The served API with nothing but job 1, an empty directory to stand in, and the environment of its operator."""
    assert home != served.home
    served.control.reset()
    served.control.put(first_job())
    directory = tmp_path / "cwd"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.setenv("SUANLI_HOME", str(served.home))
    return Shell(served, directory)
