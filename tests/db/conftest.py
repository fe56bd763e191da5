from tests.databases import database, database_url, desk

__all__ = ["database", "database_url", "desk"]
