"""A desk in the cluster: a namespace, a rollout with real routers and strategies, orders all the time, a record of all.

Whatever a test is about, the history checker judges its record at the end, and no order may be lost unless the test
breaks what carries it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from strategyrollout.api.meta import LABEL_REVISION, LABEL_ROLE, LABEL_ROLLOUT, ROLE_STRATEGY
from tests.cluster.processes import ClusterError, until
from tests.demo.probe import misbehave
from tests.e2e.logs import OrderLogs
from tests.e2e.product import namespace
from tests.e2e.site import Site
from tests.orders.report import Order
from tests.orders.routers import router_pods
from tests.orders.sender import OrderSender
from tests.strategy.image import pod_template
from tests.traffic.hands import ACCOUNTS, NAME, Hands, Times
from tests.traffic.record import Record, following

__all__ = ["Desk", "Site", "desk_in"]

Object = dict[str, Any]
RATE = 60
"""Orders a second."""
# A long drain: a router gives up an order that takes longer, and a busy machine may stand still for two seconds.
USUAL = Times(routers=2, steps=("30%", "60%"), drain="3s", lease="4s", bake_lease="4s", ack_timeout="5s")
_STRATEGY_PORT = 8080
_CONFINED = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


class Desk(Hands):
    """One rollout in a namespace of its own."""

    def __init__(self, site: Site, folder: Path, record: Record, logs: OrderLogs, sender: OrderSender) -> None:
        super().__init__(site.cluster, folder, record, USUAL)
        self.site = site
        self.cluster = site.cluster
        self.namespace = record.namespace
        self.logs = logs
        self.sender = sender
        self.may_lose_orders = False
        """Set by a test that kills what carries them."""

    async def template(self, version: str) -> Object:
        """The version's own image."""
        return self.template_of(await self.site.image_of(version))

    def template_of(self, image: str, *, environment: Mapping[str, str] | None = None, **container: Any) -> Object:
        """The strategy in that image; with further fields of its container."""
        template = pod_template(image, environment=environment, order_log=Path("-"))
        template["spec"]["containers"][0] |= {"securityContext": _CONFINED, **container}
        return template

    async def stable(self, version: str = "1.0.0", **spec: Any) -> str:
        """The first version serves everything, and orders flow from now on; returns its revision."""
        await self.apply(version, **spec)
        await self.record.until(f"{version} serves", lambda: self.state("Promoted", version), 90)
        await self.routers_ready()
        await self.sender.look()
        self.sender.start(RATE)
        return str(self.record.status["stable"])

    def state(self, state: str, version: str = "") -> bool:
        """Whether the rollout says so about what was applied last; `version` is the stable one."""
        status, meta = self.record.status, self.record.rollout.get("metadata") or {}
        current = status.get("observedGeneration") == meta.get("generation") and status.get("state") == state
        return current and version in ("", status.get("stableVersion"))

    def condition(self, kind: str) -> Object:
        """A condition of the rollout; empty while there is none."""
        conditions = self.record.status.get("conditions") or []
        return next((dict(c) for c in conditions if c["type"] == kind), {})

    async def says(self, *words: str, seconds: float = 60) -> str:
        """Wait until the rollout's message has all these words in it; returns it."""
        await self.record.until(f"it says {words}", lambda: all(word in self.message for word in words), seconds)
        return self.message

    @property
    def message(self) -> str:
        """What the rollout says now."""
        return str(self.record.status.get("message") or "")

    async def pods(self, revision: str) -> list[Object]:
        """Strategy pods of a revision that are not on their way out."""
        selector = f"{LABEL_ROLLOUT}={NAME},{LABEL_ROLE}={ROLE_STRATEGY},{LABEL_REVISION}={revision}"
        _, listed = await self.cluster.request(
            "GET", f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={selector}"
        )
        return [pod for pod in listed["items"] if "deletionTimestamp" not in pod["metadata"]]

    async def misbehave(self, revision: str, kind: str) -> None:
        """Tell every pod of a revision to."""
        for pod in await self.pods(revision):
            name, address = pod["metadata"]["name"], pod["status"]["podIP"]
            host, port = await self.cluster.reach(self.namespace, name, address, _STRATEGY_PORT)
            await misbehave(host, kind, time.time(), port)

    async def everyone_is_served_by(self, revision: str) -> None:
        """Prove it by one order for every account."""
        answers = await self.sender.ask_everyone()
        assert set(answers.values()) == {revision}, {who: by for who, by in answers.items() if by != revision}

    async def eventually_so(self, what: str, check: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
        """Wait for something that the record does not tell of. Raises ClusterError with what."""
        await until(what, check, seconds, 0.2)

    async def settle(self) -> int:
        """No more orders; every rule held by the strategies' own word. Returns how many orders were judged."""
        report = await self.sender.stop()
        taken = sum(report.by_revision.values())

        async def told() -> bool:
            return self.logs.count >= taken

        with contextlib.suppress(ClusterError):  # a pod that was killed may have had more to say
            await until("the logs have told of all orders", told, 5)
        if not self.record.history.versions:
            return 0
        count = self.record.take_orders(self.order_log)
        broken = self.record.history.violations()
        assert not broken, "\n".join(f"{rule} {rule.evidence}" for rule in broken[:5])
        lost = [f"{o.account} {o.status} {o.problem}, {_when(o)}" for o in report.lost]
        assert self.may_lose_orders or not lost, (
            f"{len(lost)} of {len(report.orders)} orders were lost: {lost[:3] + lost[-3:]}"
        )
        return count

    def story(self) -> str:
        """What was held and said, for a failure."""
        lines = [(v.at, f"table {v.spec.cause.kind}: {v.spec.cause.message}") for v in self.record.history.versions]
        lines += [(int(at), f"{state}: {message}") for at, state, message in self.record.said]
        return "\n".join(f"{at % 1_000_000 / 1000:8.3f} {line}" for at, line in sorted(lines)[-40:])


def _when(order: Order) -> str:
    last = max((refusal.at for refusal in order.refusals), default=order.sent_at)
    tries = len(order.refusals) + 1
    return f"answered at {order.answered_at % 1_000:.3f}, {order.answered_at - last:.3f} s after its try {tries}"


@contextlib.asynccontextmanager
async def desk_in(site: Site, name: str, folder: Path) -> AsyncIterator[Desk]:
    """A namespace of its own, recorded from the first moment; its end is asked for and not waited for."""
    cluster = site.cluster
    await cluster.apply(namespace(name))
    record = Record(name, NAME, tolerance=300)
    find = router_pods(cluster, name, NAME, cluster.reach)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(cluster.kubectl, "delete", "namespace", name, "--wait=false", check=False)
        await stack.enter_async_context(following(cluster, record))
        logs = await stack.enter_async_context(OrderLogs(name, folder / "orders.jsonl").read(cluster))
        sender = await stack.enter_async_context(OrderSender(ACCOUNTS, find=find))
        yield Desk(site, folder, record, logs, sender)
