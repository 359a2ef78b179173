"""Prometheus as the ecosystem does it: labels by relabelling in both ways, and alerts that can really fire."""

from __future__ import annotations

import importlib
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from strategyrollout.api.conditions import Reason
from tests.cluster.build import binary
from tests.cluster.prometheus import SCRAPE_CONFIG
from tests.install.helm import CHART
from tests.install.helm import template as rendered
from tests.install.test_rendered import one

Object = dict[str, Any]
_ROOT = Path(__file__).parents[2]
ALERTS = CHART / "files" / "alerts.yaml"
LABELS = {"namespace", "rollout", "revision", "version", "role"}


def promtool(*arguments: str) -> str:
    """Its words; raises AssertionError when it finds something wrong."""
    result = subprocess.run([str(binary("promtool")), *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def rules() -> list[Object]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def job(name: str) -> Object:
    jobs = yaml.safe_load(SCRAPE_CONFIG.read_text())["scrape_configs"]
    return next(j for j in jobs if j["job_name"] == name)


def sources(relabelings: list[Object], source: str, target: str) -> dict[str, str]:
    """Label -> what it is made of."""
    return {r[target]: r[source][0] for r in relabelings if target in r}


def test_the_scrape_config_is_valid_beside_a_prometheus_yml(tmp_path: Path) -> None:
    (tmp_path / "scrape-config.yaml").write_text(SCRAPE_CONFIG.read_text())
    (tmp_path / "prometheus.yml").write_text("scrape_config_files: [scrape-config.yaml]\n")
    promtool("check", "config", str(tmp_path / "prometheus.yml"))


@pytest.mark.parametrize(("name", "endpoint"), [("strategies", 0), ("strategy-routers", 1)])
def test_pod_monitor_and_scrape_config_make_the_same_labels(name: str, endpoint: int) -> None:
    monitor = one(rendered({"podMonitor": {"enabled": True}}), "PodMonitor")["spec"]["podMetricsEndpoints"][endpoint]
    plain = job(name)
    by_monitor = sources(monitor["relabelings"], "sourceLabels", "targetLabel")
    by_config = sources(plain["relabel_configs"], "source_labels", "target_label")
    # The Prometheus Operator itself makes these two.
    by_monitor |= {"namespace": "__meta_kubernetes_namespace", "pod": "__meta_kubernetes_pod_name"}
    assert by_config.items() <= by_monitor.items()
    assert set(by_monitor) == {*LABELS, "pod"}
    ports = [r["regex"] for r in plain["relabel_configs"] if "container_port_name" in r["source_labels"][0]]
    assert ports == [monitor["port"]]
    assert "honor_labels" not in plain
    assert monitor["honorLabels"] is False


def test_strategies_have_every_label_gates_and_people_use() -> None:
    assert {*sources(job("strategies")["relabel_configs"], "source_labels", "target_label")} == {*LABELS, "pod"}


def test_gates_md_shows_the_same_relabelling() -> None:
    text = (_ROOT / "docs" / "gates.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (shown,) = (yaml.safe_load(block) for block in blocks if "relabel_configs" in block)
    wanted = job("strategies")["relabel_configs"]
    assert [rule for rule in shown["relabel_configs"] if rule not in wanted] == []


def test_alerts_are_a_valid_rule_file() -> None:
    promtool("check", "rules", "--lint-fatal", str(ALERTS))


def test_a_prometheus_rule_has_the_same_alerts_with_links_to_where_the_runbooks_are() -> None:
    made = one(rendered({"prometheusRule": {"enabled": True, "runbooks": "https://docs.example/"}}), "PrometheusRule")
    text = ALERTS.read_text().replace("docs/runbooks/", "https://docs.example/")
    assert made["spec"] == yaml.safe_load(text)


def test_alerts_use_metrics_and_states_that_exist() -> None:
    for module in ("strategyrollout.telemetry", "strategyrollout.metrics.telemetry"):
        importlib.import_module(module)
    known = {sample.name for family in REGISTRY.collect() for sample in family.samples} | {
        name for family in REGISTRY.collect() for name in (family.name, f"{family.name}_total")
    }
    for rule in rules():
        used = set(re.findall(r"strategyrollout_\w+", rule["expr"]))
        assert used, rule["alert"]
        assert used <= known, rule["alert"]
        for states in re.findall(r'state=~?"([^"]*)"', rule["expr"]):
            assert set(states.split("|")) <= {reason.value for reason in Reason}, rule["alert"]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_every_alert_links_to_a_page_that_says_what_to_do(rule: Object) -> None:
    path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (_ROOT / path).read_text(), re.MULTILINE)
    assert anchor in [heading.lower().replace(" ", "-") for heading in headings]


def series(state: str) -> Object:
    labels = f'rollout_namespace="desk-a", strategy="momentum", state="{state}"'
    return {"series": f"strategyrollout_rollout_state{{{labels}}}", "values": "1x20"}


def operator(name: str, value: int) -> Object:
    return {"series": f'{name}{{namespace="strategy-rollouts", job="operator"}}', "values": f"{value}x20"}


# alert -> what Prometheus knows when it must fire
FIRES: dict[str, list[Object]] = {
    "StrategyRolloutsDown": [operator("other", 1)],
    "StrategyRolloutsNoLeader": [operator("strategyrollout_rollouts", 1), operator("strategyrollout_is_leader", 0)],
    "StrategyRolloutsFailing": [
        operator("strategyrollout_rollouts", 1),
        {
            "series": 'strategyrollout_passes_total{namespace="strategy-rollouts", job="operator", result="error"}',
            "values": "0+60x20",
        },
    ],
    "StrategyRolloutsBlind": [
        operator("strategyrollout_rollouts", 1),
        {
            "series": 'strategyrollout_rollout_blind{namespace="strategy-rollouts", job="operator", strategy="x"}',
            "values": "1x20",
        },
    ],
    "StrategyReverted": [series("Reverted")],
    "StrategyRolledBack": [series("RolledBack")],
    "StrategyRevertStuck": [series("Reverting")],
    "StrategyRouterWaitedFor": [series("WaitingForConsumer")],
    "StrategyQuarantined": [series("Quarantined")],
    "StrategyRolloutStalled": [series("ProgressDeadlineExceeded")],
}


def test_every_alert_is_tried() -> None:
    assert set(FIRES) == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("alert", FIRES)
def test_an_alert_fires_when_it_should_and_no_other_does(alert: str, tmp_path: Path) -> None:
    healthy = [operator("strategyrollout_rollouts", 1), operator("strategyrollout_is_leader", 1), series("Holding")]
    quiet = [{"alertname": rule["alert"], "eval_time": "15m", "exp_alerts": []} for rule in rules()]
    fires = {"eval_time": "15m", "query": f'count(ALERTS{{alertstate="firing", alertname="{alert}"}})'}
    others = {"eval_time": "15m", "query": f'ALERTS{{alertstate="firing", alertname!~"{alert}|StrategyRolloutsDown"}}'}
    tests = [
        {"interval": "1m", "input_series": healthy, "alert_rule_test": quiet},
        {
            "interval": "1m",
            "input_series": FIRES[alert],
            "promql_expr_test": [
                {"expr": fires["query"], "eval_time": "15m", "exp_samples": [{"labels": "{}", "value": 1}]},
                {"expr": others["query"], "eval_time": "15m", "exp_samples": []},
            ],
        },
    ]
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", str(path))
