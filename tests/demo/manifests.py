"""What the people of the story apply. Also written as YAML beside the evidence, to be read and applied again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from strategyrollout.api.meta import API_VERSION

Object = dict[str, Any]
NAMESPACE, ROLLOUT = "desk-a", "momentum"
STEPS = {"1%": "1500ms", "10%": "3s", "50%": "1500ms"}
REJECT_LIMIT = "0.05"
REJECT_RATE = (
    'sum by (namespace, rollout, revision) (rate(strategy_orders_total{outcome="rejected"}[2s]))'
    ' / sum by (namespace, rollout, revision) (rate(strategy_orders_total{outcome=~"accepted|rejected"}[2s]))'
)
_DRAWDOWN = "1 - strategy_equity / strategy_equity_high_water"


def _gate_template(name: str, summary: str, query: str, limit: str) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": "ClusterGateTemplate",
        "metadata": {"name": name},
        "spec": {
            "summary": summary,
            "unit": "ratio",
            "params": [{"name": "limit", "summary": "largest value that is tolerated", "default": limit}],
            "query": query,
            "limit": {"above": "{limit}"},
            "interval": "250ms",
            "maxAge": "2s",
        },
    }


def platform() -> list[Object]:
    """What the platform team keeps for every desk."""
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        _gate_template("reject-rate", "Share of the orders of the last two seconds rejected", REJECT_RATE, "0.1"),
        _gate_template("drawdown", "Loss from the highest equity, as a share of it", _DRAWDOWN, "0.03"),
    ]


def rollout(version: str, template: Object, *, bake: str) -> Object:
    """The strategy at one version. Holds and bake are short, because nobody watches a demo for a day."""
    return {
        "apiVersion": API_VERSION,
        "kind": "StrategyRollout",
        "metadata": {"name": ROLLOUT, "namespace": NAMESPACE},
        "spec": {
            "version": version,
            "workload": "RequestDriven",
            "replicas": 2,
            "template": template,
            "method": {
                "type": "Canary",
                "canary": {"steps": [{"weight": weight, "hold": {"duration": hold}} for weight, hold in STEPS.items()]},
            },
            "bake": {"duration": bake},
            "traffic": {
                "unit": {"header": "X-Account-Id"},
                "port": "orders",
                "drain": "1s",
                "haproxy": {"replicas": 2},
            },
            "gates": [
                {
                    "name": "reject-rate",
                    "template": {"kind": "ClusterGateTemplate", "name": "reject-rate"},
                    "params": {"limit": REJECT_LIMIT},
                },
                {"name": "drawdown", "template": {"kind": "ClusterGateTemplate", "name": "drawdown"}},
            ],
            "onRevert": {"keep": "30m", "quarantine": "24h"},
            "settle": "500ms",
        },
    }


def rollback(reason: str) -> Object:
    """What on call creates."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Rollback",
        "metadata": {"name": f"{ROLLOUT}-by-on-call", "namespace": NAMESPACE},
        "spec": {"rollout": ROLLOUT, "to": "Previous", "reason": reason},
    }


def write(folder: Path, name: str, *objects: Object) -> Path:
    """Keep them as YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump_all(objects, sort_keys=False))
    return path
