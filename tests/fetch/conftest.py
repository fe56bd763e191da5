from tests.http.conftest import fetch, origin, spool

__all__ = ["fetch", "origin", "spool"]
