"""Children of a rollout as a decision wants them: revisions with their pods, and whatever routes to them.

What fails for one revision must not keep another from its pods (a revert waits for nothing of the failing side), so
revisions are applied side by side and every failure is reported after all have had their turn.
"""

import asyncio
import re
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import replace
from typing import Any

from strategyrollout.api.conditions import Reason
from strategyrollout.api.meta import LABEL_REVISION, MANAGER_TRAFFIC, MANAGER_WORKLOAD
from strategyrollout.cluster.cache import Cache, labels_of, uid_of
from strategyrollout.cluster.client import Api, ApiError, Body, Conflict, Forbidden, Invalid, NotFound
from strategyrollout.cluster.ensure import Ensurer, object_path, refusal
from strategyrollout.cluster.kinds import CONFIGMAPS, DEPLOYMENTS, REVISIONS, SERVICES, Kind
from strategyrollout.core.build import Children, Owner, child_name, children
from strategyrollout.core.observed import Problem
from strategyrollout.core.revision import Content, identified
from strategyrollout.ports import Unavailable

_UNKNOWN_FIELD = re.compile(r'(?:unknown|duplicate) field "([^"]+)"|: \.([^:\s]+): (?:field not|duplicate)')

# Said about admission webhooks with side effects; then the real write must tell.
_NO_DRY_RUN = "does not support dry run"


