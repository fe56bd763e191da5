import pytest
from tests.contracts.origins import OriginsContract
from tests.fakes import FakeOriginRepository

from rehost.hotlink.repository import OriginRepository


class TestFakeOriginRepository(OriginsContract):
    @pytest.fixture
    def origins(self):
        return FakeOriginRepository()


class TestOriginRepository(OriginsContract):
    @pytest.fixture
    def origins(self, database):
        return OriginRepository(database, worker="one", lease_seconds=60.0)
