"""How much of everything a run does at once, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of everything at once."""

    concurrency: int  # requests in flight to one host, over all workers
    requests: int  # requests in flight here
    visits: int  # visits begun and not ended: requests, waits between attempts, proofs
    ahead: int = 400  # links leased before their visits can begin
    batch: int = 100  # of one host at a time: other workers may be done with theirs sooner
    aside: int = 400  # visits that are gone on with last
    group: int = 200  # outcomes recorded together
    group_seconds: float = 1.0  # how long a group may wait for its last one
    beat_seconds: float = 2.0
    glance_seconds: float = 0.1  # until who has nothing to do looks whether the others are done
    glance_growth: float = 1.25  # each glance after so much more than the one before: little of a wait is in vain
    starved_seconds: float = 0.25  # between beats of who waits for a share of anything at all
    renew_seconds: float = 30.0
    patience_seconds: float = 20.0  # a pause up to this long is waited out
    drain_seconds: float = 5.0  # what is in flight may take so long after a stop
