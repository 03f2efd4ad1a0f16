"""Which tests share what only one process has: an instance, or a site that is made to suffer.

pytest-xdist gives a worker one unit of tests after the other (`make test` says `--dist loadgroup`). Its own way to
group them, a suffix to the test's id, has no effect with pytest 9.2, which keeps ids elsewhere: each worker then starts
an instance and a site. So the groups are told here, by file; tests/conftest.py sees that each test is in its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdist.scheduler import LoadScopeScheduling


@dataclass(frozen=True)
class Group:
    """The tests of the directory that share what that fixture makes are all in these files."""

    directory: str
    fixture: str
    files: tuple[str, ...]

    def has(self, file: str) -> bool:
        return any(file == f"tests/{self.directory}/test_{name}.py" for name in self.files)


GROUPS = (
    Group("integration", "instance", ("doors", "draining", "job_control", "jobs", "services")),
    Group("survival", "short_site", ("machines", "trouble")),
    Group("survival", "long_site", ("load", "parts", "service")),
)


def group_of(test: str) -> Group | None:
    """Of a test's id, or a file's path from the repository's root; None for one that shares nothing."""
    file = test.partition("::")[0]
    return next((group for group in GROUPS if group.has(file)), None)


class BySharing(LoadScopeScheduling):
    """A group is one unit, any other test is one of its own."""

    def _split_scope(self, nodeid: str) -> str:
        group = group_of(nodeid)
        return nodeid if group is None else f"{group.directory}: {group.fixture}"
