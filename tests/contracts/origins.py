"""What every origin repository promises: a test class inherits this and gives an `origins` fixture."""

from datetime import UTC, datetime

from rehost.hotlink.repository import Evidence, Spending
from rehost.model import Rule

ORIGIN = "https://oss.adquan.com"
OTHER = "https://file.adquan.com"
FOLDER = "/x/"
RULE = Rule(ORIGIN, "site", "no Referer: status 403; site: picture", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


class OriginsContract:
    async def test_a_rule_is_the_last_one_learned_until_it_is_forgotten(self, origins):
        assert await origins.rule(ORIGIN) is None

        await origins.save_rule(Rule(ORIGIN, "none", "a picture", RULE.learned_at))
        await origins.save_rule(RULE)
        assert await origins.rule(ORIGIN) == RULE
        assert await origins.rule(OTHER) is None

        assert not await origins.forget_rule(ORIGIN, "none")
        assert await origins.rule(ORIGIN) == RULE
        assert await origins.forget_rule(ORIGIN, "site")
        assert not await origins.forget_rule(OTHER, "site")
        assert await origins.rule(ORIGIN) is None

    async def test_decoys_add_up_and_belong_to_their_origin_and_folder(self, origins):
        for digest, folder in (("a" * 64, "/x/"), ("b" * 64, "/x/"), ("a" * 64, "/y/*"), ("a" * 64, "/x/")):
            await origins.add_decoy(ORIGIN, folder, digest, "comes for a path where nothing is")
        await origins.forget_rule(ORIGIN, "site")

        assert await origins.decoys(ORIGIN) == {"a" * 64: {"/x/", "/y/*"}, "b" * 64: {"/x/"}}
        assert await origins.decoys(OTHER) == {}

    async def test_decoy_is_confirmed_in_one_folder_only(self, origins):
        assert await origins.evidence(ORIGIN, "/x/", "a" * 64) is Evidence.NONE

        for folder in ("/x/", "/y/"):
            await origins.add_decoy(ORIGIN, folder, "a" * 64, "comes for a path where nothing is")
        assert await origins.evidence(ORIGIN, "/x/", "a" * 64) is Evidence.FIRST

        await origins.confirm_decoy(ORIGIN, "/x/", "a" * 64)
        await origins.add_decoy(ORIGIN, "/x/", "a" * 64, "comes for a path where nothing is")
        assert await origins.evidence(ORIGIN, "/x/", "a" * 64) is Evidence.CONFIRMED
        assert await origins.evidence(ORIGIN, "/y/", "a" * 64) is Evidence.FIRST
        assert await origins.evidence(OTHER, "/x/", "a" * 64) is Evidence.NONE

    async def test_extra_requests_are_counted_until_a_rule_is_forgotten(self, origins):
        await origins.save_rule(RULE)
        assert [await origins.spend(ORIGIN, FOLDER, 4, 15, "site") for _ in range(5)] == [Spending.GRANTED] * 4 + [
            Spending.USED_UP
        ]
        assert await origins.spend(ORIGIN, FOLDER, 5, 15, "site") is Spending.GRANTED
        assert await origins.spend(ORIGIN, FOLDER, 5, 15, "site") is Spending.USED_UP
        assert await origins.spend(OTHER, FOLDER, 5, 15, None) is Spending.GRANTED

        assert not await origins.forget_rule(ORIGIN, "none")
        assert await origins.spend(ORIGIN, FOLDER, 5, 15, "site") is Spending.USED_UP
        assert await origins.spend(ORIGIN, FOLDER, 5, 15, "none") is Spending.ELSEWHERE
        assert await origins.forget_rule(ORIGIN, "site")
        assert [await origins.spend(ORIGIN, FOLDER, 5, 15, None) for _ in range(6)] == [Spending.GRANTED] * 5 + [
            Spending.USED_UP
        ]

        await origins.renew_budget(ORIGIN, 0.0)
        assert await origins.spend(ORIGIN, FOLDER, 5, 15, None) is Spending.GRANTED
