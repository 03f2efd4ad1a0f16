"""The wheel, built from this tree and installed into a clean virtual environment, works from another directory."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from scheduler import __version__

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.packaging, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A copy, so that build leftovers of this tree neither help nor hinder.
    source = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=REPOSITORY, capture_output=True, check=True
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((REPOSITORY / name).read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out), str(source)],
        check=True,
        capture_output=True,
    )
    (built,) = out.glob("suanli-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that holds the wheel; third-party packages are lent from ours, our own code is not."""
    path = tmp_path_factory.mktemp("venv")
    venv.create(path, with_pip=False)  # our own pip installs into it: a pip of its own takes seconds to make
    pip = [sys.executable, "-m", "pip", "--python", str(path / "bin" / "python")]
    subprocess.run(
        [*pip, "install", "-q", "--no-deps", "--no-index", "--no-compile", str(wheel)],
        check=True,
        capture_output=True,
    )
    (site_packages,) = path.glob("lib/python*/site-packages")
    # A directory named in a .pth file is searched, but .pth files inside it (our editable install) are not obeyed.
    (site_packages / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return path


def test_the_wheel_carries_code_and_configuration_but_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for needed in ("scheduler/cli/__init__.py", "node_agent/launcher/__main__.py", "benchmarks/__main__.py"):
        assert needed in names
    for needed in ("configs/local.yaml", "configs/hardware_catalogue.csv", "configs/jobs/training.yaml"):
        assert needed in names
    for needed in ("systemd/suanli.service", "grafana/suanli.json", "prometheus/alerts.yaml"):
        assert f"configs/{needed}" in names
    assert any(name.startswith("benchmarks/capacity/templates/") for name in names)
    assert not [name for name in names if name.startswith("tests/")]


def test_suanli_runs_from_another_directory(environment: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(environment / "bin" / "suanli"), "--version"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, __version__ in done.stdout) == (0, True), done


def test_the_packaged_configuration_loads(environment: Path, tmp_path: Path) -> None:
    script = (
        "import scheduler, sys\n"
        "from scheduler.cli.up import default_config\n"
        "from scheduler.schema.load import load_site\n"
        "site = load_site(default_config())\n"
        "print(scheduler.__file__, site.name, len(site.goals))\n"
    )
    done = subprocess.run(
        [str(environment / "bin" / "python"), "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(environment) in done.stdout
