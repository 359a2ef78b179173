"""A strategy as small as it can be, and what the cluster's own tests ask about it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from tests.cluster.cluster import Cluster
from tests.cluster.processes import until

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


def deployment(namespace: str, image: str, replicas: int = 1) -> Object:
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


def flags_of(namespace: str, mode: str) -> Object:
    metadata = {"name": "flags", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"mode": mode}}


def service(namespace: str) -> Object:
    spec = {"selector": {"app": "strategy"}, "ports": [{"port": 80, "targetPort": "metrics"}]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "strategy", "namespace": namespace},
        "spec": spec,
    }


def image_of(cluster: Cluster) -> str:
    return cluster.images.add("strategy", [sys.executable, "/app/strategy.py"], {"/app/strategy.py": STRATEGY})


async def pods_of(cluster: Cluster, namespace: str) -> list[Object]:
    _, listed = await cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods")
    pods: list[Object] = listed["items"]
    return pods


def is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


async def eventually(what: str, check: Callable[[], Awaitable[bool]], timeout: float = 20) -> None:
    await until(what, check, timeout)


async def running_pod(cluster: Cluster, namespace: str, *, apply_flags: bool = True) -> Object:
    """Deploy one strategy and return its pod once it is ready."""
    flags = [flags_of(namespace, "slow")] if apply_flags else []
    await cluster.apply(*flags, deployment(namespace, image_of(cluster)))

    async def ready() -> bool:
        pods = await pods_of(cluster, namespace)
        return len(pods) == 1 and is_ready(pods[0])

    await eventually("the strategy is ready", ready)
    return (await pods_of(cluster, namespace))[0]


async def get(pod: Object, path: str) -> tuple[int, Any]:
    url = f"http://{pod['status']['podIP']}:8080{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.json(content_type=None) if response.status == 200 else None


def waiting_reason(pod: Object) -> str:
    states = pod["status"].get("containerStatuses", [])
    return str(states[0]["state"].get("waiting", {}).get("reason", "")) if states else ""
