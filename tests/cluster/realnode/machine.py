"""The programs of the node: registry, containerd, kubelet, kube-proxy; started, killed and started again by name."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path

from tests.cluster.build import binary
from tests.cluster.control_plane import kubeconfig_of
from tests.cluster.processes import ClusterError, Program, until
from tests.cluster.realnode import archive, configuration
from tests.cluster.realnode.place import ADDRESS, DATA, KUBELET, NAME

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Machine:
    """The node's programs in one folder; their data lies in memory (place.DATA)."""

    def __init__(self, folder: Path, cgroup: str = "") -> None:
        """`cgroup`: the group of its pods; needed to start it, not to look at one that runs."""
        self._folder = folder
        self._cgroup = cgroup
        self.registry = Program(folder, "registry")
        self.containerd = Program(folder, "containerd")
        self.kubelet = Program(folder, "kubelet")
        self.proxy = Program(folder, "kube-proxy")

    def prepare(self) -> None:
        """Before the control plane: the certificate by which the API server asks the kubelet for logs."""
        shutil.rmtree(self._folder / "pids", ignore_errors=True)  # of an earlier run, whose process ids mean others now
        certificates = self._folder / "certs" / "node"
        certificates.mkdir(parents=True, exist_ok=True)
        new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
        _openssl(certificates, *new, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca")
        who = ["-subj", "/O=system:masters/CN=kube-apiserver", "-addext", "extendedKeyUsage=clientAuth"]
        by = ["-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE"]
        _openssl(certificates, *new, *by, "-keyout", "to-kubelet.key", "-out", "to-kubelet.crt", *who)

    async def start_images(self, pause: Path) -> None:
        """Registry and containerd, which need no control plane. `pause`: the image that holds a pod's namespaces."""
        (DATA / "resolv.conf").touch()
        configuration.cni_folder().mkdir(parents=True, exist_ok=True)
        (configuration.cni_folder() / "10-pods.conflist").write_text(json.dumps(configuration.cni()))
        self._start(self.registry, ["docker-registry", "serve"], "registry.json", json.dumps(configuration.registry()))
        await until("the registry answers", self._registry_answers, 20)
        config = self._folder / "containerd.toml"
        config.write_text(configuration.containerd(await self.push(pause, "cluster/pause")))
        self.containerd.start(["containerd", "--config", str(config)])

    def start_node(self, server: str, ca_file: Path) -> None:
        """Kubelet and kube-proxy."""
        for name in ("kubelet", "proxy"):
            text = kubeconfig_of(server, ca_file, f"{name}-token")
            (self._folder / f"kubeconfig-{name}").write_text(text)
        (self._folder / "kubelet.json").write_text(
            json.dumps(configuration.kubelet(self._folder, self._cgroup), indent=1)
        )
        self.start_kubelet()
        text = json.dumps(configuration.proxy(self._folder / "kubeconfig-proxy"), indent=1)
        self._start(self.proxy, [str(binary("kube-proxy")), "--config"], "kube-proxy.json", text)

    def start_kubelet(self) -> None:
        """Also after it was killed: it finds its pods again."""
        flags = {
            "config": self._folder / "kubelet.json",
            "kubeconfig": self._folder / "kubeconfig-kubelet",
            "root-dir": KUBELET,
            "cert-dir": KUBELET / "pki",
            "hostname-override": NAME,
            "node-ip": ADDRESS,
        }
        self.kubelet.start([str(binary("kubelet")), *(f"--{name}={value}" for name, value in flags.items())])

    def _start(self, program: Program, command: list[str], file: str, text: str) -> None:
        path = self._folder / file
        path.write_text(text)
        program.start([*command, str(path)])

    async def _registry_answers(self) -> bool:
        if self.registry.pid is None:
            raise ClusterError(f"the registry ended\n{self.registry.last_words()}")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", 5000)
        except OSError:
            return False
        writer.close()
        return True

    async def push(self, image: Path, repository: str) -> str:
        """Put an image (an OCI archive) into the registry; returns its reference, pinned by digest."""
        skopeo = shutil.which("skopeo")
        if skopeo is None:
            raise ClusterError("skopeo is not installed; run: python -m tests.e2e, which installs it")
        tag = f"docker://{configuration.REGISTRY}/{repository}:latest"
        digest = image.with_suffix(".digest")
        copy = ["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", "--digestfile", str(digest)]
        await run(skopeo, *copy, f"oci-archive:{image}", tag)
        found = _DIGEST.fullmatch(digest.read_text().strip())
        if found is None:
            raise ClusterError(f"skopeo told no digest for {image}: {digest.read_text()!r}")
        return f"{configuration.REGISTRY}/{repository}@{found.group()}"

    async def push_program(self, name: str, inside: str, command: list[str]) -> str:
        """An image of one of our own programs."""
        file = DATA / f"{name}.tar"
        await asyncio.to_thread(archive.write, file, {inside: binary(name)}, command)
        try:
            return await self.push(file, f"cluster/{name}")
        finally:
            file.unlink()


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


async def run(*command: str) -> str:
    """A command and what it printed. Raises ClusterError with its words."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    text = output.decode(errors="replace")
    if process.returncode:
        raise ClusterError(f"{' '.join(command)}: {text}")
    return text
