"""Helm and its chart, as tests and the generator of manifests use them; nothing of the user's own Helm is touched."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tests.cluster.build import binary, cache_root

CHART = Path(__file__).parents[2] / "charts" / "strategy-rollouts"
NAME = "strategy-rollouts"
"""Usual name of the release and of its namespace."""
Values = Mapping[str, Any]


class HelmError(RuntimeError):
    """Helm's own words."""


def helm(*arguments: str, kubeconfig: Path | None = None, values: Values | None = None) -> str:
    """Run Helm and return what it printed; `values` go in as a values file."""
    home = cache_root() / "helm"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HELM_")}
    environment |= {f"HELM_{part}_HOME": str(home / part.lower()) for part in ("CACHE", "CONFIG", "DATA")}
    environment["KUBECONFIG"] = str(kubeconfig or home / "no-kubeconfig")
    given = [] if values is None else ["--values", "-"]
    result = subprocess.run(
        [str(binary("helm")), *arguments, *given],
        env=environment,
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise HelmError(result.stderr.strip() or result.stdout.strip())
    return result.stdout


def template(values: Values | None = None, *, release: str = NAME, namespace: str = NAME) -> str:
    """The manifests of a release."""
    return _template(json.dumps(values or {}), release, namespace)


@cache  # many tests look at the same release
def _template(values: str, release: str, namespace: str) -> str:
    return helm("template", release, str(CHART), "--namespace", namespace, values=json.loads(values))


async def release(kubeconfig: Path, *arguments: str, values: Values | None = None) -> str:
    """Helm against a cluster, without blocking the loop."""
    return await asyncio.to_thread(lambda: helm(*arguments, kubeconfig=kubeconfig, values=values))
