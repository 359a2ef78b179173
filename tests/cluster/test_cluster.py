"""Proves that the local cluster behaves as the tests built on it assume: real pods, real faults, real metrics."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.processes import alive, until

pytestmark = pytest.mark.cluster
Object = dict[str, Any]

# A strategy as small as it can be. It reads its API server's address and token the way every in-cluster client does.
STRATEGY = """
import http.server, json, os, pathlib, signal, ssl, sys, threading, urllib.request

ACCOUNT = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

def ask_api(path):
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    headers = {"Authorization": "Bearer " + (ACCOUNT / "token").read_text(), "Content-Type": "application/json"}
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    request = urllib.request.Request(f"https://{host}:{port}{path}", json.dumps(review).encode(), headers)
    context = ssl.create_default_context(cafile=ACCOUNT / "ca.crt")
    return urllib.request.urlopen(request, context=context, timeout=2).read().decode()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/metrics":
            text = "orders_total 7\\n"
        elif self.path == "/crash":
            os._exit(3)
        elif self.path == "/whoami":
            try:
                text = ask_api("/apis/authentication.k8s.io/v1/selfsubjectreviews")
            except OSError as error:
                self.send_error(503, str(error)[:80])
                return
        elif self.path == "/seen":
            text = json.dumps(SEEN)
        elif self.path == "/facts":
            text = json.dumps({
                "environment": dict(os.environ),
                "flags": pathlib.Path("/etc/strategy/flags/mode").read_text(),
                "namespace": (ACCOUNT / "namespace").read_text(),
                "arguments": sys.argv[1:],
                "pid": os.getpid(),
            })
        else:
            text = "ok"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass

SEEN = []

def watch():
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    url = f"https://{host}:{port}/api/v1/namespaces/{(ACCOUNT / 'namespace').read_text()}/configmaps?watch=1"
    headers = {"Authorization": "Bearer " + (ACCOUNT / "token").read_text()}
    context = ssl.create_default_context(cafile=ACCOUNT / "ca.crt")
    for line in urllib.request.urlopen(urllib.request.Request(url, headers=headers), context=context):
        SEEN.append(json.loads(line)["object"]["data"].get("mode"))

if os.environ.get("FLAG_watch"):
    threading.Thread(target=watch, daemon=True).start()
print("started", flush=True)
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


def _deployment(namespace: str, image: str, replicas: int = 1) -> Object:
    container = {
        "name": "strategy",
        "image": image,
        "args": ["--pod=$(POD)", "$(UNKNOWN)", "$$(POD)"],
        "ports": [{"name": "metrics", "containerPort": 8080}],
        "env": [
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {
                "name": "REVISION",
                "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['strategyrollout.io/revision']"}},
            },
            {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "flags", "key": "mode"}}},
        ],
        "envFrom": [{"prefix": "FLAG_", "configMapRef": {"name": "flags"}}],
        "volumeMounts": [{"name": "flags", "mountPath": "/etc/strategy/flags"}],
        "readinessProbe": {"httpGet": {"port": "metrics", "path": "/ready"}, "periodSeconds": 1},
    }
    labels = {"app": "strategy"} | {
        f"strategyrollout.io/{key}": f"the-{key}" for key in ("rollout", "revision", "version", "role")
    }
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "containers": [container],
            "volumes": [{"name": "flags", "configMap": {"name": "flags"}}],
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "strategy", "namespace": namespace},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "strategy"}}, "template": template},
    }


def _flags(namespace: str, mode: str) -> Object:
    metadata = {"name": "flags", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"mode": mode}}


def _service(namespace: str) -> Object:
    spec = {"selector": {"app": "strategy"}, "ports": [{"port": 80, "targetPort": "metrics"}]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "strategy", "namespace": namespace},
        "spec": spec,
    }


def _image(cluster: Cluster) -> str:
    return cluster.images.add("strategy", [sys.executable, "/app/strategy.py"], {"/app/strategy.py": STRATEGY})


async def _pods(cluster: Cluster, namespace: str) -> list[Object]:
    _, listed = await cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods")
    pods: list[Object] = listed["items"]
    return pods


def _ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


async def _until(what: str, check: Callable[[], Awaitable[bool]], timeout: float = 20) -> None:
    await until(what, check, timeout)


async def _running(cluster: Cluster, namespace: str, *, apply_flags: bool = True) -> Object:
    """Deploy one strategy and return its pod once it is ready."""
    flags = [_flags(namespace, "slow")] if apply_flags else []
    await cluster.apply(*flags, _deployment(namespace, _image(cluster)))

    async def ready() -> bool:
        pods = await _pods(cluster, namespace)
        return len(pods) == 1 and _ready(pods[0])

    await _until("the strategy is ready", ready)
    return (await _pods(cluster, namespace))[0]


async def _get(pod: Object, path: str) -> tuple[int, Any]:
    url = f"http://{pod['status']['podIP']}:8080{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.json(content_type=None) if response.status == 200 else None


