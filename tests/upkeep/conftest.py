from tests.databases import apart, database, database_url, either, peer
from tests.upkeep.shop import mood, shop

__all__ = ["apart", "database", "database_url", "either", "mood", "peer", "shop"]
