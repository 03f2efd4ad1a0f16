from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.api_site import Site, make_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """An API that allows two long polls at once."""
    site = make_site(tmp_path, max_waits=2)
    with site.http:
        yield site
