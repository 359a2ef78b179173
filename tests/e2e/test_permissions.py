"""A cluster administrator takes one permission away: the operator says which, and works again once it is back."""

from __future__ import annotations

import pytest

from tests.cluster.processes import until
from tests.e2e.desk import Desk
from tests.e2e.product import DEPLOYMENT, NAMESPACE

pytestmark = pytest.mark.cluster


async def test_a_missing_verb_is_named_by_readyz_and_works_again_once_it_is_back(desk: Desk) -> None:
    product, cluster = desk.site.product, desk.cluster
    path = f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{DEPLOYMENT}"
    _, role = await cluster.request("GET", path)
    taken = [
        {**rule, "verbs": [verb for verb in rule["verbs"] if verb != "create"]}
        if "deployments" in rule["resources"]
        else rule
        for rule in role["rules"]
    ]
    assert taken != role["rules"]
    try:
        assert (await cluster.request("PATCH", path, {"rules": taken}))[0] == 200
        await cluster.kubectl("delete", "pods", "-n", NAMESPACE, "--all", "--wait=false")

        async def told() -> bool:
            pages = [await product.page(pod, "/readyz") for pod in await product.pods()]
            return bool(pages) and all(code == 503 and "create deployments" in words for code, words in pages)

        await until("each replica names the missing verb", told, 60)
    finally:
        assert (await cluster.request("PATCH", path, {"rules": role["rules"]}))[0] == 200
    await product.ready()
    stable = await desk.stable()
    await desk.everyone_is_served_by(stable)
