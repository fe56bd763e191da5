"""How long one outage of a database is borne: counted from its first failure, however long what failed had taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from sqlalchemy.exc import SQLAlchemyError

from rehost.clock import Clock
from rehost.db.errors import Elsewhere, Place, is_passing, sentence
from rehost.errors import OperatorError

FIRST_WAIT = 0.05
LONGEST_WAIT = 3.0


@dataclass(slots=True)
class OutageRetry:
    """One transaction's tries, or those of several that hold one connection."""

    clock: Clock
    random: Random
    place: Place
    error: type[OperatorError]
    seconds: Callable[[BaseException], float]  # for which a database that answers so is waited for
    _since: float | None = None
    _wait: float = FIRST_WAIT

    async def bear(self, caught: Exception) -> None:
        """Wait a moment, after which another try is worth it.

        Raises:
            OperatorError: what was caught does not pass, or has not passed for too long.
        """
        now = self.clock.monotonic()
        self._since = now if self._since is None else self._since
        if not is_passing(caught) or now - self._since >= self.seconds(caught):
            raise operator_error(caught, self.place, self.error) from caught
        await self.clock.sleep(self._wait * self.random.uniform(0.5, 1.5))
        self._wait = min(LONGEST_WAIT, self._wait * 2)

    def renew(self) -> None:
        """Begin anew: what failed has gone well since."""
        self._since, self._wait = None, FIRST_WAIT


def operator_error(caught: BaseException, place: Place, error: type[OperatorError]) -> OperatorError:
    """Return what a failure means for the operator, of the kind `error` unless it was another database's."""
    if isinstance(caught, Elsewhere):
        return caught.error(sentence(caught, caught.place))
    return error(sentence(caught, place))


def is_ours(error: Exception) -> bool:
    """Tell whether an error came from a database; drivers raise some of theirs, and the system's, unwrapped."""
    module = type(error).__module__
    return isinstance(error, Elsewhere | SQLAlchemyError | OSError) or module.startswith(("asyncpg", "sqlite3"))
