"""Gates that the tests' rollouts use, asked of the Prometheus in the cluster."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
_BY = "sum by (namespace, rollout, revision)"
REJECTS: Object = {
    "name": "rejects",
    "prometheus": {
        "query": (
            f'{_BY} (rate(strategy_orders_total{{outcome="rejected"}}[4s]))'
            f' / {_BY} (rate(strategy_orders_total{{outcome=~"accepted|rejected"}}[4s]))'
        )
    },
    "limit": {"above": "0.2"},
    "interval": "500ms",
    "maxAge": "5s",
}
