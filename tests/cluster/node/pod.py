"""One pod on the node: from the moment it is bound here until its object and its processes are gone."""

from __future__ import annotations

import asyncio
import math
import shutil
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.cluster import network
from tests.cluster.faults import ORPHAN, PAUSE
from tests.cluster.images import ImageStore
from tests.cluster.node.api import Api, ApiError, Object
from tests.cluster.node.container import Container, Surroundings, timestamp
from tests.cluster.node.contents import ContentCache, references
from tests.cluster.node.environment import NotYetError
from tests.cluster.node.status import pod_status
from tests.cluster.node.volumes import Volumes, token_key, token_requests
from tests.cluster.processes import until

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class PodWorker:
    """Everything the node does for one pod."""

    def __init__(
        self,
        api: Api,
        contents: ContentCache,
        *,
        images: ImageStore,
        folder: Path,
        pod: Object,
        fields: dict[str, Any],
    ) -> None:
        metadata = pod["metadata"]
        self.pod = pod
        self.namespace: str = metadata["namespace"]
        self._name: str = metadata["name"]
        self._uid: str = metadata["uid"]
        self._api = api
        self._fields = {**fields, "pod": pod}
        label = f"{self.namespace}_{self._name}_{self._uid}"
        self._folder = folder / "pods" / label
        self._contents = contents
        self._images = images
        self._logs = folder / "logs" / label
        self._changed = asyncio.Event()
        self._ending = asyncio.Event()
        self._writing = asyncio.Lock()
        self._object_gone = False
        self._volumes = Volumes(self._folder / "volumes", contents, self._fields)
        self._tokens: dict[str, tuple[str, float]] = {}
        self._init: list[Container] = []
        self._containers: list[Container] = []
        self._conditions: dict[str, Object] = {}
        self._pause: subprocess.Popen[bytes] | None = None

    def update(self, pod: Object) -> None:
        """The object changed."""
        self.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            self._ending.set()
        self._changed.set()

    def gone(self) -> None:
        """The object does not exist any more."""
        self._object_gone = True
        self._ending.set()

    @property
    def _orphan(self) -> bool:
        return (self._folder / ORPHAN).exists()

    async def _released(self) -> bool:
        return not self._orphan

    async def run(self) -> None:
        """The whole life of the pod."""
        self._folder.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(self._connect)
        self._make_containers()
        reporting = asyncio.create_task(self._report())
        living = asyncio.create_task(self._live())
        if self.pod["metadata"].get("deletionTimestamp"):
            self._ending.set()
        await self._ending.wait()
        await until("it is no orphan", self._released, math.inf, 0.2)
        living.cancel()
        await asyncio.wait([living])
        grace = 0.0 if self._object_gone else float(self.pod["metadata"].get("deletionGracePeriodSeconds") or 0)
        await asyncio.gather(*(container.stop(grace) for container in [*self._containers, *self._init]))
        reporting.cancel()
        await asyncio.wait([reporting])
        await self._finish()

    def _connect(self) -> None:
        """Make the pod's own network, held open by a process that does nothing."""
        self._pause = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL)
        ours = Path("/proc/self/ns/net").readlink()
        deadline = time.monotonic() + 10
        while Path(f"/proc/{self._pause.pid}/ns/net").readlink() == ours and time.monotonic() < deadline:
            time.sleep(0.002)
        number = self._fields["address"].split(".")
        network.connect_pod(self._pause.pid, f"p{number[2]}-{number[3]}", self._fields["address"])
        (self._folder / PAUSE).write_text(str(self._pause.pid))

    def _make_containers(self) -> None:
        spec = self.pod["spec"]
        hostname = spec.get("hostname") or self._name
        pause = self._pause
        if pause is None:
            raise RuntimeError("the pod has no network")
        around = Surroundings(
            fields=self._fields,
            contents=self._contents,
            images=self._images,
            volumes=self._volumes,
            folder=self._folder,
            logs=self._logs,
            hostname=hostname,
            pause_pid=pause.pid,
            base_environment={
                "PATH": _PATH,
                "HOME": "/tmp",
                "HOSTNAME": hostname,
                "KUBERNETES_SERVICE_HOST": network.API_ADDRESS,
                "KUBERNETES_SERVICE_PORT": str(network.API_PORT),
            },
            name_files=self._name_files(hostname),
            changed=self._changed.set,
        )
        policy = spec.get("restartPolicy", "Always")
        init_policy = "Never" if policy == "Never" else "OnFailure"
        self._init = [Container(entry, around, init_policy) for entry in spec.get("initContainers") or []]
        self._containers = [Container(entry, around, policy) for entry in spec["containers"]]
        self._changed.set()

    def _name_files(self, hostname: str) -> list[Object]:
        """Names are looked up in files only: a question to the machine's resolver would hang, unanswered."""
        contents = {
            "hosts": f"127.0.0.1 localhost\n{self._fields['address']} {hostname}\n",
            "resolv.conf": "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n",
        }
        for name, text in contents.items():
            (self._folder / name).write_text(text)
        return [{"source": str(self._folder / name), "target": f"/etc/{name}", "readOnly": False} for name in contents]

    async def _live(self) -> None:
        await self._contents.prime(self.namespace, references(self.pod))
        await until("its volumes can be written", self._volumes_written, math.inf, 0.2)
        for container in self._init:
            await asyncio.wait([container.start()])
            if container.state.get("terminated", {}).get("exitCode") != 0:
                return
        for container in self._containers:
            container.start()

    async def _volumes_written(self) -> bool:
        try:
            await self.refresh()
        except NotYetError as error:
            for container in self._containers:
                container.state = {"waiting": {"reason": "ContainerCreating", "message": str(error)}}
            self._changed.set()
            return False
        return True

    async def refresh(self) -> None:
        """Bring volumes up to date: changed ConfigMaps and Secrets, tokens that are about to expire."""
        async with self._writing:
            for request in token_requests(self.pod):
                key = token_key(request)
                if key not in self._tokens or time.time() > self._tokens[key][1]:
                    self._tokens[key] = await self._request_token(request)
            tokens = {key: token for key, (token, _) in self._tokens.items()}
            await asyncio.to_thread(self._volumes.write, tokens)

    async def _request_token(self, request: Object) -> tuple[str, float]:
        """A token bound to this pod, and when to ask for the next: at four fifths of its life."""
        account = self.pod["spec"].get("serviceAccountName", "default")
        bound = {"kind": "Pod", "apiVersion": "v1", "name": self._name, "uid": self._uid}
        lifetime = request.get("expirationSeconds", 3600)
        spec: Object = {"boundObjectRef": bound, "expirationSeconds": lifetime}
        if request.get("audience"):
            spec["audiences"] = [request["audience"]]
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        try:
            answer = await self._api.insist("POST", path, body)
        except ApiError as error:
            raise NotYetError(f"token for service account {account}: {error}") from error
        expires = datetime.fromisoformat(answer["status"]["expirationTimestamp"]).timestamp()
        return str(answer["status"]["token"]), time.time() + 0.8 * (expires - time.time())

    @property
    def _path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{self._name}"

    async def _report(self) -> None:
        started = timestamp()
        last: Object = {}
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._orphan:
                continue
            status = self._status() | {"startTime": started}
            if status != last and await self._send(status):
                last = status

    def _status(self) -> Object:
        addresses = (self._fields["host_address"], self._fields["address"])
        return pod_status(self.pod, self._init, self._containers, addresses, self._conditions)

    async def _send(self, status: Object) -> bool:
        # With the uid the server refuses the change when a new pod of the same name has taken the place.
        body = {"metadata": {"uid": self._uid}, "status": status}
        try:
            await self._api.insist("PATCH", f"{self._path}/status", body)
        except ApiError:
            return False
        return True

    async def _finish(self) -> None:
        """Report the end, release the object and everything the pod had here. Logs stay."""
        if not self._object_gone:
            await self._send(self._status())
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self._uid}}
            try:
                await self._api.insist("DELETE", self._path, options)
            except ApiError as error:
                if error.status not in (404, 409):
                    raise
        if self._pause is not None:
            self._pause.send_signal(signal.SIGKILL)
            await asyncio.to_thread(self._pause.wait)
        shutil.rmtree(self._folder, ignore_errors=True)