class Applier:
    """Writes children. One instance for all rollouts; one pass a rollout at a time."""

    def __init__(self, api: Api, cache: Cache) -> None:
        self._api = api
        self._cache = cache
        self._ensurer = Ensurer(api, cache)
        self._built: dict[str, dict[tuple[str, str, bool], Children]] = {}
        self._contents: dict[str, dict[str, Content]] = {}
        self._accepted: dict[str, set[tuple[str, str]]] = {}

    async def revisions(
        self, owner: Owner, replicas: Mapping[str, int], contents: Mapping[str, Content], *, port: str
    ) -> tuple[Problem, ...]:
        """Gives each revision its objects and its number of pods.

        `contents` is remembered: the record of a revision that somebody deleted is made again until `remove` is asked
        for. Raises `Unavailable` when something may work later, after everything else was done.
        """
        known = self._contents.setdefault(owner.uid, {})
        known.update(contents)
        wanted = [self._revision(owner, name, count, known.get(name), port) for name, count in replicas.items()]
        idle = [name for name in known if name not in replicas and self._has_objects(owner, name)]
        wanted += [self._record(owner, name, known[name], port) for name in idle]
        return await _all(wanted)

    async def objects(
        self, owner: Owner, bodies: Iterable[Body], manager: str = MANAGER_TRAFFIC
    ) -> tuple[Problem, ...]:
        """Applies other objects of the rollout (routers, a switched Service, gate snapshots), in the given order.

        What fails for one does not keep the next from its turn; raises `Unavailable` after the last one. A problem is
        told first, because it may be the cause: a binding cannot be made where its Role was refused.
        """
        problems: list[Problem] = []
        later: Unavailable | None = None
        for body in bodies:
            try:
                problem = await self._ensurer.ensure(owner, body, manager)
            except Unavailable as error:
                later = later or error
            else:
                problems += [problem] if problem is not None else []
        if later is not None and not problems:
            raise later
        return tuple(problems)

    async def scale(self, kind: Kind, live: Body, replicas: int) -> tuple[Problem, ...]:
        """Changes the number of pods and nothing else, of what cannot be made again as it was."""
        if live["spec"].get("replicas") == replicas:
            return ()
        meta = live["metadata"]
        try:
            await self._api.merge(kind.path(meta["namespace"], meta["name"]), {"spec": {"replicas": replicas}})
        except ApiError as error:
            return (refusal({**live, "kind": kind.plural}, error),)
        return ()

    async def dry_run(self, owner: Owner, revision: str, content: Content, *, port: str) -> Problem | None:
        """Asks the API server whether it would take the Deployment; a yes is remembered. Raises `Unavailable`."""
        accepted = self._accepted.setdefault(owner.uid, set())
        if (revision, port) in accepted:
            return None
        problem = await self._tried(self._children(owner, revision, content, port).deployment)
        if problem is None:
            accepted.add((revision, port))
        return problem

    async def remove(self, owner: Owner, revisions: Iterable[str]) -> None:
        """Deletes everything of these revisions; their records last, so that a crash in between is noticed."""
        gone = frozenset(revisions)
        if not gone:
            return
        for kind in (DEPLOYMENTS, SERVICES, CONFIGMAPS, REVISIONS):
            mine = [b for b in self._cache.children(kind, owner.uid) if labels_of(b).get(LABEL_REVISION) in gone]
            for body in mine:
                path = kind.path(owner.namespace, body["metadata"]["name"])
                await self._delete(path, uid_of(body))
                self._ensurer.removed(owner, path)
                if not body["metadata"].get("finalizers"):
                    self._cache.remove(kind, body)
        for name in gone:
            self._contents.get(owner.uid, {}).pop(name, None)
        built = self._built.get(owner.uid, {})
        for key in [key for key in built if key[0] in gone]:
            del built[key]

    def forget(self, uid: str) -> None:
        """The rollout is gone; its children go by garbage collection."""
        self._ensurer.forget(uid)
        self._built.pop(uid, None)
        self._contents.pop(uid, None)
        self._accepted.pop(uid, None)

    async def _delete(self, path: str, uid: str) -> None:
        try:
            await self._api.delete(path, uid=uid)
        except (NotFound, Conflict):
            return  # gone already, or another object by now
        except ApiError as error:
            raise Unavailable(f"DELETE {path}: {error}") from error

    def _children(self, owner: Owner, name: str, content: Content, port: str) -> Children:
        built = self._built.setdefault(owner.uid, {})
        variant = (name, port, content.kept is not None)
        if variant not in built:
            # Under the name it was given when it was new, whatever today's way of naming would say.
            revision = replace(identified(content), hash=name)
            made, shared = children(owner, revision, content, port=port), self._cache.shared
            built[variant] = Children(
                record=shared(made.record),
                copies=tuple(shared(copy) for copy in made.copies),
                service=shared(made.service),
                deployment=shared(made.deployment),
            )
        return built[variant]

    async def _revision(
        self, owner: Owner, name: str, replicas: int, content: Content | None, port: str
    ) -> Problem | None:
        if content is None:
            return await self._scale_only(owner, name, replicas)
        wanted = self._children(owner, name, content, port)
        steps = [(wanted.record, MANAGER_WORKLOAD)]
        steps += [(body, MANAGER_WORKLOAD) for body in wanted.copies]
        steps += [(wanted.service, MANAGER_TRAFFIC), (wanted.with_replicas(replicas), MANAGER_WORKLOAD)]
        for body, manager in steps:
            problem = await self._ensurer.ensure(owner, body, manager)
            if problem is not None:
                return problem
        return None

    def _has_objects(self, owner: Owner, name: str) -> bool:
        return self._cache.get(DEPLOYMENTS, owner.namespace, child_name(owner, name)) is not None

    async def _record(self, owner: Owner, name: str, content: Content, port: str) -> Problem | None:
        record = self._children(owner, name, content, port).record
        return await self._ensurer.ensure(owner, record, MANAGER_WORKLOAD)

    async def _scale_only(self, owner: Owner, name: str, replicas: int) -> Problem | None:
        """The record is lost, so nothing can be built; but pods that are needed for traffic must come all the same."""
        live = self._cache.get(DEPLOYMENTS, owner.namespace, child_name(owner, name))
        if live is not None and (problems := await self.scale(DEPLOYMENTS, live, replicas)):
            return problems[0]
        text = f"ControllerRevision {child_name(owner, name)} is gone, so this revision cannot be made again"
        return Problem(Reason.MISSING_INPUT, text)

    async def _tried(self, deployment: Body) -> Problem | None:
        collection = object_path(deployment).rpartition("/")[0]
        # Under a name of its own: the question is about the content, also when the Deployment exists.
        meta = {**deployment["metadata"], "generateName": "dry-run-"}
        del meta["name"]
        try:
            await self._api.create(collection, {**deployment, "metadata": meta}, dry_run=True, strict=True)
            # What POST takes with a warning (a repeated variable), apply refuses; nobody would see it until then.
            name = f"dry-run-{deployment['metadata']['name']}"
            renamed = {**deployment, "metadata": {**deployment["metadata"], "name": name}}
            await self._api.apply(f"{collection}/{name}", renamed, manager=MANAGER_WORKLOAD, dry_run=True)
        except (Invalid, Forbidden) as error:
            if _NO_DRY_RUN in error.message:
                return None
            path = error.field or _field_in(error.message)
            at = path if path.startswith("spec.template") else "spec.template"
            return Problem(Reason.INVALID_TEMPLATE, error.message[:1024], at)
        except ApiError as error:
            raise Unavailable(f"dry run of {deployment['metadata']['name']}: {error}") from error
        return None


def _field_in(message: str) -> str:
    found = _UNKNOWN_FIELD.search(message)
    return (found.group(1) or found.group(2)) if found else ""


async def _all(calls: list[Coroutine[Any, Any, Problem | None]]) -> tuple[Problem, ...]:
    """Runs the calls side by side to their end; only then raises what one of them raised."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return tuple(result for result in results if isinstance(result, Problem))
