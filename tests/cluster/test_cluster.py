"""Proves that the local cluster behaves as the tests built on it assume: real pods, metrics, identities."""

from __future__ import annotations

import aiohttp
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.example import (
    deployment,
    eventually,
    flags_of,
    get,
    image_of,
    is_ready,
    pods_of,
    running_pod,
    service,
    waiting_reason,
)
from tests.cluster.processes import alive

pytestmark = pytest.mark.cluster


async def test_a_pod_runs_with_everything_its_template_asks_for(cluster: Cluster, namespace: str) -> None:
    pod = await running_pod(cluster, namespace)
    status, facts = await get(pod, "/facts")
    assert status == 200
    environment = facts["environment"]
    name = pod["metadata"]["name"]
    assert (environment["POD"], environment["POD_IP"]) == (name, pod["status"]["podIP"])
    assert (environment["REVISION"], environment["MODE"], environment["FLAG_mode"]) == ("the-revision", "slow", "slow")
    assert environment["HOSTNAME"] == name
    assert facts["arguments"] == [f"--pod={name}", "$(UNKNOWN)", "$(POD)"]
    assert (facts["flags"], facts["namespace"], facts["pid"]) == ("slow", namespace, 1)
    assert pod["status"]["containerStatuses"][0]["imageID"] == image_of(cluster)


async def test_a_changed_config_map_reaches_the_files_of_a_running_pod(cluster: Cluster, namespace: str) -> None:
    pod = await running_pod(cluster, namespace)
    await cluster.apply(flags_of(namespace, "fast"))

    async def seen() -> bool:
        return bool((await get(pod, "/facts"))[1]["flags"] == "fast")

    await eventually("the new content is seen", seen)


async def test_a_ready_pod_is_an_endpoint_and_is_scraped_under_its_labels(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(service(namespace))
    pod = await running_pod(cluster, namespace)

    async def endpoint() -> bool:
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        _, listed = await cluster.request("GET", path)
        endpoints = [entry for item in listed["items"] for entry in item.get("endpoints") or []]
        return [(e["addresses"], e["conditions"]["ready"]) for e in endpoints] == [([pod["status"]["podIP"]], True)]

    await eventually("its address is in the EndpointSlice", endpoint)

    async def scraped() -> bool:
        return bool(await cluster.query(f'orders_total{{namespace="{namespace}"}}'))

    await eventually("it is scraped", scraped)
    metric = (await cluster.query(f'orders_total{{namespace="{namespace}"}}'))[0]["metric"]
    wanted = {key: f"the-{key}" for key in ("rollout", "revision", "version", "role")}
    assert wanted | {"pod": pod["metadata"]["name"]} == {key: metric[key] for key in [*wanted, "pod"]}


async def test_the_token_is_bound_to_the_pod(cluster: Cluster, namespace: str) -> None:
    pod = await running_pod(cluster, namespace)
    _, answer = await get(pod, "/whoami")
    user = answer["status"]["userInfo"]
    assert user["username"] == f"system:serviceaccount:{namespace}:default"
    assert user["extra"]["authentication.kubernetes.io/pod-uid"] == [pod["metadata"]["uid"]]


async def test_a_crash_is_restarted_with_a_pause(cluster: Cluster, namespace: str) -> None:
    pod = await running_pod(cluster, namespace)
    with pytest.raises(aiohttp.ClientError):
        await get(pod, "/crash")

    async def pausing() -> bool:
        return waiting_reason((await pods_of(cluster, namespace))[0]) == "CrashLoopBackOff"

    await eventually("it is in CrashLoopBackOff", pausing)
    status = (await pods_of(cluster, namespace))[0]["status"]["containerStatuses"][0]
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert not status["ready"]

    async def back() -> bool:
        current = (await pods_of(cluster, namespace))[0]
        return is_ready(current) and current["status"]["containerStatuses"][0]["restartCount"] == 1

    await eventually("it is ready again", back)


async def test_an_unknown_digest_is_never_started(cluster: Cluster, namespace: str) -> None:
    unknown = "registry.example/strategy@sha256:" + "0" * 64
    await cluster.apply(flags_of(namespace, "slow"), deployment(namespace, unknown))

    async def refused() -> bool:
        pods = await pods_of(cluster, namespace)
        return bool(pods) and waiting_reason(pods[0]) == "ImagePullBackOff"

    await eventually("it is in ImagePullBackOff", refused)
    assert (await pods_of(cluster, namespace))[0]["status"]["phase"] == "Pending"


async def test_deleting_a_pod_ends_its_process_politely(cluster: Cluster, namespace: str) -> None:
    pod = await running_pod(cluster, namespace)
    name = pod["metadata"]["name"]
    pid = cluster.node.pid(namespace, name)
    await cluster.request("DELETE", f"/apis/apps/v1/namespaces/{namespace}/deployments/strategy")

    async def gone() -> bool:
        return not await pods_of(cluster, namespace)

    await eventually("the pod is gone", gone)
    assert not alive(pid)
    assert cluster.node.log(namespace, name) == "started\n"


async def test_fake_nodes_take_pods_that_ask_for_them(cluster: Cluster, namespace: str) -> None:
    await cluster.add_fake_nodes(2)
    wanted = deployment(namespace, "registry.example/none@sha256:" + "1" * 64, replicas=20)
    wanted["spec"]["template"]["spec"] |= {
        "nodeSelector": {"type": "fake"},
        "tolerations": [{"key": "fake", "operator": "Exists"}],
    }
    await cluster.apply(wanted)

    async def all_ready() -> bool:
        pods = await pods_of(cluster, namespace)
        return len(pods) == 20 and all(is_ready(pod) for pod in pods)

    await eventually("twenty fake pods are ready", all_ready)
    await cluster.request("DELETE", f"/apis/apps/v1/namespaces/{namespace}/deployments/strategy")

    async def gone() -> bool:
        return not await pods_of(cluster, namespace)

    await eventually("they are gone", gone)


async def test_people_have_tokens_and_no_rights(cluster: Cluster) -> None:
    path = "/api/v1/namespaces/default/pods"
    status, answer = await cluster.request("GET", path, token=cluster.client_token("alice"))
    assert status == 403
    assert '"alice"' in answer["message"]
