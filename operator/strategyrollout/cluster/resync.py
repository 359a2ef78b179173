"""Puts the cache right by lists, because watches lose changes and nobody tells.

`fill` reads everything once. `compare` reads names and versions alone, fetches what differs and removes what is gone;
it costs little, so it runs every few seconds for what traffic depends on and every few minutes for everything. A watch
begins where one of these lists ended (`listed`), so nothing is read twice.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from strategyrollout.cluster.cache import Body, Cache, name_of, uid_of, version_of
from strategyrollout.cluster.client import Api, ApiError, NotFound
from strategyrollout.cluster.kinds import CONFIGMAPS, OURS, ROLLOUTS, ROUTERS, WATCHED, Kind
from strategyrollout.ports import Unavailable

_log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
Read = Callable[[Kind, str | None], Awaitable[str]]
"""Takes in a list of a kind in a namespace, or in all (None), and returns its resourceVersion."""

AT_ONCE = 16
_WHOLE_LIST = 60.0  # seconds; of thousands of rollouts it is tens of megabytes
_TURN = 100
_FEW = 50
_OVER = "status.phase!=Running,status.phase!=Pending"


class Resync:
    """`missed(kind)` is called for each change that the watches had not brought. `namespaces` empty: all.

    `selector`: labels of the rollouts that are looked after; empty: all.
    """

    def __init__(
        self, api: Api, cache: Cache, namespaces: Sequence[str], missed: Callable[[Kind], None], selector: str = ""
    ) -> None:
        self._api = api
        self._cache = cache
        self._namespaces = tuple(namespaces)
        self._missed = missed
        self._selector = selector
        self.failing: dict[Kind, str] = {}
        """Kinds whose latest list failed, and why; for readiness."""
        self._filled = asyncio.Event()
        self._versions: dict[tuple[Kind, str | None], str] = {}

    @property
    def filled(self) -> bool:
        """Whether everything was read once."""
        return self._filled.is_set()

    async def fill(self) -> None:
        """Reads everything once; repeat it until `filled`."""
        rollouts = asyncio.Event()
        await asyncio.gather(*(self._fill(kind, rollouts) for kind in WATCHED))
        if not self.failing:
            self._filled.set()

    async def _fill(self, kind: Kind, rollouts: asyncio.Event) -> None:
        """All kinds at once: while one list is taken in, others are made. `rollouts` is set once those are known."""
        special: dict[Kind, Read] = {
            CONFIGMAPS: partial(self._read_configmaps, rollouts),
            ROUTERS: self._read_routers,
        }

        async def work(kind: Kind, namespace: str | None) -> None:
            self._versions[kind, namespace] = await special.get(kind, self._read_all)(kind, namespace)

        for namespace in self._scopes(kind):
            await self._guarded(kind, namespace, work)
        if kind is ROLLOUTS:
            rollouts.set()

    async def listed(self, kind: Kind, namespace: str | None) -> str:
        """The resourceVersion of a list that the cache has taken in: the first one's, then that of a new comparison.

        Waits until everything was read once. Raises Unavailable when there is no list to be had.
        """
        await self._filled.wait()
        first = self._versions.pop((kind, namespace), "")
        return first or await self._told(kind, self._compare(kind, namespace))

    async def compare(self, kinds: Sequence[Kind]) -> None:
        """Finds what the cache has missed of these kinds."""
        for kind in kinds:
            for namespace in self._scopes(kind):
                await self._guarded(kind, namespace, self._compare)

    def _scopes(self, kind: Kind) -> Sequence[str | None]:
        return self._namespaces if self._namespaces and kind.namespaced else (None,)

    def _labels(self, kind: Kind) -> str:
        return self._selector if kind is ROLLOUTS else kind.selector

    async def _guarded(
        self, kind: Kind, namespace: str | None, work: Callable[[Kind, str | None], Awaitable[object]]
    ) -> None:
        with contextlib.suppress(Unavailable):
            await self._told(kind, work(kind, namespace))

    async def _told(self, kind: Kind, work: Awaitable[Answer]) -> Answer:
        """The list's answer. Whatever one object holds, a failure is told and is `Unavailable`, so all others go on."""
        try:
            answer = await work
        except Exception as error:
            if self.failing.get(kind) != str(error):
                expected = isinstance(error, ApiError | Unavailable)
                _log.warning("cannot list %s: %s", kind, error, exc_info=None if expected else error)
            self.failing[kind] = str(error)
            raise Unavailable(str(error)) from error
        self.failing.pop(kind, None)
        return answer

    async def _read_all(self, kind: Kind, namespace: str | None) -> str:
        found = await self._api.list(kind.path(namespace), labels=self._labels(kind), timeout=_WHOLE_LIST)
        items = found.get("items") or []
        await self._take_in(kind, items)
        self._keep_only(kind, namespace, found, items)
        return str(found["metadata"]["resourceVersion"])

    async def _read_configmaps(self, rollouts: asyncio.Event, kind: Kind, namespace: str | None) -> str:
        """Ours by one list; of all others the names tell which a rollout mentions."""
        ours = await self._api.list(kind.path(namespace), labels=OURS, timeout=_WHOLE_LIST)
        await self._take_in(kind, ours.get("items") or [])
        await rollouts.wait()
        return await self._compare(kind, namespace)

    async def _read_routers(self, kind: Kind, namespace: str | None) -> str:
        """Pods that run by their names, which is all that anybody asks of them; whole those that may have ended."""
        path, labels = kind.path(namespace), self._labels(kind)
        found = await self._api.list(path, labels=labels, metadata_only=True, timeout=_WHOLE_LIST)
        # Asked for afterwards, so that none ends between the two unseen: a watch will begin at the first.
        over = await self._api.list(path, labels=labels, fields=_OVER, timeout=_WHOLE_LIST)
        await self._take_in(kind, over.get("items") or [])
        items = found.get("items") or []
        limit = asyncio.Semaphore(AT_ONCE)
        ending = [item for item in items if item["metadata"].get("deletionTimestamp")]
        await asyncio.gather(*(self._fetch(kind, item, limit) for item in ending))
        await self._take_in(kind, [item for item in items if not item["metadata"].get("deletionTimestamp")])
        self._keep_only(kind, namespace, found, items)
        return str(found["metadata"]["resourceVersion"])

    async def _take_in(self, kind: Kind, items: Sequence[Body]) -> None:
        for number, item in enumerate(items):
            self._cache.put(kind, item)
            if number % _TURN == 0:
                await asyncio.sleep(0)  # for the next list, and for everybody else

    async def _compare(self, kind: Kind, namespace: str | None) -> str:
        found = await self._api.list(kind.path(namespace), labels=self._labels(kind), metadata_only=True)
        items = found.get("items") or []
        stale = [item for item in items if self._differs(kind, item)]
        if stale and self.filled:
            # A watch may be a moment behind and is then no loss; what is still unknown after that moment is one.
            await asyncio.sleep(0.2)
            stale = [item for item in stale if self._differs(kind, item)]
            for item in stale:
                _log.info("%s %s/%s changed unnoticed", kind, *name_of(item))
                self._missed(kind)
        if len(stale) > _FEW and kind is not CONFIGMAPS:
            return await self._read_all(kind, namespace)
        limit = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._fetch(kind, item, limit) for item in stale))
        self._keep_only(kind, namespace, found, items)
        return str(found["metadata"]["resourceVersion"])

    def _differs(self, kind: Kind, item: Body) -> bool:
        known = self._cache.get(kind, *name_of(item))
        if known is not None:
            return version_of(known) < version_of(item)
        return self._cache.wants(kind, item)

    def _keep_only(self, kind: Kind, namespace: str | None, found: Body, items: Sequence[Body]) -> None:
        removed = self._cache.keep_only(kind, namespace, {uid_of(item) for item in items}, version_of(found))
        for _ in range(removed if self.filled else 0):
            self._missed(kind)

    async def _fetch(self, kind: Kind, item: Body, limit: asyncio.Semaphore) -> None:
        namespace, name = name_of(item)
        async with limit:
            try:
                self._cache.put(kind, await self._api.get(kind.path(namespace, name)))
            except NotFound:
                self._cache.remove(kind, item)
