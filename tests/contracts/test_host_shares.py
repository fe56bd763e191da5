import pytest
from tests.contracts.host_shares import DailyQuotaContract, HostSharesContract
from tests.fakes import FakeDailyQuota, FakeHostShares

from rehost.hosts.shares import DailyQuota, HostShares


class TestFakeHostShares(HostSharesContract):
    @pytest.fixture
    def shares(self):
        return FakeHostShares()


class TestHostShares(HostSharesContract):
    @pytest.fixture
    def shares(self, database):
        return HostShares(database, worker="one", concurrency=10, lease_seconds=60.0)


class TestFakeDailyQuota(DailyQuotaContract):
    @pytest.fixture
    def quota(self):
        return FakeDailyQuota()


class TestDailyQuota(DailyQuotaContract):
    @pytest.fixture
    def quota(self, database):
        return DailyQuota(database)
