"""Proves that the faults tests can cause are the faults they say they are, and that they can be undone."""

from __future__ import annotations

import asyncio

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.example import eventually, flags_of, get, is_ready, pods_of, running_pod
from tests.cluster.processes import alive

pytestmark = pytest.mark.cluster


async def test_a_killed_container_reports_the_signal(cluster: Cluster, namespace: str) -> None:
    pod = await running_pod(cluster, namespace)
    cluster.node.kill(namespace, pod["metadata"]["name"])

    async def reported() -> bool:
        last = (await pods_of(cluster, namespace))[0]["status"]["containerStatuses"][0].get("lastState", {})
        return bool(last.get("terminated", {}).get("exitCode") == 137)

    await eventually("exit code 137 is reported", reported)


async def test_a_frozen_pod_is_unready_until_it_goes_on(cluster: Cluster, namespace: str) -> None:
    name = (await running_pod(cluster, namespace))["metadata"]["name"]

    async def unready() -> bool:
        return not is_ready((await pods_of(cluster, namespace))[0])

    async def ready() -> bool:
        return not await unready()

    cluster.node.sigstop(namespace, name)
    await eventually("it is not ready", unready)
    cluster.node.sigcont(namespace, name)
    await eventually("it is ready", ready)


async def test_cut_off_takes_only_the_api_server_away(cluster: Cluster, namespace: str) -> None:
    pod = await running_pod(cluster, namespace)
    name = pod["metadata"]["name"]
    await cluster.node.cut_off(namespace, name)
    assert (await get(pod, "/whoami"))[0] == 503
    assert (await get(pod, "/facts"))[0] == 200
    await cluster.node.heal(namespace, name)
    assert (await get(pod, "/whoami"))[0] == 200


async def test_cut_off_silences_open_connections_too(cluster: Cluster, namespace: str) -> None:
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "view", "namespace": namespace},
        "roleRef": role,
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
    }
    flags = flags_of(namespace, "slow")
    flags["data"]["watch"] = "yes"
    await cluster.apply(binding, flags)
    pod = await running_pod(cluster, namespace, apply_flags=False)

    async def seen(mode: str) -> bool:
        return mode in (await get(pod, "/seen"))[1]

    await eventually("it watches", lambda: seen("slow"))
    await cluster.node.cut_off(namespace, pod["metadata"]["name"])
    flags["data"]["mode"] = "fast"
    await cluster.apply(flags)
    await asyncio.sleep(1)
    assert not await seen("fast")
    await cluster.node.heal(namespace, pod["metadata"]["name"])
    await eventually("the open watch goes on", lambda: seen("fast"))


async def test_an_orphan_outlives_its_object(cluster: Cluster, namespace: str) -> None:
    pod = await running_pod(cluster, namespace)
    name = pod["metadata"]["name"]
    orphan = cluster.node.orphan(namespace, name)
    pid = orphan.pid()
    await cluster.kubectl("-n", namespace, "delete", "pod", name, "--force", "--grace-period=0")

    async def replaced() -> bool:
        return any(is_ready(entry) and entry["metadata"]["name"] != name for entry in await pods_of(cluster, namespace))

    await eventually("its replacement is ready", replaced)
    assert alive(pid)
    assert (await get(pod, "/facts"))[0] == 200
    orphan.release()

    async def ended() -> bool:
        return not alive(pid)

    await eventually("the orphan has ended", ended)


async def test_the_api_server_comes_back_with_everything(cluster: Cluster, namespace: str) -> None:
    pod = await running_pod(cluster, namespace)
    await cluster.restart_apiserver(down_for=0.5)
    assert [entry["metadata"]["uid"] for entry in await pods_of(cluster, namespace)] == [pod["metadata"]["uid"]]
    pid = cluster.node.pid(namespace, pod["metadata"]["name"])
    await cluster.kubectl("-n", namespace, "scale", "deployment", "strategy", "--replicas=2")

    async def two() -> bool:
        return sum(is_ready(entry) for entry in await pods_of(cluster, namespace)) == 2

    await eventually("another pod is ready", two, 40)
    assert alive(pid)


async def test_a_frozen_prometheus_answers_nobody(cluster: Cluster) -> None:
    cluster.freeze_prometheus()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(cluster.query("vector(1)"), 0.5)
    cluster.thaw_prometheus()
    assert await cluster.query("vector(1)")