def _waiting(pod: Object) -> str:
    states = pod["status"].get("containerStatuses", [])
    return str(states[0]["state"].get("waiting", {}).get("reason", "")) if states else ""


async def test_a_pod_runs_with_everything_its_template_asks_for(cluster: Cluster, namespace: str) -> None:
    pod = await _running(cluster, namespace)
    status, facts = await _get(pod, "/facts")
    assert status == 200
    environment = facts["environment"]
    name = pod["metadata"]["name"]
    assert (environment["POD"], environment["POD_IP"]) == (name, pod["status"]["podIP"])
    assert (environment["REVISION"], environment["MODE"], environment["FLAG_mode"]) == ("the-revision", "slow", "slow")
    assert environment["HOSTNAME"] == name
    assert facts["arguments"] == [f"--pod={name}", "$(UNKNOWN)", "$(POD)"]
    assert (facts["flags"], facts["namespace"], facts["pid"]) == ("slow", namespace, 1)
    assert pod["status"]["containerStatuses"][0]["imageID"] == _image(cluster)


async def test_a_changed_config_map_reaches_the_files_of_a_running_pod(cluster: Cluster, namespace: str) -> None:
    pod = await _running(cluster, namespace)
    await cluster.apply(_flags(namespace, "fast"))

    async def seen() -> bool:
        return bool((await _get(pod, "/facts"))[1]["flags"] == "fast")

    await _until("the new content is seen", seen)


async def test_a_ready_pod_is_an_endpoint_and_is_scraped_under_its_labels(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(_service(namespace))
    pod = await _running(cluster, namespace)

    async def endpoint() -> bool:
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        _, listed = await cluster.request("GET", path)
        endpoints = [entry for item in listed["items"] for entry in item.get("endpoints") or []]
        return [(e["addresses"], e["conditions"]["ready"]) for e in endpoints] == [([pod["status"]["podIP"]], True)]

    await _until("its address is in the EndpointSlice", endpoint)

    async def scraped() -> bool:
        return bool(await cluster.query(f'orders_total{{namespace="{namespace}"}}'))

    await _until("it is scraped", scraped)
    metric = (await cluster.query(f'orders_total{{namespace="{namespace}"}}'))[0]["metric"]
    wanted = {key: f"the-{key}" for key in ("rollout", "revision", "version", "role")}
    assert wanted | {"pod": pod["metadata"]["name"]} == {key: metric[key] for key in [*wanted, "pod"]}


async def test_the_token_is_bound_to_the_pod(cluster: Cluster, namespace: str) -> None:
    pod = await _running(cluster, namespace)
    _, answer = await _get(pod, "/whoami")
    user = answer["status"]["userInfo"]
    assert user["username"] == f"system:serviceaccount:{namespace}:default"
    assert user["extra"]["authentication.kubernetes.io/pod-uid"] == [pod["metadata"]["uid"]]


async def test_a_crash_is_restarted_with_a_pause(cluster: Cluster, namespace: str) -> None:
    pod = await _running(cluster, namespace)
    with pytest.raises(aiohttp.ClientError):
        await _get(pod, "/crash")

    async def pausing() -> bool:
        return _waiting((await _pods(cluster, namespace))[0]) == "CrashLoopBackOff"

    await _until("it is in CrashLoopBackOff", pausing)
    status = (await _pods(cluster, namespace))[0]["status"]["containerStatuses"][0]
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert not status["ready"]

    async def back() -> bool:
        current = (await _pods(cluster, namespace))[0]
        return _ready(current) and current["status"]["containerStatuses"][0]["restartCount"] == 1

    await _until("it is ready again", back)


async def test_a_killed_container_reports_the_signal(cluster: Cluster, namespace: str) -> None:
    pod = await _running(cluster, namespace)
    cluster.node.kill(namespace, pod["metadata"]["name"])

    async def reported() -> bool:
        last = (await _pods(cluster, namespace))[0]["status"]["containerStatuses"][0].get("lastState", {})
        return bool(last.get("terminated", {}).get("exitCode") == 137)

    await _until("exit code 137 is reported", reported)


async def test_an_unknown_digest_is_never_started(cluster: Cluster, namespace: str) -> None:
    unknown = "registry.example/strategy@sha256:" + "0" * 64
    await cluster.apply(_flags(namespace, "slow"), _deployment(namespace, unknown))

    async def refused() -> bool:
        pods = await _pods(cluster, namespace)
        return bool(pods) and _waiting(pods[0]) == "ImagePullBackOff"

    await _until("it is in ImagePullBackOff", refused)
    assert (await _pods(cluster, namespace))[0]["status"]["phase"] == "Pending"


async def test_deleting_a_pod_ends_its_process_politely(cluster: Cluster, namespace: str) -> None:
    pod = await _running(cluster, namespace)
    name = pod["metadata"]["name"]
    pid = cluster.node.pid(namespace, name)
    await cluster.request("DELETE", f"/apis/apps/v1/namespaces/{namespace}/deployments/strategy")

    async def gone() -> bool:
        return not await _pods(cluster, namespace)

    await _until("the pod is gone", gone)
    assert not alive(pid)
    assert cluster.node.log(namespace, name) == "started\n"


async def test_a_frozen_pod_is_unready_until_it_goes_on(cluster: Cluster, namespace: str) -> None:
    name = (await _running(cluster, namespace))["metadata"]["name"]

    async def unready() -> bool:
        return not _ready((await _pods(cluster, namespace))[0])

    async def ready() -> bool:
        return not await unready()

    cluster.node.sigstop(namespace, name)
    await _until("it is not ready", unready)
    cluster.node.sigcont(namespace, name)
    await _until("it is ready", ready)


async def test_cut_off_takes_only_the_api_server_away(cluster: Cluster, namespace: str) -> None:
    pod = await _running(cluster, namespace)
    name = pod["metadata"]["name"]
    await cluster.node.cut_off(namespace, name)
    assert (await _get(pod, "/whoami"))[0] == 503
    assert (await _get(pod, "/facts"))[0] == 200
    await cluster.node.heal(namespace, name)
    assert (await _get(pod, "/whoami"))[0] == 200


async def test_cut_off_silences_open_connections_too(cluster: Cluster, namespace: str) -> None:
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "view", "namespace": namespace},
        "roleRef": role,
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
    }
    flags = _flags(namespace, "slow")
    flags["data"]["watch"] = "yes"
    await cluster.apply(binding, flags)
    pod = await _running(cluster, namespace, apply_flags=False)

    async def seen(mode: str) -> bool:
        return mode in (await _get(pod, "/seen"))[1]

    await _until("it watches", lambda: seen("slow"))
    await cluster.node.cut_off(namespace, pod["metadata"]["name"])
    flags["data"]["mode"] = "fast"
    await cluster.apply(flags)
    await asyncio.sleep(1)
    assert not await seen("fast")
    await cluster.node.heal(namespace, pod["metadata"]["name"])
    await _until("the open watch goes on", lambda: seen("fast"))


