"""The agent's process: `python -m tests.cluster.node --name node-1 --index 1 --folder D --server URL ...`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.cluster import network
from tests.cluster.images import ImageStore
from tests.cluster.node.api import Api, ApiError, Object
from tests.cluster.node.container import timestamp
from tests.cluster.node.contents import ContentCache
from tests.cluster.node.environment import NotYetError
from tests.cluster.node.pod import PodWorker

_HEARTBEAT_SECONDS = 10
_CAPACITY = {"cpu": "1000", "memory": "4000Gi", "ephemeral-storage": "4000Gi", "pods": "2000"}


class Node:
    """The node object, its lease and the pods bound to it."""

    def __init__(self, api: Api, name: str, index: int, folder: Path, images: Path) -> None:
        self._api = api
        self._name = name
        self._index = index
        self._folder = folder
        self._images = ImageStore(images)
        self._contents = ContentCache(api, self._contents_changed)
        self._workers: dict[str, PodWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._next = 0

    async def run(self) -> None:
        """Register and work until the process is stopped."""
        await self._register()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._contents.follow("ConfigMap"))
            group.create_task(self._contents.follow("Secret"))
            group.create_task(self._heartbeats())
            group.create_task(self._follow_pods())

    async def _register(self) -> None:
        metadata = {"name": self._name, "labels": {"kubernetes.io/hostname": self._name, "kubernetes.io/os": "linux"}}
        try:
            await self._api.insist("POST", "/api/v1/nodes", {"metadata": metadata, "status": self._status()})
        except ApiError as error:
            if error.status != 409:
                raise
        await self._api.insist("PATCH", f"/api/v1/nodes/{self._name}/status", {"status": self._status()})

    def _status(self) -> Object:
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "AgentReady",
            "message": "the test node is ready",
            "lastHeartbeatTime": timestamp(),
        }
        addresses = [
            {"type": "InternalIP", "address": network.HOST_ADDRESS},
            {"type": "Hostname", "address": self._name},
        ]
        return {"capacity": _CAPACITY, "allocatable": _CAPACITY, "conditions": [ready], "addresses": addresses}

    async def _heartbeats(self) -> None:
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        while True:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            spec = {"holderIdentity": self._name, "leaseDurationSeconds": 40, "renewTime": now}
            try:
                await self._api.insist("PATCH", f"{path}/{self._name}", {"spec": spec})
            except ApiError:
                lease = {"metadata": {"name": self._name, "namespace": "kube-node-lease"}, "spec": spec}
                try:
                    await self._api.insist("POST", path, lease)
                except ApiError as error:
                    print(f"lease: {error}", file=sys.stderr, flush=True)
            self._contents_changed(None)
            await asyncio.sleep(_HEARTBEAT_SECONDS)

    def _contents_changed(self, namespace: str | None) -> None:
        """Refresh the volumes of the namespace's pods; of all when there is none given (tokens grow old)."""
        for worker in self._workers.values():
            if namespace in (None, worker.namespace):
                self._spawn(_refreshed(worker))

    async def _follow_pods(self) -> None:
        async for change, item in self._api.follow("/api/v1/pods", f"spec.nodeName={self._name}"):
            if change == "SYNC":
                present = {pod["metadata"]["uid"] for pod in item["items"]}
                for uid, worker in self._workers.items():
                    if uid not in present:
                        worker.gone()
                for pod in item["items"]:
                    self._seen(pod)
            elif change == "DELETED":
                uid = item["metadata"]["uid"]
                if uid in self._workers:
                    self._workers[uid].gone()
            else:
                self._seen(item)

    def _seen(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if uid in self._workers:
            self._workers[uid].update(pod)
        elif pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            self._next += 1
            fields: dict[str, Any] = {
                "node_name": self._name,
                "host_address": network.HOST_ADDRESS,
                "address": network.pod_address(self._index, self._next),
            }
            worker = PodWorker(
                self._api, self._contents, images=self._images, folder=self._folder, pod=pod, fields=fields
            )
            self._workers[uid] = worker
            self._spawn(self._serve(uid, worker))

    async def _serve(self, uid: str, worker: PodWorker) -> None:
        try:
            await worker.run()
        finally:
            del self._workers[uid]

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            traceback.print_exception(error)
            sys.stderr.flush()


async def _refreshed(worker: PodWorker) -> None:
    try:
        await worker.refresh()
    except NotYetError:
        return  # the pod's own start reports it


async def _main() -> None:
    parser = argparse.ArgumentParser()
    for flag in ("--name", "--folder", "--images", "--server", "--ca-file", "--token"):
        parser.add_argument(flag, required=True)
    parser.add_argument("--index", type=int, required=True)
    options = parser.parse_args()
    api = Api(options.server, options.ca_file, options.token)
    try:
        await Node(api, options.name, options.index, Path(options.folder), Path(options.images)).run()
    finally:
        await api.close()


if __name__ == "__main__":
    asyncio.run(_main())
