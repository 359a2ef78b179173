"""The API server as everyone who tests something speaks to it: JSON requests, kubectl, tokens, whatever cluster it is.

Why apart from the clusters: a request is the same on pretended nodes, on a real one and on somebody else's cluster.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.cluster.build import binary
from tests.cluster.control_plane import kubeconfig_of, user_token
from tests.cluster.node.api import Api
from tests.cluster.processes import ClusterError, until

Object = dict[str, Any]


class Access:
    """The administrator's way in. Holds no connection and no event loop, so any loop and any process may use it."""

    def __init__(self, folder: Path, server: str, ca_file: Path | None, kubeconfig: Path, admin_token: str) -> None:
        """`ca_file`: the certificate that signs the API server's; none where `server` is a proxy of this machine."""
        self.folder = folder.resolve()
        self.server = server
        self.ca_file = ca_file
        self.kubeconfig = kubeconfig
        self.admin_token = admin_token

    def api(self) -> Api:
        """A session that can watch; to be closed by the caller."""
        return Api(self.server, str(self.ca_file) if self.ca_file else None, self.admin_token)

    async def request(self, method: str, path: str, body: Object | None = None, token: str = "") -> tuple[int, Object]:
        """One JSON request to the API server: status and answer; status 0 when nobody answers."""
        return await asyncio.to_thread(self._request, method, path, body, token or self.admin_token)

    def _request(self, method: str, path: str, body: Object | None, token: str) -> tuple[int, Object]:
        content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type, "Accept": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server + path, data=data, headers=headers, method=method)
        context = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None
        try:
            with urllib.request.urlopen(request, context=context, timeout=30) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
            try:
                return error.code, json.loads(text)
            except ValueError:
                return error.code, {"message": text.decode(errors="replace")}
        except OSError as error:
            return 0, {"message": str(error)}

    async def apply(self, *objects: Object) -> None:
        """`kubectl apply` of these objects, by server-side apply."""
        text = "\n---\n".join(json.dumps(item) for item in objects)
        await self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)

    async def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """Run kubectl as the administrator and return what it printed; raises with its words when it fails."""
        process = await asyncio.create_subprocess_exec(
            str(binary("kubectl")),
            "--kubeconfig",
            str(self.kubeconfig),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate(stdin.encode())
        if check and process.returncode:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {output.decode(errors='replace')}")
        return output.decode(errors="replace")

    def client_token(self, user: str) -> str:
        """The token of one of the prepared people (control_plane.USERS); they may do nothing until RBAC says so."""
        return user_token(user)

    def client_kubeconfig(self, user: str, namespace: str = "default") -> Path:
        """A kubeconfig for one of the prepared people."""
        path = self.folder / f"kubeconfig-{user}"
        return self._write(path, user_token(user), namespace)

    async def service_account_token(self, namespace: str, account: str, pod: Object | None = None) -> str:
        """A token of a ServiceAccount; bound to the pod (its object) if one is given."""
        spec: Object = {}
        if pod is not None:
            metadata = pod["metadata"]
            bound = {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]}
            spec["boundObjectRef"] = bound
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        status, answer = await self.request("POST", path, {"spec": spec})
        if status != 201:
            raise ClusterError(f"no token for {namespace}/{account}: {answer.get('message')}")
        return str(answer["status"]["token"])

    async def service_account_exists(self, namespace: str, account: str) -> None:
        """Wait until there is such a ServiceAccount; before that the API server refuses its pods."""

        async def check() -> bool:
            path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}"
            return (await self.request("GET", path))[0] == 200

        await until(f"ServiceAccount {namespace}/{account} exists", check, 30)

    async def service_account_kubeconfig(self, namespace: str, account: str) -> Path:
        """A kubeconfig for a ServiceAccount, for programs that run outside of pods, like the operator in tests."""
        token = await self.service_account_token(namespace, account)
        path = self.folder / f"kubeconfig-{namespace}-{account}"
        return self._write(path, token, namespace)

    async def deployed(self, namespace: str, name: str, seconds: float = 60) -> None:
        """Wait until all pods of a Deployment are ready. Raises ClusterError with what its pods say instead."""
        deadline = time.monotonic() + seconds
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        while True:
            code, found = await self.request("GET", path)
            if code == 200 and _all_ready(found):
                return
            if time.monotonic() > deadline:
                told = await self.kubectl("describe", "pods", "-n", namespace, check=False)
                said = await self.kubectl("logs", f"deployment/{name}", "-n", namespace, "--tail=10", check=False)
                raise ClusterError(
                    f"{namespace}/{name} is not ready after {seconds:g} s\n{told[-3000:]}\n{said[-4000:]}"
                )
            await asyncio.sleep(0.1)

    def _write(self, path: Path, token: str, namespace: str) -> Path:
        path.write_text(kubeconfig_of(self.server, self.ca_file, token, namespace))
        return path


def _all_ready(deployment: dict[str, Any]) -> bool:
    status, wanted = deployment.get("status") or {}, deployment["spec"]["replicas"]
    current = status.get("observedGeneration") == deployment["metadata"]["generation"]
    ready, updated = status.get("readyReplicas", 0), status.get("updatedReplicas", 0)
    return bool(current and ready == updated == status.get("replicas", 0) == wanted)
