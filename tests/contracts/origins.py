"""What every memory of origins must do, as far as learning rests on it; `origins` is the fixture to be given."""

from datetime import UTC, datetime

from rehost.model import Rule

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

        await origins.forget_rule(ORIGIN, "three links in a row are refused")
        await origins.forget_rule(OTHER, "nothing was known")
        assert await origins.rule(ORIGIN) is None

    async def test_decoys_add_up_and_belong_to_their_origin(self, origins):
        for digest in ("a" * 64, "b" * 64, "a" * 64):
            await origins.add_decoy(ORIGIN, digest, "comes for a path where nothing is")
        await origins.forget_rule(ORIGIN, "three links in a row are refused")

        assert await origins.decoys(ORIGIN) == {"a" * 64, "b" * 64}
        assert await origins.decoys(OTHER) == frozenset()

    async def test_an_unproven_host_has_one_slot_and_a_proven_one_what_it_bears(self, origins):
        first = (await origins.shares({"a.test": 5}))["a.test"]
        await origins.allow("a.test", 3, proven=True)
        then = (await origins.shares({"a.test": 5}))["a.test"]
        await origins.allow("a.test", 2)
        last = (await origins.shares({"a.test": 5}, {"a.test": 0}))["a.test"]

        assert (first.slots, first.proven) == (1, False)
        assert (then.slots, then.allowance, then.proven) == (3, 3, True)
        assert (last.slots, last.allowance, last.proven) == (2, 2, True)
