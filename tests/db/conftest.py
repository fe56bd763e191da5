from tests.databases import database, database_url, peer

__all__ = ["database", "database_url", "peer"]
