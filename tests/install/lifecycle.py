"""A release of the chart comes, is upgraded, rolled back, removed and comes again while a rollout is out.

Whatever cluster it is: the caller brings a rollout to a share and says how to see its tables and who serves; everything
here only changes the operator and looks whether anything of the rollout has noticed.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from strategyrollout.api.assignment import AssignmentSpec
from strategyrollout.api.meta import LABEL_ROLLOUT
from tests.cluster.processes import until
from tests.install.helm import CHART, Values, helm, release

Object = dict[str, Any]
PREVIOUS = "0.0.9"
_CRD = "strategyrollouts.strategyrollout.io"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Reached(Protocol):
    """A cluster, whatever it is."""

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""

    async def request(self, method: str, path: str, body: Object | None = None) -> tuple[int, Object]:
        """One JSON request: status and answer."""


def previous(folder: Path) -> Path:
    """A package of the chart as an earlier version: with other numbers, and a column less in a CRD."""
    chart = folder / CHART.name
    shutil.copytree(CHART, chart)
    path = chart / "files" / "crds" / "strategyrollouts.yaml"
    definition = yaml.safe_load(path.read_text())
    del definition["spec"]["versions"][0]["additionalPrinterColumns"][-1]
    path.write_text(yaml.safe_dump(definition))
    numbers = ("--version", PREVIOUS, "--app-version", PREVIOUS)
    answer = helm("package", str(chart), *numbers, "--destination", str(folder))
    return Path(answer.strip().rpartition(" ")[2])


@dataclass(frozen=True)
class Release:
    """One release of the operator."""

    cluster: Reached
    name: str
    namespace: str
    folder: Path

    async def install(self, values: Values, chart: Path = CHART, *, adopt: bool = False) -> None:
        """Returns when a replica leads and all are ready. `adopt`: CRDs that others have installed are taken over."""
        taken = ("--take-ownership", "--force-conflicts") if adopt else ()
        await self._helm("install", str(chart), "--create-namespace", *taken, values=values)

    async def upgrade(self, values: Values, chart: Path = CHART) -> None:
        """To another chart, or to other values."""
        await self._helm("upgrade", str(chart), values=values)

    async def roll_back(self) -> None:
        """To the revision before."""
        await self._helm("rollback", "1")

    async def uninstall(self) -> None:
        """Returns when its pods are gone."""
        await self._helm("uninstall")

        async def gone() -> bool:
            return not await self.pods()

        await until("the operator's pods are gone", gone, 60)

    async def _helm(self, verb: str, *arguments: str, values: Values | None = None) -> None:
        where = ("--namespace", self.namespace, "--wait", "--timeout", "2m")
        await release(self.cluster.kubeconfig, verb, self.name, *arguments, *where, values=values)
        if verb != "uninstall":
            await self.leads()

    async def pods(self) -> list[Object]:
        """Of the operator."""
        selector = f"labelSelector=app.kubernetes.io/instance={self.name}"
        _, listed = await self.cluster.request("GET", f"/api/v1/namespaces/{self.namespace}/pods?{selector}")
        return list(listed["items"])

    async def leads(self) -> None:
        """Waits until one of the pods of now holds the Lease."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/{self.name}"

        async def held() -> bool:
            status, lease = await self.cluster.request("GET", path)
            pods = [p["metadata"]["name"] for p in await self.pods() if "deletionTimestamp" not in p["metadata"]]
            holder = str(lease["spec"].get("holderIdentity") or "") if status == 200 else ""
            return any(name and name in holder for name in pods)

        await until("a replica leads", held, 60)

    async def columns(self) -> int:
        """Of the CRD, which an upgrade changes; raises KeyError when it is gone."""
        _, definition = await self.cluster.request("GET", f"{_CRDS}/{_CRD}")
        return len(definition["spec"]["versions"][0]["additionalPrinterColumns"])


@dataclass
class Rollout:
    """One that must not notice. `tables`: every version of its assignment, oldest first. `served`: account -> who."""

    cluster: Reached
    namespace: str
    name: str
    tables: Callable[[], Sequence[AssignmentSpec]]
    served: Callable[[], Awaitable[object]]

    async def pods(self) -> dict[str, Object]:
        """By name: what would be another if a pod or one of its containers had been started again."""
        selector = f"labelSelector={LABEL_ROLLOUT}={self.name}"
        _, listed = await self.cluster.request("GET", f"/api/v1/namespaces/{self.namespace}/pods?{selector}")
        return {
            str(pod["metadata"]["name"]): {
                "uid": pod["metadata"]["uid"],
                "ending": "deletionTimestamp" in pod["metadata"],
                "containers": sorted(
                    (c["name"], c["containerID"], c["restartCount"]) for c in pod["status"]["containerStatuses"]
                ),
            }
            for pod in listed["items"]
        }


class Unmoved:
    """Compares a rollout with what it was."""

    def __init__(self, rollout: Rollout) -> None:
        self._rollout = rollout
        self._pods: dict[str, Object] = {}
        self._served: object = None
        self._tables = 0

    async def remember(self) -> None:
        """From now on nothing may move."""
        self._pods, self._served = await self._rollout.pods(), await self._rollout.served()
        self._tables = len(self._rollout.tables())
        assert self._pods

    async def check(self, after: str) -> None:
        """Raises AssertionError with what has moved since."""
        assert await self._rollout.pods() == self._pods, f"pods are not the same after {after}"
        served = await self._rollout.served()
        assert served == self._served, f"accounts are served by others after {after}: {served}, before: {self._served}"
        tables = self._rollout.tables()[self._tables - 1 :]
        moved = [table for table in tables if table.ranges != tables[0].ranges]
        assert not moved, f"shares have moved after {after}: {moved[0].cause.kind} {moved[0].cause.message}"


async def nothing_moves(
    operator: Release, rollout: Rollout, values: Values, *, newer: Values, start: Callable[[], Awaitable[None]]
) -> None:
    """The whole life of a release, under a rollout that `start` brings to its share once the operator is there.

    `newer`: values of the upgrade, at best with another image. At the end the operator is installed again.
    """
    await operator.install(values, previous(operator.folder), adopt=True)
    before = await operator.columns()
    await start()
    unmoved = Unmoved(rollout)
    await unmoved.remember()

    await operator.upgrade(newer)
    await unmoved.check("the upgrade")
    assert await operator.columns() == before + 1

    await operator.roll_back()
    await unmoved.check("the rollback")
    assert await operator.columns() == before

    await operator.uninstall()
    await unmoved.check("the removal")
    assert await operator.columns() == before

    await operator.install(newer)
    await unmoved.check("another installation")
    assert await operator.columns() == before + 1
