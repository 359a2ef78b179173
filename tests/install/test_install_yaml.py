"""`manifests/install.yaml` on a real API server: it is taken as it is, and the operator works with what it gives."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from tests.cluster.cluster import Cluster
from tests.cluster.processes import until
from tests.conformance.manifests import add_image, rollout, steps, template
from tests.install.helm import template as rendered
from tests.install.schemas import monitoring_crds
from tests.install.test_rendered import environment, objects
from tests.install.values import EVERYTHING
from tests.operator_process import Operator
from tests.router.image import add_router_image

pytestmark = pytest.mark.cluster

Object = dict[str, Any]
INSTALL = Path(__file__).parents[2] / "manifests" / "install.yaml"
HOME = "strategy-rollouts"
_LABEL = f"app.kubernetes.io/instance={HOME}"
_KINDS = (
    "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings",
    "deployments,services,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets",
)


def only_in(namespace: str) -> str:
    """The file, with its policies bound to one namespace: other tests play routers themselves."""
    items = objects(INSTALL.read_text())
    for item in items:
        if item["kind"] == "ValidatingAdmissionPolicyBinding":
            names = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [namespace]}
            item["spec"]["matchResources"] = {"namespaceSelector": {"matchExpressions": [names]}}
    return yaml.safe_dump_all(items)


@pytest_asyncio.fixture
async def installed(cluster: Cluster, namespace: str) -> AsyncIterator[None]:
    """Applied; taken away again but for the CRDs and the namespace, which other tests use too."""
    await cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=only_in(namespace))
    await cluster.service_account_exists(HOME, "default")
    yield
    for kinds in _KINDS:
        await cluster.kubectl("delete", kinds, "-A", "-l", _LABEL, "--wait=false")


async def test_the_api_server_takes_the_file_as_it_is(cluster: Cluster, installed: None) -> None:
    strictly = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict")
    assert "strategy-rollouts" in await cluster.kubectl(*strictly, "-f", str(INSTALL))


async def test_its_pods_are_let_into_a_restricted_namespace(cluster: Cluster, installed: None) -> None:
    async def pods() -> bool:
        path = f"/api/v1/namespaces/{HOME}/pods?labelSelector={_LABEL}"
        _, listed = await cluster.request("GET", path)
        return sum("deletionTimestamp" not in pod["metadata"] for pod in listed["items"]) == 2

    await until("both pods are created", pods, 30)
    pod = {"metadata": {"name": "wide"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    status, answer = await cluster.request("POST", f"/api/v1/namespaces/{HOME}/pods", pod)
    assert (status, "restricted" in answer["message"]) == (403, True)


async def test_the_operator_works_under_the_installed_account_with_the_installed_settings(
    cluster: Cluster, namespace: str, tmp_path: Path, installed: None
) -> None:
    given = {name.removeprefix("STRATEGYROLLOUT_").lower(): v for name, v in environment(INSTALL.read_text()).items()}
    # Images of the file are not here. Other tests may have operators and rollouts of their own.
    mine = f"test={namespace}"
    given |= {"router_image": add_router_image(cluster.images), "selector": mine, "log_format": "text"}
    account = await cluster.service_account_kubeconfig(HOME, HOME)
    async with Operator(cluster, tmp_path, kubeconfig=account, **given).running() as operator:
        spec = {"gates": [], "method": steps(("10%", "0s")), "template": template(add_image(cluster.images, "1"), "1")}
        strategy = rollout(namespace, "momentum", "1.0.0", **spec)
        strategy["metadata"]["labels"] = {"test": namespace}
        await cluster.apply(strategy)

        async def promoted() -> bool:
            path = f"/apis/{strategy['apiVersion']}/namespaces/{namespace}/strategyrollouts/momentum"
            _, found = await cluster.request("GET", path)
            return bool(found.get("status", {}).get("state") == "Promoted")

        await until("its first version serves", promoted, 60)
        assert await operator.metric("strategyrollout_is_leader") == 1
        assert await operator.metric("strategyrollout_rollout_state", strategy="momentum", state="Promoted") == 1


async def test_everything_the_chart_can_make_is_taken_by_the_api_server(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(*(yaml.safe_load(path.read_text()) for path in monitoring_crds()))
    worker = os.environ.get("PYTEST_XDIST_WORKER", "n")
    text = rendered({**EVERYTHING, "crds": {"install": False}}, release=f"everything-{worker}", namespace=namespace)

    async def known() -> bool:
        status, _ = await cluster.request("GET", "/apis/monitoring.coreos.com/v1/prometheusrules")
        return status == 200

    await until("the kinds of the Prometheus Operator are there", known, 30)
    strictly = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    assert "prometheusrule" in await cluster.kubectl(*strictly, stdin=text)
