from tests.databases import apart, database, database_url, either, peer

__all__ = ["apart", "database", "database_url", "either", "peer"]
