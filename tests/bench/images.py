"""What the images cost: size, time from nothing to ready at half a core, resident memory.

The containers are those that users run, by runc, confined as in a pod and with a pod's account, against a real API
server. No node is needed for that, so nothing of a node is measured: pulling an image and making a pod come on top.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from strategyrollout.api import meta
from strategyrollout.api.assignment import AssignmentSpec, Cause, Range
from strategyrollout.traffic.haproxy_config import haproxy_config
from tests import images
from tests.api.install import install_crds
from tests.bench.figures import Report
from tests.cluster.cluster import Cluster
from tests.cluster.processes import until
from tests.images import Image
from tests.images.container import Container, unpack
from tests.orders.sender import OrderSender

_STARTS, _ROUTERS, _CORES, _ACCOUNTS, _REST_SECONDS = 10, 5, 0.5, 200, 5
_MEGABYTES, _READY, _ROUTER_MIB = 130.0, 4.0, 80.0
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_RUN_DIR = "/run/router"
_NAME, _UID, _REVISION, _NAMESPACE = "momentum", "uid-of-momentum", "aaaaaaaaaa", "default"
_OPERATOR_PORT, _ROUTER_PORT, _HEALTH_PORT = 18080, 18081, 18082
Object = dict[str, Any]


async def run(folder: Path) -> Report:
    """About a minute; the images are built first where they changed. Needs root."""
    report = Report("images", f"the images as users get them, at {_CORES:g} of a core where it is said")
    built = await asyncio.to_thread(images.ensure)
    roots = {name: await asyncio.to_thread(unpack, image, folder / "roots" / name) for name, image in built.items()}
    try:
        _sizes(report, built, roots)
        async with Cluster.start(folder / "cluster") as cluster:
            await install_crds(cluster)
            bench = _Bench(cluster, folder, built, roots)
            await bench.operator(report)
            await bench.router(report)
    finally:
        shutil.rmtree(folder / "roots")
    report.cost("load of the machine", f"{os.getloadavg()[0]:.1f} over the last minute, on {os.cpu_count()} cores")
    return report


def _sizes(report: Report, built: dict[str, Image], roots: dict[str, Path]) -> None:
    unpacked = {}
    for name, image in built.items():
        packed = sum(len(layer) for layer in image.layers())
        unpacked[name] = sum(path.lstat().st_size for path in roots[name].rglob("*") if not path.is_dir()) / 1e6
        report.cost(f"{name} image", f"{packed / 1e6:.1f} MB to pull, {unpacked[name]:.1f} MB unpacked")
    report.target(f"operator image under {_MEGABYTES:g} MB unpacked", unpacked["operator"] < _MEGABYTES)


class _Bench:
    """Containers beside one cluster, with a ServiceAccount that may do everything."""

    def __init__(self, cluster: Cluster, folder: Path, built: dict[str, Image], roots: dict[str, Path]) -> None:
        self._cluster, self._folder, self._built, self._roots = cluster, folder, built, roots
        self._account = folder / "account"
        self._account.mkdir()
        assert cluster.ca_file is not None
        shutil.copy(cluster.ca_file, self._account / "ca.crt")
        (self._account / "token").write_text(cluster.admin_token)

    @contextmanager
    def _running(self, name: str, part: str, mounts: dict[str, Path], **environment: object) -> Iterator[Container]:
        host, _, port = self._cluster.server.removeprefix("https://").partition(":")
        given = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port or "443", **environment}
        container = Container(
            self._built[name],
            self._roots[name],
            self._folder / f"{name}-{part}",
            arguments=[part] if name == "router" else [],
            environment={key: str(value) for key, value in given.items()},
            mounts={_ACCOUNT: self._account, **mounts},
            cores=_CORES,
        )
        container.start()
        try:
            yield container
        finally:
            container.stop()

    async def operator(self, report: Report) -> None:
        """Start it again and again; memory once it rests."""
        took, resident = [], []
        for number in range(_STARTS):
            began = time.monotonic()
            settings = {"STRATEGYROLLOUT_HTTP_PORT": _OPERATOR_PORT}
            with self._running("operator", str(number), {}, **settings) as container:
                await _ready(_OPERATOR_PORT, "/readyz")
                took.append(time.monotonic() - began)
                await asyncio.sleep(_REST_SECONDS if number == 0 else 0.5)
                resident.append(sum(container.resident().values()))
        starts = report.measured(f"operator at {_CORES:g} core: container made -> /readyz", took)
        report.cost("operator memory", f"{max(resident):.0f} MiB resident at most, looking after nothing")
        report.target(f"operator ready in under {_READY:g} s: {starts.most:.2f} s at most", starts.most < _READY)

    async def router(self, report: Report) -> None:
        """One router pod after another that serves orders of an example strategy, both from their images."""
        here = self._cluster.host_address
        await self._cluster.apply(_assignment(), _slice(here))
        with self._running("example-strategy", "", {}, POD_IP=here, REVISION=_REVISION):
            pods = [await self._router_pod(here, number) for number in range(_ROUTERS)]
        report.measured(f"router pod at {_CORES:g} core each: containers made -> /readyz", [took for took, _ in pods])
        resident = max((parts for _, parts in pods), key=lambda parts: sum(parts.values()))
        whole = sum(resident.values())
        parts = ", ".join(f"{name} {mib:.0f}" for name, mib in resident.items())
        report.cost("router pod memory", f"{whole:.0f} MiB resident at most ({parts}), after {_ACCOUNTS} orders")
        report.target(f"router pod under {_ROUTER_MIB:g} MiB resident: {whole:.0f} MiB", whole < _ROUTER_MIB)

    async def _router_pod(self, here: str, number: int) -> tuple[float, dict[str, float]]:
        """Seconds until it was ready, and what each of its processes took after serving everybody."""
        run_dir = self._folder / f"run-{number}"
        run_dir.mkdir()
        run_dir.chmod(0o777)
        (run_dir / "haproxy.cfg").write_text(haproxy_config(header="X-Account-Id", salt="", drain=500))
        mounts = {_RUN_DIR: run_dir}
        own = {"RUN_DIR": _RUN_DIR, "POD_IP": here}
        proxy = {"PORT": _ROUTER_PORT, "HEALTH_PORT": _HEALTH_PORT, "HAPROXY_CONFIG": f"{_RUN_DIR}/haproxy.cfg"}
        agent = {"ROLLOUT": _NAME, "ROLLOUT_UID": _UID, "PORT_NAME": "orders", "NAMESPACE": _NAMESPACE}
        agent |= {"POD_NAME": f"{_NAME}-router-0", "POD_UID": f"uid-of-router-{number}"}
        began = time.monotonic()
        with (
            self._running("router", "proxy", mounts, **own, **proxy) as first,
            self._running("router", "agent", mounts, **own, **agent) as second,
        ):
            await _ready(_HEALTH_PORT, "/readyz", here)
            took = time.monotonic() - began
            accounts = [f"ACC-{account}" for account in range(_ACCOUNTS)]
            async with OrderSender(accounts, routers=[(here, _ROUTER_PORT)], patience=5) as sender:
                await sender.ask_everyone()
                assert not sender.report().lost
            resident = {f"proxy: {name}": mib for name, mib in first.resident().items()}
            return took, resident | {f"agent: {name}": mib for name, mib in second.resident().items()}


async def _ready(port: int, path: str, host: str = "127.0.0.1") -> None:
    async def answers() -> bool:
        return await asyncio.to_thread(_status, f"http://{host}:{port}{path}") == 200

    await until(f"{path} of port {port} is 200", answers, 60, every=0.01)


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def _assignment() -> Object:
    """Everything belongs to one candidate: leased, so that the agent reads as often as it ever does."""
    spec = AssignmentSpec(
        epoch=1,
        rollout_uid=_UID,
        salt="",
        drain=500,
        lease=3000,
        ranges=[Range(start=0, end=9999, owner=_REVISION, token=1, leased=True)],
        cause=Cause(kind="Step", at=1),
    )
    return {
        "apiVersion": meta.API_VERSION,
        "kind": "TrafficAssignment",
        "metadata": {"name": _NAME, "namespace": _NAMESPACE},
        "spec": spec.to_json(),
    }


def _slice(address: str) -> Object:
    labels = {meta.LABEL_ROLLOUT: _NAME, meta.LABEL_REVISION: _REVISION}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{_NAME}-{os.getpid()}", "namespace": _NAMESPACE, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "orders", "port": 8080}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }
