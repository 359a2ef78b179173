"""The product, installed the way users do it: `helm upgrade --install`, with images pinned by digest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.cluster.build import binary
from tests.cluster.processes import ClusterError
from tests.cluster.providers import Provider
from tests.operator_process import fetch

Object = dict[str, Any]
RELEASE = NAMESPACE = DEPLOYMENT = "strategy-rollouts"
_CHART = Path(__file__).parents[2] / "charts" / "strategy-rollouts"
_HTTP_PORT = 8080
# A test should not wait as long for the second look of the operator as a person would.
_QUICK = {"settings": {"resync": "10s", "check": "1s", "liveNumbers": "2s"}}


class Product:
    """One release in the cluster."""

    def __init__(self, cluster: Provider, images: Mapping[str, str], values: Mapping[str, Any] = _QUICK) -> None:
        """`images`: references pinned by digest of `operator` and `router`. `values`: further ones of the chart."""
        self._cluster = cluster
        self.images = dict(images)
        self._further = values

    def values(self) -> Object:
        """What a user would write into a file for `--values`."""
        return {
            "image": _pinned(self.images["operator"]),
            "router": {"image": _pinned(self.images["router"])},
            "prometheus": self._cluster.prometheus_url,
            **self._further,
        }

    async def install(self, values: Object | None = None) -> None:
        """Install or upgrade, and wait until its pods are ready."""
        file = self._cluster.folder / "values.json"
        file.write_text(json.dumps(values or self.values(), indent=1))
        await self.helm("upgrade", "--install", RELEASE, str(_CHART), "--create-namespace", "--values", str(file))
        await self.ready()

    async def ready(self) -> None:
        """Wait until all its pods are ready, and no other is left."""
        await self._cluster.deployed(NAMESPACE, DEPLOYMENT, 90)

    async def helm(self, *arguments: str) -> str:
        """Run Helm as the administrator; returns what it printed."""
        where = ["--namespace", NAMESPACE, "--kubeconfig", str(self._cluster.kubeconfig)]
        process = await asyncio.create_subprocess_exec(
            str(binary("helm")), *arguments, *where, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise ClusterError(f"helm {' '.join(arguments)}: {output.decode(errors='replace')}")
        return output.decode(errors="replace")

    async def pods(self) -> list[Object]:
        """Pods of the operator that are not on their way out."""
        path = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io/name={DEPLOYMENT}"
        _, listed = await self._cluster.request("GET", path)
        return [pod for pod in listed["items"] if "deletionTimestamp" not in pod["metadata"]]

    async def leader(self) -> Object:
        """The pod that leads."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{DEPLOYMENT}"
        _, lease = await self._cluster.request("GET", path)
        holder = str(lease.get("spec", {}).get("holderIdentity") or "")
        for pod in await self.pods():
            if holder and pod["metadata"]["name"] in holder:
                return pod
        raise ClusterError(f"nobody leads: the Lease names {holder or 'nobody'}")

    async def page(self, pod: Object, path: str) -> tuple[int, str]:
        """Status and text of `/readyz`, `/livez` or `/metrics` of one pod; status 0 when nobody answers."""
        name, address = pod["metadata"]["name"], pod["status"].get("podIP", "")
        host, port = await self._cluster.reach(NAMESPACE, name, address, _HTTP_PORT)
        return await asyncio.to_thread(fetch, f"http://{host}:{port}{path}")


def namespace(name: str) -> Object:
    """A namespace as careful platform teams make them: only pods without any privilege."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _pinned(reference: str) -> Object:
    repository, _, digest = reference.partition("@")
    return {"repository": repository, "digest": digest}
