"""A real Prometheus with the very scrape configuration that users get.

Why by label and not by annotation: the operator labels every pod it makes, so what is scraped, and under which names,
follows from the rollout and cannot be forgotten by the author of a strategy.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.cluster.build import binary
from tests.cluster.processes import ClusterError, Program, until

ADDRESS = "127.0.0.1:9090"
URL = f"http://{ADDRESS}"
SCRAPE_CONFIG = Path(__file__).parents[2] / "manifests" / "prometheus" / "scrape-config.yaml"


def configuration(kubeconfig: Path | None, interval: str) -> dict[str, Any]:
    """The configuration file; JSON is YAML too. The jobs are those users get, but for how often strategies are scraped.

    Without a kubeconfig Prometheus uses the account of its pod.
    """
    jobs = yaml.safe_load(SCRAPE_CONFIG.read_text())["scrape_configs"]
    for job in jobs:
        if kubeconfig is not None:
            job["kubernetes_sd_configs"] = [{"role": "pod", "kubeconfig_file": str(kubeconfig)}]
        if job["job_name"] == "strategies":
            del job["scrape_interval"], job["scrape_timeout"]
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "scrape_configs": jobs,
    }


class Prometheus:
    """The program in the cluster's folder."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self._folder = folder
        self._kubeconfig = kubeconfig
        self.program = Program(folder, "prometheus")
        self._config = folder / "prometheus.json"

    def start(self, interval: str | None = None) -> None:
        """Start it; the interval is remembered for later starts."""
        if interval is not None:
            self._config.write_text(json.dumps(configuration(self._kubeconfig, interval), indent=1))
        flags = {
            "config.file": str(self._config),
            "storage.tsdb.path": str(self._folder / "prometheus"),
            "web.listen-address": ADDRESS,
            "log.level": "warn",
            # The default makes a new pod wait up to five seconds for its first scrape.
            "scrape.discovery-reload-interval": "200ms",
        }
        command = [str(binary("prometheus")), *(f"--{name}={value}" for name, value in flags.items())]
        self.program.start([*command, "--web.enable-lifecycle", "--web.enable-remote-write-receiver"])

    async def ready(self) -> None:
        """Wait until it answers."""

        async def check() -> bool:
            if self.program.pid is None:
                raise ClusterError(f"Prometheus ended\n{self.program.last_words()}")
            try:
                async with (
                    aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
                    session.get(f"{URL}/-/ready") as response,
                ):
                    return response.status == 200
            except (aiohttp.ClientError, TimeoutError):
                return False

        await until("Prometheus is ready", check, 60)

    async def set_interval(self, interval: str) -> None:
        """Change the scrape interval of a running Prometheus, for example to `250ms`."""
        await asyncio.to_thread(
            self._config.write_text, json.dumps(configuration(self._kubeconfig, interval), indent=1)
        )
        async with aiohttp.ClientSession() as session, session.post(f"{URL}/-/reload") as response:
            if response.status != 200:
                raise ClusterError(f"Prometheus did not reload: {await response.text()}")

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query, now."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{URL}/api/v1/query", params={"query": expression}) as response,
        ):
            answer = await response.json()
        if answer["status"] != "success":
            raise ClusterError(f"{expression}: {answer.get('error')}")
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result
