"""What waits while many revert at once, so that every candidate is stopped as early as the API server allows.

Each Freeze and its acknowledgements take from the same API server as everything else, so first things come first:

    Freeze, acknowledgements   never wait
    Grants                     until everybody else is stopped, five seconds at most: units that wait are frozen, units
                               of a candidate that still serves are at risk
    reports, children          until few reverts are left, ten seconds at most

A lone revert waits for nothing, nor do a few.
"""

from collections.abc import Callable
from time import monotonic

from strategyrollout.ports import Key

FEW = 8
UNDER_WAY = 5.0
LONGEST_POSTPONED = 10.0
LONGEST_HELD = 5.0


class Reverts:
    """`resume` is called for those that waited when only a few reverts are left. `clock` in seconds."""

    def __init__(self, resume: Callable[[Key, bool], None], clock: Callable[[], float] = monotonic) -> None:
        """`resume` is told a rollout, and whether its revert is still under way."""
        self._resume = resume
        self._clock = clock
        self._since: dict[Key, float] = {}  # oldest first, here and below
        self._stopping: dict[Key, float] = {}
        self._stopped: dict[Key, float] = {}
        self._postponed: dict[Key, float] = {}

    def wrote(self, key: Key, *, under_way: bool, ready: bool = False) -> None:
        """An assignment was written; with it a revert went on, or not (any more). `ready`: its target can take over."""
        self.forget_move(key)
        if under_way:
            self._since[key] = self._clock()
            if ready:
                self._stopping[key] = self._clock()
        elif not self._busy():
            for waiting in self._postponed:
                self._resume(waiting, False)

    def hold(self, key: Key, confirmed: Callable[[], bool]) -> float:
        """Seconds for which a rollout with a Freeze in force should wait for the Freezes of others; 0: not at all.

        `confirmed` is asked whether all its routers seem to have confirmed it.
        """
        since = self._stopping.get(key) or self._stopped.get(key)
        if since is None:
            return 0.0
        if key in self._stopping and confirmed():
            self._stopped[key] = self._stopping.pop(key)
            if not self._many_stopping():
                self._resume_held()
        if not self._many_stopping():
            return 0.0
        return max(0.0, since + LONGEST_HELD - self._clock())

    def postpone(self, key: Key) -> bool:
        """Whether the report about this rollout should wait. A revert that lasts counts for five seconds only, and no
        report waits for longer than ten."""
        now = self._clock()
        if not self._busy() or now - self._postponed.setdefault(key, now) > LONGEST_POSTPONED:
            self._postponed.pop(key, None)
            return False
        return True

    def forget(self, key: Key) -> None:
        """The rollout is gone."""
        self.forget_move(key)
        self._postponed.pop(key, None)

    def forget_move(self, key: Key) -> None:
        """Whatever was written about its revert is over."""
        for known in (self._since, self._stopping, self._stopped):
            known.pop(key, None)

    def _resume_held(self) -> None:
        for key in self._stopped:
            self._resume(key, True)

    def _busy(self) -> bool:
        return self._young(self._since, UNDER_WAY) > FEW

    def _many_stopping(self) -> bool:
        return self._young(self._stopping, LONGEST_HELD) > FEW

    def _young(self, known: dict[Key, float], age: float) -> int:
        while known:
            key, since = next(iter(known.items()))
            if self._clock() - since < age:
                break
            del known[key]
        return len(known)
