"""What every memory of origins must do, as far as learning rests on it; `origins` is the fixture to be given."""

from datetime import UTC, datetime

from rehost.model import Rule
from rehost.ports import Draw, Spending

ORIGIN = "https://oss.adquan.com"
OTHER = "https://file.adquan.com"
RULE = Rule(ORIGIN, "site", "none: status 403; site: a picture", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


class OriginsContract:
    async def test_a_rule_is_the_last_one_learned_until_it_is_forgotten(self, origins):
        assert await origins.rule(ORIGIN) is None

        await origins.learned(Rule(ORIGIN, "none", "a picture", RULE.learned_at))
        await origins.learned(RULE)
        assert await origins.rule(ORIGIN) == RULE
        assert await origins.rule(OTHER) is None

        assert not await origins.forget_rule(ORIGIN, "none")
        assert await origins.rule(ORIGIN) == RULE
        assert await origins.forget_rule(ORIGIN, "site")
        assert not await origins.forget_rule(OTHER, "site")
        assert await origins.rule(ORIGIN) is None

    async def test_decoys_add_up_and_belong_to_their_origin(self, origins):
        for digest in ("a" * 64, "b" * 64, "a" * 64):
            await origins.add_decoy(ORIGIN, digest, "comes for a path where nothing is")
        await origins.forget_rule(ORIGIN, "site")

        assert await origins.decoys(ORIGIN) == {"a" * 64, "b" * 64}
        assert await origins.decoys(OTHER) == frozenset()

    async def test_extra_requests_are_counted_until_a_rule_is_forgotten(self, origins):
        await origins.learned(RULE)
        assert [await origins.spend(ORIGIN, 4, "site") for _ in range(5)] == [Spending.GRANTED] * 4 + [Spending.USED_UP]
        assert await origins.spend(ORIGIN, 5, "site") is Spending.GRANTED
        assert await origins.spend(ORIGIN, 5, "site") is Spending.USED_UP
        assert await origins.spend(OTHER, 5, None) is Spending.GRANTED

        assert not await origins.forget_rule(ORIGIN, "none")
        assert await origins.spend(ORIGIN, 5, "site") is Spending.USED_UP
        assert await origins.spend(ORIGIN, 5, "none") is Spending.ELSEWHERE
        assert await origins.forget_rule(ORIGIN, "site")
        assert [await origins.spend(ORIGIN, 5, None) for _ in range(6)] == [Spending.GRANTED] * 5 + [Spending.USED_UP]

        await origins.refresh_budget(ORIGIN, 0.0)
        assert await origins.spend(ORIGIN, 5, None) is Spending.GRANTED

    async def test_a_days_budget_is_drawn_once_and_given_back(self, origins):
        taken = 0
        for _ in range(12):
            taken += (drawn := (await origins.draw({"a.test": Draw(10, 4)}))["a.test"]).number
        assert taken == 10
        assert (await origins.draw({"a.test": Draw(10, 4), "b.test": Draw(10, 1)}))["b.test"].number == 1
        assert 0 < drawn.seconds <= 86400

        assert await origins.draw({"a.test": Draw(10, -3, drawn.day)}) == {}
        again = [(await origins.draw({"a.test": Draw(10, 4)}))["a.test"].number for _ in range(4)]
        assert sum(again) == 3

    async def test_an_unproven_host_has_one_slot_and_a_proven_one_what_it_bears(self, origins):
        first = (await origins.shares({"a.test": 5}))["a.test"]
        await origins.allow("a.test", 3, proven=True)
        then = (await origins.shares({"a.test": 5}))["a.test"]
        await origins.allow("a.test", 2)
        last = (await origins.shares({"a.test": 5}, {"a.test": 0}))["a.test"]

        assert (first.slots, first.proven) == (1, False)
        assert (then.slots, then.allowance, then.proven) == (3, 3, True)
        assert (last.slots, last.allowance, last.proven) == (2, 2, True)
