"""One rollout as its people see it, with everything the API ever held about it.

Every desk records: each version of the table, what the spec asked for and how many pods each revision was told to have.
When the test is over, the history checker judges the record, whatever the test was about.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp

from strategyrollout.api.assignment import AssignmentSpec
from strategyrollout.api.meta import LABEL_REVISION, LABEL_ROLE, LABEL_ROLLOUT
from strategyrollout.api.rollout import RolloutSpec
from strategyrollout.api.scalars import parse_percent
from strategyrollout.core.revision import Content, content_of, identified
from tests.cluster.cluster import Cluster
from tests.cluster.processes import until
from tests.conformance.api_client import OURS, Api
from tests.conformance.manifests import Object, add_image, rollout, template
from tests.conformance.orders import ACCOUNTS, order
from tests.history.history import History

_KNOCKS = 30


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


class Desk:
    """A rollout called `name` in `namespace`; there may be others beside it."""

    def __init__(self, cluster: Cluster, api: Api, namespace: str, name: str, *, flips: bool = False) -> None:
        self.cluster = cluster
        self.api = api
        self.namespace = namespace
        self.name = name
        self.history = History(flips=flips)
        self.statuses: list[tuple[int, Object]] = []
        self.hashes: dict[str, str] = {}
        self.exists = False
        self._rollout: Object = {}
        self._generation = 0
        self._wanted = ""
        self._news = asyncio.Event()

    @contextlib.asynccontextmanager
    async def recorded(self) -> AsyncIterator[Desk]:
        """Records inside; deletes the rollout and judges the record at the end."""
        by_name, by_label = f"fieldSelector=metadata.name%3D{self.name}", f"labelSelector={LABEL_ROLLOUT}%3D{self.name}"
        watches = [
            self._record(f"{OURS}/namespaces/{self.namespace}/trafficassignments", by_name, self._table),
            self._record(f"{OURS}/namespaces/{self.namespace}/strategyrollouts", by_name, self._status),
            self._record(f"/apis/apps/v1/namespaces/{self.namespace}/deployments", by_label, self._deployment),
        ]
        tasks = [asyncio.create_task(watch) for watch in watches]
        try:
            yield self
            assert all(not task.done() for task in tasks), "a record of the API has gaps"
            self.history.assert_clean()
        finally:
            sys.stdout.write("\n".join([f"--- {self.name}", *self.story(), ""]))  # shown when the test has failed
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.api.delete(self.path())

    async def _record(self, collection: str, selector: str, take: Callable[[str, Object], None]) -> None:
        async for kind, item in self.api.watch(collection, selector):
            take(kind, item)
            self._news.set()

    def _table(self, kind: str, item: Object) -> None:
        if kind == "DELETED":
            self.history.record_loss()
        else:
            self.history.record_table(now(), AssignmentSpec.model_validate(item["spec"]))

    def _status(self, kind: str, item: Object) -> None:
        self.exists = kind != "DELETED"
        if self.exists:
            self._rollout = item
            self.statuses.append((now(), item.get("status") or {}))

    def _deployment(self, kind: str, item: Object) -> None:
        revision = item["metadata"]["labels"].get(LABEL_REVISION)
        if revision and kind != "DELETED" and self._rollout:
            declared = self._rollout["spec"].get("replicas")
            self.history.record_replicas(now(), revision, item["spec"]["replicas"], declared)

    def path(self, plural: str = "strategyrollouts", name: str = "") -> str:
        """URL path of one of our objects; the rollout itself by default."""
        return f"{OURS}/namespaces/{self.namespace}/{plural}/{name or self.name}"

    # What people do.

    async def apply(self, version: str, *, image: str = "", env: dict[str, str] | None = None, **spec: Any) -> str:
        """Apply a version and return its revision. Each version has an image of its own unless one is given."""
        image = image or add_image(self.cluster.images, f"{self.name}-{version}")
        spec = {"template": template(image, version, **(env or {})), **spec}
        item = rollout(self.namespace, self.name, version, **spec)
        revision = self._wanted = self._identify(item["spec"])
        if revision:
            self.hashes[version] = revision
            self.history.record_wish(now(), revision)
        method = RolloutSpec.model_validate(item["spec"]).method
        if method.canary:
            self.history.declare([10_000, *(step.weight or 0 for step in method.canary.steps)])
        stored = await self.api.apply(item)
        self._generation = stored["metadata"]["generation"]
        return revision

    def _identify(self, spec: Object) -> str:
        content = content_of(RolloutSpec.model_validate(spec), {})
        return identified(content).hash if isinstance(content, Content) else ""

    async def promoted(self, version: str, **spec: Any) -> str:
        """Apply a version and wait until it is promoted."""
        revision = await self.apply(version, **spec)
        await self.reaches("Promoted", version=version)
        return revision

    async def annotate(self, verb: str, value: str | None) -> None:
        """Ask by annotation; None takes it away."""
        if verb == "retry":
            self.history.record_retry(now())
        await self.api.merge(self.path(), {"metadata": {"annotations": {f"strategyrollout.io/{verb}": value}}})

    async def rollback(self, name: str, to: str = "Previous") -> str:
        """Create a Rollback object; returns its name."""
        item = {
            "apiVersion": "strategyrollout.io/v1alpha1",
            "kind": "Rollback",
            "metadata": {"name": f"{self.name}-{name}", "namespace": self.namespace},
            "spec": {"rollout": self.name, "to": to, "reason": f"on call: {name}"},
        }
        await self.api.apply(item)
        return f"{self.name}-{name}"

    async def command(self, version: str, path: str) -> None:
        """Tell every pod of a version something; see exporter.py."""
        for pod in await self.pods(self.hashes[version]):
            await self._tell(pod, path)

    async def _tell(self, pod: Object, path: str) -> None:
        """Once; again only while nobody listens yet, because a pod has its address before its program listens."""
        for _ in range(_KNOCKS):
            with contextlib.suppress(aiohttp.ClientError, OSError):
                async with aiohttp.ClientSession() as session:
                    try:
                        async with session.get(f"http://{_ip(pod)}:8080{path}") as answer:
                            await answer.read()
                    except aiohttp.ClientConnectorError:
                        await asyncio.sleep(0.1)
                        continue
            return

    async def signal(self, version: str, name: str, value: str) -> None:
        """What a version's metrics say from now on."""
        await self.command(version, f"/set?{name}={value.replace('+', '%2B')}")

    async def unready(self, version: str, count: int = 1) -> None:
        """Make so many pods of a version unready."""
        for pod in (await self.pods(self.hashes[version]))[:count]:
            await self._tell(pod, "/ready?0")

    # What people see.

    async def pods(self, revision: str) -> list[Object]:
        """Living pods of a revision with an address."""
        selector = f"labelSelector={LABEL_ROLLOUT}%3D{self.name},{LABEL_REVISION}%3D{revision}"
        listed = await self.api.get(f"/api/v1/namespaces/{self.namespace}/pods?{selector}")
        return [p for p in listed["items"] if not p["metadata"].get("deletionTimestamp") and _ip(p)]

    async def routers(self) -> list[Object]:
        """Living routers."""
        selector = f"labelSelector={LABEL_ROLLOUT}%3D{self.name},{LABEL_ROLE}%3Drouter"
        listed = await self.api.get(f"/api/v1/namespaces/{self.namespace}/pods?{selector}")
        return [p for p in listed["items"] if not p["metadata"].get("deletionTimestamp") and _ip(p)]

    async def served(self) -> dict[str, int]:
        """An order for every account through every router: version, or status of a refusal, -> how many."""
        found: dict[str, int] = {}
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            for pod in await self.routers():
                for account in ACCOUNTS:
                    word = await order(session, _ip(pod), account)
                    found[word] = found.get(word, 0) + 1
        return found

    async def serve(self, *versions: str, seconds: float = 10) -> None:
        """Wait until every account is served, by these versions and by each of them."""
        deadline = time.monotonic() + seconds
        while set(found := await self.served()) != set(versions):
            assert time.monotonic() < deadline, f"{found} and not {versions}"
            await asyncio.sleep(0.1)

    @property
    def status(self) -> Object:
        """The latest status."""
        return self.statuses[-1][1] if self.statuses else {}

    @property
    def tables(self) -> list[AssignmentSpec]:
        """Every version of the table, oldest first."""
        return [version.spec for version in self.history.versions]

    @property
    def table(self) -> AssignmentSpec:
        """The latest table."""
        return self.tables[-1]

    def weight(self, version: str, table: AssignmentSpec | None = None) -> int:
        """Basis points that a version serves."""
        ranges = (table or self.table).ranges
        return sum(r.end - r.start + 1 for r in ranges if r.owner == self.hashes[version] and r.next is None)

    def weights(self, version: str) -> list[int]:
        """What a version served, each change once."""
        found: list[int] = []
        for table in self.tables:
            weight = self.weight(version, table)
            if not found or found[-1] != weight:
                found.append(weight)
        return found

    def attempts(self, version: str) -> list[str]:
        """Ids of the attempts of a version, in order."""
        found = (t.record.attempt for t in self.tables if t.record.attempt)
        return list(dict.fromkeys(a.id for a in found if a.revision == self.hashes[version]))

    def causes(self) -> list[str]:
        """Kinds of cause of all tables."""
        return [table.cause.kind for table in self.tables]

    def condition(self, kind: str) -> str:
        """Status of a condition now."""
        return next((c["status"] for c in self.status.get("conditions", []) if c["type"] == kind), "")

    def gate(self, name: str = "rejects") -> Object:
        """What the status says of a gate."""
        return next((g for g in self.status.get("gates", []) if g["name"] == name), {})

    async def replicas(self, version: str) -> int:
        """Pods that the Deployment of a version is told to have."""
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{self.name}-{self.hashes[version]}"
        return int((await self.api.get(path))["spec"]["replicas"])

    # Waiting.

    async def until(self, what: str, check: Callable[[], bool], seconds: float = 20) -> None:
        """Wait until the check holds; looked at whenever the API has news."""
        deadline = time.monotonic() + seconds
        while not check():
            left = deadline - time.monotonic()
            assert left > 0, f"not so within {seconds:g} s: {what}"
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), min(left, 0.5))

    async def until_async(self, what: str, check: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
        """Wait until a check that asks the API holds."""
        await until(what, check, seconds)

    async def judged(self, verdict: str, gate: str = "rejects", seconds: float = 15) -> None:
        """Wait for a verdict. Prometheus may find a new pod only after five seconds, so wait before relying on it."""
        await self.until(f"{gate} {verdict}", lambda: self.gate(gate).get("verdict") == verdict, seconds)

    async def reaches(self, state: str, *, version: str = "", weight: str = "", seconds: float = 20) -> Object:
        """Wait for a state that is reported about what was applied last."""

        def there() -> bool:
            status = self.status
            fits = status.get("state") == state and status.get("observedGeneration", 0) >= self._generation
            fits = fits and version in ("", status.get("stableVersion"))
            return fits and (not weight or self._candidate_weight() == parse_percent(weight))

        await self.until(f"{state} {version}{weight}", there, seconds)
        return self.status

    def _candidate_weight(self) -> int:
        attempt = self.table.record.attempt
        return attempt.weight if attempt is not None and attempt.revision == self._wanted else -1

    async def stays(self, seconds: float, what: str, check: Callable[[], bool]) -> None:
        """The check holds for so long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert check(), f"no longer so: {what}"
            await asyncio.sleep(0.05)

    def story(self) -> list[str]:
        """For a failure: what was held and reported, oldest first."""
        lines = [(v.at, f"table {v.spec.cause.kind}: {v.spec.cause.message}") for v in self.history.versions]
        before = ""
        for at, status in self.statuses:
            word = f"status {status.get('state')}: {status.get('message')}"
            if word != before:
                lines.append((at, word))
            before = word
        return [f"{at % 1_000_000 / 1000:8.3f} {line}" for at, line in sorted(lines)[-40:]]


def _ip(pod: Object) -> str:
    return str(pod["status"].get("podIP") or "")
