"""Kopf, and nothing else knows Kopf: it watches, we cache and queue.

Only `on.event` is used, with null storages: Kopf then never writes to an object, keeps no state and runs no timers.
What its conveniences cost and how they fail was measured before they were left out (docs/decisions). Nor does it list:
a watch begins where our own list of the kind ended, and what a watch has lost is found by a list of ours again.
"""

import asyncio
import datetime
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import kopf
from kopf._cogs.clients import fetching
from kopf._core.reactor.inventory import ResourceMemories  # a parameter of the public `spawn_tasks`

from strategyrollout.cluster.access import Access
from strategyrollout.cluster.cache import Body, Cache
from strategyrollout.cluster.kinds import ROLLOUTS, ROUTERS, WATCHED, Kind
from strategyrollout.ports import Unavailable

Listed = Callable[[Kind, str | None], Awaitable[str]]
"""(kind, namespace or None for all) -> the resourceVersion of a list that the cache has taken in."""

_CREDENTIALS_AGE = datetime.timedelta(minutes=10)
_LOGIN_AGAIN = 2.0
_LIST_AGAIN = 1.0
_WATCHER = "watcher for "


class NullDiffBase(kopf.DiffBaseStorage):  # type: ignore[misc]
    """Remembers nothing: what changed is found by looking, not by comparing annotations."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        """The essence of an object: nothing."""
        return {}

    def fetch(self, *, body: Any) -> Any:
        """Nothing was stored."""
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Nothing is stored."""


class NullProgress(kopf.ProgressStorage):  # type: ignore[misc]
    """Remembers nothing: there are no handlers whose progress could be kept."""

    def fetch(self, *, key: Any, body: Any) -> Any:
        """Nothing was stored."""
        return None

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        """Nothing is stored."""

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        """Nothing is there."""

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        """Nothing is touched."""

    def clear(self, *, essence: Any) -> Any:
        """The essence as it is."""
        return essence


class NullMemories(ResourceMemories):  # type: ignore[misc]
    """Remembers nothing: what Kopf keeps of every object it ever saw is for daemons and retries, and there are none."""

    async def recall(self, raw_body: Any, *, ephemeral: bool = False, **words: Any) -> Any:
        """A memory that is not kept."""
        return await super().recall(raw_body, ephemeral=True, **words)


class EndlessDelays:
    """Seconds between attempts of Kopf's own requests, without end: giving up would end the process."""

    def __iter__(self) -> Iterator[float]:
        delay = 0.2
        while True:
            yield delay * random.uniform(0.75, 1.25)
            delay = min(delay * 2, 10.0)


def settings(selector: str = "") -> kopf.OperatorSettings:
    """Kopf's settings for a process that only watches; of rollouts those with the labels of `selector`."""
    made = kopf.OperatorSettings()
    made.peering.standalone = True
    made.posting.enabled = False
    made.scanning.disabled = True
    made.persistence.diffbase_storage = NullDiffBase()
    made.persistence.progress_storage = NullProgress()
    # Kopf's inactivity time-out can end a watcher for good without a word; streams are bounded by these instead.
    made.watching.inactivity_timeout = 1e9
    made.watching.server_timeout = 60
    made.watching.client_timeout = 75
    made.watching.connect_timeout = 5
    for kind in WATCHED:
        if labels := selector if kind is ROLLOUTS else kind.selector:
            made.watching.label_selectors[kind.group, kind.version, kind.plural] = labels
    made.networking.request_timeout = 15
    made.networking.connect_timeout = 3
    made.networking.error_backoffs = EndlessDelays()
    made.queueing.idle_timeout = 0.05
    made.queueing.worker_limit = None
    made.process.ultimate_exiting_timeout = None
    return made


def registry(cache: Cache, access: Callable[[], Access]) -> kopf.OperatorRegistry:
    """The handlers: who we are, and one `on.event` a kind that puts what comes into the cache."""
    made = kopf.OperatorRegistry()

    @kopf.on.login(registry=made)  # type: ignore[untyped-decorator]
    async def login(**_: Any) -> kopf.ConnectionInfo:
        try:
            now = await asyncio.to_thread(access)
        except Exception as error:  # whatever the loader of a kubeconfig raises; Kopf alone would wait for a minute
            raise kopf.TemporaryError(f"no credentials: {error}", delay=_LOGIN_AGAIN) from error
        return kopf.ConnectionInfo(
            server=now.host,
            ca_path=str(now.ca) if now.ca else None,
            insecure=not now.verify,
            token=now.token or None,
            certificate_path=str(now.certificate) if now.certificate else None,
            private_key_path=str(now.key) if now.key else None,
            expiration=datetime.datetime.now(datetime.UTC) + _CREDENTIALS_AGE,
        )

    for kind in WATCHED:
        _watch(made, cache, kind)
    return made


def _watch(made: kopf.OperatorRegistry, cache: Cache, kind: Kind) -> None:
    async def take(event: Any, **_: Any) -> None:
        body: Body = event["object"]
        if event["type"] == "DELETED":
            if kind is ROUTERS:  # Kopf may have left out the change before, which tells how it ended
                cache.put(kind, body)
            cache.remove(kind, body)
        else:
            cache.put(kind, body)

    kopf.on.event(kind.group, kind.version, kind.plural, registry=made, id=f"cache-{kind.plural}")(take)


def watchers(namespaces: int) -> tuple[int, int]:
    """How many watcher tasks are alive, and how many there should be for so many namespaces (0: all)."""
    alive = sum(1 for task in asyncio.all_tasks() if task.get_name().startswith(_WATCHER) and not task.done())
    return alive, sum(max(1, namespaces) if kind.namespaced else 1 for kind in WATCHED)


def listing(listed: Listed) -> Callable[..., AsyncIterator[tuple[list[Body], str]]]:
    """What Kopf calls before it watches a kind, and again when the server has forgotten where the watch was.

    Its own reads every object and hands them on one by one; here they are in the cache already. It never reports what
    was deleted in between either, and our lists do.
    """
    kinds = {(kind.group, kind.version, kind.plural): kind for kind in WATCHED}

    async def fetch_objs(*, resource: Any, namespace: str | None, **_: Any) -> AsyncIterator[tuple[list[Body], str]]:
        try:
            version = await listed(kinds[resource.group, resource.version, resource.plural], namespace)
        except Unavailable as error:
            await asyncio.sleep(_LIST_AGAIN * random.uniform(0.75, 1.25))
            raise TimeoutError(str(error)) from error  # the one error after which Kopf begins anew, without end
        yield [], version

    return fetch_objs


async def run(
    cache: Cache,
    access: Callable[[], Access],
    namespaces: tuple[str, ...],
    stop: asyncio.Event,
    started: Callable[[], object],
    *,
    listed: Listed,
    selector: str = "",
) -> None:
    """Watches until `stop` is set, or for ever. Returning before that, or raising, means that watching has failed.

    `started` is called once Kopf has set its signal handlers, so that they can be replaced. Tasks that begin after the
    call and still run at its end are taken for Kopf's own and cancelled: end yours first.
    """
    fetching.fetch_objs = listing(listed)  # there is no setting for it; tests see to it that Kopf lists nothing
    before = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=registry(cache, access),
        settings=settings(selector),
        memories=NullMemories(),
        clusterwide=not namespaces,
        namespaces=namespaces,
        standalone=True,
        stop_flag=stop,
        identity="strategyrollout",  # for peering, which is off; Kopf would ask for the user's name, and ours has none
    )
    started()
    await kopf.run_tasks(tasks, ignored=before)