async def test_an_orphan_outlives_its_object(cluster: Cluster, namespace: str) -> None:
    pod = await _running(cluster, namespace)
    name = pod["metadata"]["name"]
    orphan = cluster.node.orphan(namespace, name)
    pid = orphan.pid()
    await cluster.kubectl("-n", namespace, "delete", "pod", name, "--force", "--grace-period=0")

    async def replaced() -> bool:
        return any(_ready(entry) and entry["metadata"]["name"] != name for entry in await _pods(cluster, namespace))

    await _until("its replacement is ready", replaced)
    assert alive(pid)
    assert (await _get(pod, "/facts"))[0] == 200
    orphan.release()

    async def ended() -> bool:
        return not alive(pid)

    await _until("the orphan has ended", ended)


async def test_the_api_server_comes_back_with_everything(cluster: Cluster, namespace: str) -> None:
    pod = await _running(cluster, namespace)
    await cluster.restart_apiserver(down_for=0.5)
    assert [entry["metadata"]["uid"] for entry in await _pods(cluster, namespace)] == [pod["metadata"]["uid"]]
    pid = cluster.node.pid(namespace, pod["metadata"]["name"])
    await cluster.kubectl("-n", namespace, "scale", "deployment", "strategy", "--replicas=2")

    async def two() -> bool:
        return sum(_ready(entry) for entry in await _pods(cluster, namespace)) == 2

    await _until("another pod is ready", two, 40)
    assert alive(pid)


async def test_a_frozen_prometheus_answers_nobody(cluster: Cluster) -> None:
    cluster.freeze_prometheus()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(cluster.query("vector(1)"), 0.5)
    cluster.thaw_prometheus()
    assert await cluster.query("vector(1)")


async def test_fake_nodes_take_pods_that_ask_for_them(cluster: Cluster, namespace: str) -> None:
    await cluster.add_fake_nodes(2)
    deployment = _deployment(namespace, "registry.example/none@sha256:" + "1" * 64, replicas=20)
    deployment["spec"]["template"]["spec"] |= {
        "nodeSelector": {"type": "fake"},
        "tolerations": [{"key": "fake", "operator": "Exists"}],
    }
    await cluster.apply(deployment)

    async def all_ready() -> bool:
        pods = await _pods(cluster, namespace)
        return len(pods) == 20 and all(_ready(pod) for pod in pods)

    await _until("twenty fake pods are ready", all_ready)
    await cluster.request("DELETE", f"/apis/apps/v1/namespaces/{namespace}/deployments/strategy")

    async def gone() -> bool:
        return not await _pods(cluster, namespace)

    await _until("they are gone", gone)


async def test_people_have_tokens_and_no_rights(cluster: Cluster) -> None:
    path = "/api/v1/namespaces/default/pods"
    status, answer = await cluster.request("GET", path, token=cluster.client_token("alice"))
    assert status == 403
    assert '"alice"' in answer["message"]
