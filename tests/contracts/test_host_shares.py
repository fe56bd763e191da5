import pytest
from tests.contracts.host_shares import HostSharesContract
from tests.fakes import FakeHostShares

from rehost.hosts.shares import HostShares


class TestFakeHostShares(HostSharesContract):
    @pytest.fixture
    def shares(self):
        return FakeHostShares()


class TestHostShares(HostSharesContract):
    @pytest.fixture
    def shares(self, database):
        return HostShares(database, worker="one", concurrency=10, lease_seconds=60.0)
