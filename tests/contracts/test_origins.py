import pytest
from tests.contracts.origins import OriginsContract
from tests.fakes import FakeOrigins

from rehost.hotlink.repository import SqlOrigins


class TestFakeOrigins(OriginsContract):
    @pytest.fixture
    def origins(self):
        return FakeOrigins()


class TestSqlOrigins(OriginsContract):
    @pytest.fixture
    def origins(self, database):
        return SqlOrigins(database, worker="one", lease_seconds=60.0)
