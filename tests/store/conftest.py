import pytest

from rehost.clock import SystemClock
from rehost.store.local import LocalStore


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data" / "images"


@pytest.fixture
async def store(root):
    async with LocalStore(root, clock=SystemClock()) as store:
        yield store
