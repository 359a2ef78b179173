"""One rollout read into the operator's own cache, by lists and once a look, so that its own eyes can see it.

An operator follows thousands of rollouts by watches; a command looks at one for a minute. Everything after the reading
(what is stored, who is open, who has confirmed what and since when) is the operator's code.
"""

from __future__ import annotations

from contextlib import suppress

from strategyrollout.api.meta import LABEL_ROLLOUT_UID
from strategyrollout.cli.asking import Asking
from strategyrollout.cluster.assignments import Assignments
from strategyrollout.cluster.background import Background
from strategyrollout.cluster.cache import Body, Cache, uid_of, version_of
from strategyrollout.cluster.client import Forbidden
from strategyrollout.cluster.consumers import ConsumerLeases
from strategyrollout.cluster.inputs import parse_spec
from strategyrollout.cluster.kinds import DEPLOYMENTS, LEASES, REVISIONS, ROLLBACKS, ROLLOUTS, Kind
from strategyrollout.cluster.pods import PodTroubles
from strategyrollout.cluster.serving import Seen, Serving
from strategyrollout.ports import Key


class Reading:
    """Remembers from look to look what an operator would: when an acknowledgement was first seen, who was lost."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self.key = Key(asking.namespace, asking.name)
        self.background = Background()
        self._cache = Cache(lambda _: (), self._changed)
        self.assignments = Assignments(asking.api, self._cache, asking.now)
        self.consumers = ConsumerLeases(asking.api, asking.now)
        self._serving = Serving(
            cache=self._cache,
            assignments=self.assignments,
            consumers=self.consumers,
            pods=PodTroubles(asking.api, self.background, lambda _: None),
            background=self.background,
            now=asking.now,
        )

    async def look(self) -> Seen:
        """The rollout as it is now. Raises `ApiError`, `Unavailable` and `Failed`."""
        rollout = await self._asking.rollout()
        self._cache.put(ROLLOUTS, rollout)
        mine = f"{LABEL_ROLLOUT_UID}={uid_of(rollout)}"
        for kind in (REVISIONS, DEPLOYMENTS, LEASES):
            await self._read(kind, mine)
        with suppress(Forbidden):  # whoever has asked in vain is then answered by the next operator
            await self._read(ROLLBACKS, "")
        self.assignments.distrust(self.key)
        return await self._serving.look(self.key, rollout, *parse_spec(rollout))

    async def _read(self, kind: Kind, labels: str) -> None:
        found = await self._asking.api.list(kind.path(self.key.namespace), labels=labels)
        items = found.get("items") or []
        for item in items:
            self._cache.put(kind, item)
        self._cache.keep_only(kind, self.key.namespace, {uid_of(item) for item in items}, version_of(found))

    def _changed(self, kind: Kind, old: Body | None, new: Body | None) -> None:
        if kind is LEASES and new is not None:
            self.consumers.saw(new)
        elif kind is LEASES and old is not None:
            self.consumers.gone(old)
