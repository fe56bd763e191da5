"""What every sharing of hosts must do; `shares` is the fixture to be given."""

from rehost.hosts.daily_quota import Draw


class HostSharesContract:
    async def test_a_days_budget_is_drawn_once_and_given_back(self, shares):
        taken = 0
        for _ in range(12):
            taken += (drawn := (await shares.draw({"a.test": Draw(10, 4)}))["a.test"]).number
        assert taken == 10
        assert (await shares.draw({"a.test": Draw(10, 4), "b.test": Draw(10, 1)}))["b.test"].number == 1
        assert 0 < drawn.seconds <= 86400

        assert await shares.draw({"a.test": Draw(10, -3, drawn.day)}) == {}
        again = [(await shares.draw({"a.test": Draw(10, 4)}))["a.test"].number for _ in range(4)]
        assert sum(again) == 3

    async def test_an_unproven_host_has_one_slot_and_a_proven_one_what_it_bears(self, shares):
        first = (await shares.shares({"a.test": 5}))["a.test"]
        await shares.allow("a.test", 3, proven=True)
        then = (await shares.shares({"a.test": 5}))["a.test"]
        await shares.allow("a.test", 2)
        last = (await shares.shares({"a.test": 5}, {"a.test": 0}))["a.test"]

        assert (first.slots, first.proven) == (1, False)
        assert (then.slots, then.allowance, then.proven) == (3, 3, True)
        assert (last.slots, last.allowance, last.proven) == (2, 2, True)
