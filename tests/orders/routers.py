"""Where the routers of a rollout are: its ready router pods."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from strategyrollout.api.meta import LABEL_ROLE, LABEL_ROLLOUT, ROLE_ROUTER
from tests.orders.connection import Address
from tests.orders.sender import FindRouters

ROUTER_PORT = 8080


Reach = Callable[[str, str, str, int], Awaitable[Address]]
"""Namespace, pod, its address, port -> where this process reaches that."""


class Asks(Protocol):
    """A cluster that answers requests."""

    async def request(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        """One JSON request: status and answer."""


async def _itself(_namespace: str, _pod: str, address: str, port: int) -> Address:
    return address, port


def router_pods(cluster: Asks, namespace: str, rollout: str, reach: Reach = _itself) -> FindRouters:
    """A way to find them, for a sender. Raises OSError while the API server does not answer."""
    path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={LABEL_ROLLOUT}={rollout},{LABEL_ROLE}={ROLE_ROUTER}"

    async def find() -> Sequence[Address]:
        status, answer = await cluster.request("GET", path)
        if status != 200:
            raise OSError(f"cannot list routers: {answer.get('message')}")
        return [
            await reach(namespace, pod["metadata"]["name"], pod["status"]["podIP"], ROUTER_PORT)
            for pod in answer["items"]
            if _ready(pod)
        ]

    return find


def _ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp") and bool(pod["status"].get("podIP"))
