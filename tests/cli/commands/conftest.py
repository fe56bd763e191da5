from tests.journeys.conftest import fork_server

__all__ = ["fork_server"]
