import pytest

from samseg.runs.hub.pull import _fetched
from tests.hub_server import hub


@pytest.fixture
def server(tmp_path):
    """A hub that knows nothing, a machine that has nothing of it, and a process that has not asked it yet."""
    _fetched.cache_clear()
    with hub(tmp_path / "cache") as server:
        yield server
    _fetched.cache_clear()
