"""A world of many rollouts on pretended nodes, all holding at 10 %, with simulated routers and the real operator.

No real node is there. Pods of routers are bound to kwok's nodes, which here carry no taint so that these pods, whose
template the operator makes, land on them and become ready. Nothing runs in them; each router pod's part at the API
server is played by `consumers.py`. Strategies have no pods at all: nobody here looks at them, so `consumers.py` also
plays the controllers that would tell of them in their Deployments, and those controllers are not started.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import aiohttp

from strategyrollout.api.meta import GROUP
from strategyrollout.cluster.access import from_kubeconfig
from strategyrollout.cluster.client import Api
from strategyrollout.cluster.kinds import ASSIGNMENTS, CLUSTER_TEMPLATES, ROLLOUTS, Kind
from tests.api.install import install_crds
from tests.bench import manifests
from tests.bench.footprint import Footprint
from tests.bench.signals import Signals, Subject
from tests.cluster.cluster import Cluster
from tests.cluster.fake_nodes import node
from tests.cluster.processes import Program, until
from tests.operator_process import Operator

Object = dict[str, Any]
PRODUCTION = {"resync": "120s", "check": "5s", "live_numbers": "30s", "log_format": "json"}
_ROUTER_IMAGE = "registry.example/router@sha256:" + "f" * 64
_AS_SHIPPED = Path(__file__).with_name("as_shipped")
_PER_NAMESPACE = 50
_LEAST_NAMESPACES = 10
_PODS_PER_NODE = 800
_CONSUMERS_PORT = 9201
_STARTING = 24
"""First versions at once: each makes three Services, and the API server gives out their addresses one by one."""
_TRYING = 250
"""Candidates at once: each waits for the next answer of the gate."""
_CONTROLLERS = (
    "serviceaccount-controller",
    "root-ca-certificate-publisher-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "statefulset-controller",
)
_NODES = Kind("", "v1", "nodes", namespaced=False)
_NAMESPACES = Kind("", "v1", "namespaces", namespaced=False)


class Crowd:
    """`routers` is the number of routers of each rollout."""

    def __init__(self, folder: Path, size: int, *, routers: int, gate: str, scrape: str) -> None:
        self._folder = folder
        self._routers = routers
        self._gate = gate
        self._scrape = scrape
        namespaces = max(_LEAST_NAMESPACES, -(-size // _PER_NAMESPACE))
        self._looked = asyncio.Event()
        self._found: dict[tuple[str, str], Object] = {}
        self.names = [(f"desk-{n % namespaces:02}", f"rollout-{n:03}") for n in range(size)]

    @contextlib.asynccontextmanager
    async def holding(self) -> AsyncIterator[Crowd]:
        """All hold at 10 % inside."""
        async with contextlib.AsyncExitStack() as stack:
            self.cluster = await stack.enter_async_context(Cluster.start(self._folder / "cluster", nodes=0))
            await self.cluster.stop_prometheus()  # its discovery of pods would be load that nobody needs here
            self.signals = await stack.enter_async_context(Signals(self._folder, self._scrape).running())
            await install_crds(self.cluster)
            self.api = await stack.enter_async_context(Api(from_kubeconfig(str(self.cluster.kubeconfig)), timeout=30))
            await self._fewer_controllers()
            await self._nodes()
            self._simulation = Program(self._folder, "consumers")
            stack.push_async_callback(self._simulation.stop)
            self._simulation.start(
                [sys.executable, "-m", "tests.bench.consumers", str(self.cluster.kubeconfig), str(_CONSUMERS_PORT)]
            )
            self._session = await stack.enter_async_context(aiohttp.ClientSession())
            settings = {**PRODUCTION, "prometheus": self.signals.url, "router_image": _ROUTER_IMAGE}
            await self._start_operators(stack, settings)
            await self._fill()
            yield self

    async def _start_operators(self, stack: contextlib.AsyncExitStack, settings: dict[str, str]) -> None:
        self.operator = Operator(self.cluster, self._folder, None, **settings)
        self.operator.shadows = _AS_SHIPPED
        await stack.enter_async_context(self.operator.running())

    def say(self, words: str) -> None:
        """Progress, for who waits."""
        print(f"   {time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)

    async def footprint(self) -> Footprint:
        """What is spent from now on."""
        return await Footprint.of(self.operator, self._folder, self._folder / "cluster")

    async def subjects(self) -> dict[tuple[str, str], Subject]:
        """The candidate of each rollout."""
        found = {}
        for (namespace, name), spec in (await self.assignments()).items():
            attempt = spec["record"].get("attempt")
            if attempt:
                found[namespace, name] = (namespace, name, attempt["revision"])
        return found

    async def assignments(self) -> dict[tuple[str, str], Object]:
        """Every assignment's spec."""
        listed = await self.api.list(ASSIGNMENTS.path())
        return {(a["metadata"]["namespace"], a["metadata"]["name"]): a["spec"] for a in listed["items"]}

    async def acks(self) -> list[Object]:
        """What the routers have acknowledged since `forget_acks`."""
        async with self._session.get(f"http://127.0.0.1:{_CONSUMERS_PORT}/acks") as response:
            found: list[Object] = await response.json()
            return found

    async def forget_acks(self) -> None:
        """Begin anew."""
        async with self._session.delete(f"http://127.0.0.1:{_CONSUMERS_PORT}/acks") as response:
            response.raise_for_status()

    async def stopped(self, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], float]:
        """When the last router of each of these had acknowledged the Freeze; without those where one has not."""
        last: dict[tuple[str, str], list[float]] = {}
        for ack in await self.acks():
            if ack["cause"] == "GateBreached" and ack["frozen"]:
                last.setdefault((ack["namespace"], ack["rollout"]), []).append(ack["at"])
        return {name: max(last[name]) for name in names if len(last.get(name, ())) >= self._routers}

    async def again(self, names: list[tuple[str, str]], word: str) -> None:
        """Asks these to try their candidate once more and waits until all hold at 10 %."""
        records = await self.assignments()
        subjects = [(*name, records[name]["record"]["revert"]["away"]) for name in names]
        self.signals.good(subjects)
        await self.signals.readable(subjects[-1])
        patch = {"metadata": {"annotations": {f"{GROUP}/retry": word}}}

        async def work(name: tuple[str, str]) -> None:
            await self.api.merge(ROLLOUTS.path(*name), patch)
            await self._seen(name, _holds)

        await self._few_at_once(names, work, _TRYING)

    async def reverted(self, names: list[tuple[str, str]], seconds: float) -> dict[tuple[str, str], Object]:
        """Waits until the targets of these serve everything; returns the assignments."""
        found: dict[tuple[str, str], Object] = {}

        async def there() -> bool:
            nonlocal found
            found = await self.assignments()
            reverts = [found[name]["record"].get("revert") or {} for name in names]
            return all(revert.get("servedAt") for revert in reverts)

        await until(f"{len(names)} rollouts are reverted", there, seconds, every=1.0)
        return found

    async def _fewer_controllers(self) -> None:
        """The controller manager once more, with what is needed here."""
        program = Program(self._folder / "cluster", "kube-controller-manager")
        running = await asyncio.to_thread(Path(f"/proc/{program.pid}/cmdline").read_text)
        await program.stop(grace=1.0)
        program.start([*running.rstrip("\0").split("\0"), f"--controllers={','.join(_CONTROLLERS)}"])

    async def _nodes(self) -> None:
        await self.cluster.add_fake_nodes(0)
        pods = len(self.names) * self._routers
        for number in range(1 + pods // _PODS_PER_NODE):
            body = node(f"pretended-{number}")
            await self.api.create(_NODES.path(), {**body, "spec": {}})

    async def _fill(self) -> None:
        began = time.monotonic()
        await self.api.create(CLUSTER_TEMPLATES.path(), manifests.gate_template(self._gate))
        for name in sorted({namespace for namespace, _ in self.names}):
            await self.api.create(_NAMESPACES.path(), manifests.namespace(name))
            await self.cluster.service_account_exists(name, "default")

        async def start(name: tuple[str, str]) -> None:
            await self._version(name, "1.0.0")
            await self._seen(name, _is_stable)

        async def hold(name: tuple[str, str]) -> None:
            await self._version(name, "2.0.0")
            await self._seen(name, _holds)

        await self._few_at_once(self.names, start, _STARTING)
        self.say(f"{len(self.names)} first versions serve after {time.monotonic() - began:.0f} s")
        await self._few_at_once(self.names, hold, _TRYING)
        await until("all routers are there", self._all_routers, 60, every=0.5)
        self.signals.good((await self.subjects()).values())
        self.say(f"{len(self.names)} rollouts hold at 10 % after {time.monotonic() - began:.0f} s")

    async def _version(self, name: tuple[str, str], version: str) -> None:
        body = manifests.rollout(*name, version, routers=self._routers)
        await self.api.apply(ROLLOUTS.path(*name), body, manager="bench")

    async def _few_at_once(
        self, names: Iterable[tuple[str, str]], work: Callable[..., Awaitable[None]], at_once: int
    ) -> None:
        """So that a small machine is busy and not overrun; what is measured comes afterwards."""
        limit = asyncio.Semaphore(at_once)

        async def one(name: tuple[str, str]) -> None:
            async with limit:
                await work(name)

        looking = asyncio.create_task(self._look())
        try:
            await asyncio.gather(*(one(name) for name in names))
        finally:
            looking.cancel()

    async def _look(self) -> None:
        while True:
            self._found = await self.assignments()
            self._looked.set()
            self._looked.clear()
            await asyncio.sleep(max(0.5, len(self.names) / 400))

    async def _seen(self, name: tuple[str, str], holds: Callable[[Object], bool]) -> None:
        async with asyncio.timeout(300):
            await self._looked.wait()
            while not holds(self._found.get(name, {}).get("record") or {}):
                await self._looked.wait()

    async def _all_routers(self) -> bool:
        async with self._session.get(f"http://127.0.0.1:{_CONSUMERS_PORT}/") as response:
            return bool((await response.json())["routers"] >= len(self.names) * self._routers)


def _is_stable(record: Object) -> bool:
    return bool(record.get("stable"))


def _holds(record: Object) -> bool:
    attempt = record.get("attempt") or {}
    return bool(attempt.get("heldFrom")) and attempt.get("weight") == 1000
