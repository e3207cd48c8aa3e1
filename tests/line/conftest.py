from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import Server, served


@pytest.fixture(scope="session")
def server(tiny_line: Path) -> Iterator[Server]:
    """The champion of the tiny line behind its server, for every module of the group `served`."""
    with served(tiny_line, OSTINATO_DRIFT_EVERY_S="1", OSTINATO_DRIFT_MIN_ROWS="5") as running:
        yield running
