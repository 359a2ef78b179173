"""Writing status: what the object says of itself, and what became of each Rollback.

A status that says the same is not written again. Numbers that merely move, like the value of a gate, are no news; they
are refreshed now and then.
"""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from strategyrollout.api.meta import API_VERSION, MANAGER_STATUS
from strategyrollout.api.rollback import RollbackStatus
from strategyrollout.api.status import RolloutStatus
from strategyrollout.cluster.cache import Body, Cache, uid_of
from strategyrollout.cluster.client import Api, ApiError, Conflict, NotFound
from strategyrollout.cluster.kinds import ROLLBACKS, ROLLOUTS, Kind
from strategyrollout.ports import Key, Unavailable

_LIVE = ("value", "sampledAt", "message")
_REFRESHES_A_SECOND = 8


class Reporter:
    """`live_numbers`: seconds between refreshes of numbers; longer when there are many rollouts to refresh."""

    def __init__(self, api: Api, cache: Cache, live_numbers: float, clock: Callable[[], float] = monotonic) -> None:
        self._api = api
        self._cache = cache
        self._live_numbers = live_numbers
        self._clock = clock
        self._written: dict[Key, float] = {}

    async def status(self, key: Key, rollout: Body, status: RolloutStatus) -> float | None:
        """Writes the status if it is news; returns in how many seconds its numbers should be refreshed, if any.

        Raises `Unavailable`.
        """
        wanted, there = status.to_json(), rollout.get("status") or {}
        interval = max(self._live_numbers, len(self._written) / _REFRESHES_A_SECOND)
        due = self._written.get(key, float("-inf")) + interval - self._clock()
        if _steady(wanted) != _steady(there) or (wanted != there and due <= 0):
            await self._write(ROLLOUTS, "StrategyRollout", rollout, wanted)
            self._written[key] = self._clock()
            due = interval
        return max(due, 0.1) if wanted.get("gates") else None

    async def rollbacks(self, key: Key, outcomes: Mapping[str, RollbackStatus]) -> None:
        """Writes the outcomes that are news. Raises `Unavailable`."""
        for name, outcome in outcomes.items():
            body = self._cache.get(ROLLBACKS, key.namespace, name)
            if body is None:
                continue
            status = body.get("status") or {}
            # The answer stays as it was given: what followed later must not take its times away.
            if status.get("outcome") in (None, "Running") and status != outcome.to_json():
                await self._write(ROLLBACKS, "Rollback", body, outcome.to_json())

    async def refuse_orphans(self, key: Key) -> None:
        """Answers Rollbacks that name a rollout which certainly does not exist. Raises `Unavailable`."""
        for body in self._cache.all(ROLLBACKS, key.namespace):
            if body["spec"].get("rollout") != key.name or (body.get("status") or {}).get("outcome"):
                continue
            try:
                await self._api.get(ROLLOUTS.path(key.namespace, key.name))
                return  # it came after all; its own pass will answer
            except NotFound:
                message = f"there is no StrategyRollout {key.name} in namespace {key.namespace}"
                outcome = RollbackStatus(outcome="Refused", message=message)
                await self._write(ROLLBACKS, "Rollback", body, outcome.to_json())

    def forget(self, key: Key) -> None:
        """The rollout is gone."""
        self._written.pop(key, None)

    async def _write(self, kind: Kind, word: str, body: Body, status: dict[str, Any]) -> None:
        meta = body["metadata"]
        # The UID keeps the report of a deleted object off its namesake.
        named = {"name": meta["name"], "namespace": meta["namespace"], "uid": uid_of(body)}
        written = {"apiVersion": API_VERSION, "kind": word, "metadata": named, "status": status}
        path = kind.path(meta["namespace"], meta["name"], "status")
        try:
            self._cache.put(kind, await self._api.apply(path, written, manager=MANAGER_STATUS))
        except (NotFound, Conflict):
            return  # it is gone, or another one by now
        except ApiError as error:
            raise Unavailable(f"{path}: {error}") from error


def _steady(status: Mapping[str, Any]) -> dict[str, Any]:
    """A status without the numbers that merely move."""
    gates = [{k: v for k, v in gate.items() if k not in _LIVE} for gate in status.get("gates") or []]
    return {**status, "gates": gates}
