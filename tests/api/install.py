"""Puts the CRDs of this tree into a cluster and waits until they answer; used by every test that needs the API."""

from pathlib import Path

import yaml

from strategyrollout.api.meta import GROUP
from strategyrollout.api.schema import KINDS
from tests.cluster.cluster import Cluster
from tests.cluster.processes import until

CRDS = Path(__file__).parents[2] / "crds"


async def install_crds(cluster: Cluster) -> None:
    """Apply the committed files under `crds/` and return when all are Established. Safe to call again."""
    await cluster.apply(*(yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))))

    async def established() -> bool:
        _, listed = await cluster.request("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
        true = {
            item["metadata"]["name"]
            for item in listed["items"]
            for condition in item.get("status", {}).get("conditions") or ()  # null until the first judgement
            if condition["type"] == "Established" and condition["status"] == "True"
        }
        return {f"{kind.plural}.{GROUP}" for kind in KINDS} <= true

    await until("the CRDs are established", established, 30)
