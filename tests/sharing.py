"""Which tests share what only one process has: an instance, or a site that is made to suffer.

pytest-xdist gives a worker one unit of tests after the other (`make test` says `--dist loadgroup`). Its own way to
group them, a suffix to the test's id, has no effect with pytest 9.2, which keeps ids elsewhere: each worker then starts
an instance and a site. So the groups are told here, by file; tests/conftest.py sees that each test is in its own.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

GROUPS = {
    "integration": ("instance", ("doors", "draining", "job_control", "jobs", "services")),
    "survival": ("shared_site", ("load", "machines", "parts", "service", "trouble")),
}
"""By directory: the fixture that is shared, and the files all of whose tests share it."""


def group_of(test: str) -> str | None:
    """Of a test's id, or a file's path from the repository's root; None for one that shares nothing."""
    file = test.partition("::")[0]
    for directory, (_, names) in GROUPS.items():
        if any(file == f"tests/{directory}/test_{name}.py" for name in names):
            return directory
    return None


class BySharing(LoadScopeScheduling):
    """A group is one unit, any other test is one of its own."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid) or nodeid
