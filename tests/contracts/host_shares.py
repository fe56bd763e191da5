"""What every class of host shares promises: a test class inherits this and gives a `shares` fixture."""


class HostSharesContract:
    async def test_an_unproven_host_has_one_slot_and_a_proven_one_what_it_bears(self, shares):
        first = (await shares.take({"a.test": 5}, {}))["a.test"]
        await shares.allow("a.test", 3, proven=True)
        then = (await shares.take({"a.test": 5}, {}))["a.test"]
        await shares.allow("a.test", 2)
        last = (await shares.take({"a.test": 5}, {"a.test": 0}))["a.test"]

        assert (first.slots, first.proven) == (1, False)
        assert (then.slots, then.allowance, then.proven) == (3, 3, True)
        assert (last.slots, last.allowance, last.proven) == (2, 2, True)


class DailyQuotaContract:
    async def test_a_budget_lets_so_many_requests_through_a_day(self, quota):
        taken = [await quota.take("a.test", 3) for _ in range(5)]

        assert taken[:3] == [None] * 3
        assert all(0 < seconds <= 86400 for seconds in taken[3:])
        assert await quota.take("b.test", 1) is None

    async def test_a_raised_budget_lets_more_requests_through_and_a_lowered_one_none(self, quota):
        for _ in range(3):
            await quota.take("a.test", 3)

        assert await quota.take("a.test", 2) is not None
        assert await quota.take("a.test", 4) is None
        assert await quota.take("a.test", 4) is not None
