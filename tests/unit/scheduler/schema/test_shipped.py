"""What a wheel must hold of configs/: setup.cfg's patterns reach every file."""

from __future__ import annotations

import configparser
from fnmatch import fnmatch
from pathlib import Path

from setuptools import find_namespace_packages


def test_the_wheel_holds_every_configuration_file(repository: Path) -> None:
    setup = configparser.ConfigParser()
    setup.read(repository / "setup.cfg")
    include = setup["options.packages.find"]["include"].split()
    patterns = [pattern.strip() for pattern in setup["options.package_data"]["*"].split(",")]
    packages = find_namespace_packages(str(repository), include=include)
    files = [
        path for path in (repository / "configs").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert {"local.yaml", "hardware_catalogue.csv", "training.yaml"} <= {path.name for path in files}
    left_out = [
        str(path)
        for path in files
        if ".".join(path.parent.relative_to(repository).parts) not in packages
        or not any(fnmatch(path.name, pattern) for pattern in patterns)
    ]
    assert left_out == []


def test_the_reading_commands_would_not_pull_in_pydantic_through_the_values() -> None:
    """scheduler.schema.model is values only: what imports it alone stays light (DESIGN.md, reading commands)."""
    source = Path(__file__).parents[4] / "scheduler" / "schema"
    for name in ("model.py", "__init__.py"):
        text = (source / name).read_text()
        assert "pydantic" not in text
        assert "yaml" not in text.replace("*.yaml", "")
