"""What the haproxy provider asks Kubernetes for, and what it will not write into a configuration."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from strategyrollout.api.schema import NAME_LIMIT
from strategyrollout.core.build import Owner
from strategyrollout.traffic.haproxy import Routers, objects, router_name
from strategyrollout.traffic.haproxy_config import haproxy_config
from tests.cluster.build import haproxy_binary

OWNER = Owner("desk-a", "momentum", "uid-1")


def routers(**changes: Any) -> Routers:
    facts = {
        "owner": OWNER,
        "image": "registry.example/router@sha256:" + "0" * 64,
        "replicas": 2,
        "port_name": "orders",
        "header": "X-Account-Id",
        "salt": "uid-1",
        "drain": 250,
    }
    return Routers(**{**facts, **changes})


def test_everything_belongs_to_the_rollout_and_has_a_name_of_its_own() -> None:
    built = objects(routers())
    named = [(item["kind"], item["metadata"]["name"]) for item in built]
    config = built[-1]["spec"]["template"]["metadata"]["annotations"]["strategyrollout.io/config"][:10]
    assert named == [
        ("ServiceAccount", "momentum-router"),
        ("Role", "momentum-router"),
        ("RoleBinding", "momentum-router"),
        ("ConfigMap", "momentum-router-" + config),
        ("Service", "momentum"),
        ("Service", "momentum-routers"),
        ("StatefulSet", "momentum-router"),
    ]
    assert {item["metadata"]["ownerReferences"][0]["uid"] for item in built} == {"uid-1"}
    assert objects(routers()) == built


def test_the_agent_may_read_one_assignment_and_write_no_more_than_leases() -> None:
    role = next(item for item in objects(routers()) if item["kind"] == "Role")
    allowed = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    writes = {(resource, verb) for resource, verb in allowed if verb not in {"get", "list", "watch", "acknowledge"}}
    assert writes == {("leases", "create"), ("leases", "update")}
    assert [r["resourceNames"] for r in role["rules"] if "acknowledge" in r["verbs"]] == [["uid-1"]]
    assert next(r["resourceNames"] for r in role["rules"] if r["resources"] == ["trafficassignments"]) == ["momentum"]


@pytest.mark.parametrize(
    ("changes", "differs"), [({"drain": 300}, True), ({"header": "X-Unit"}, True), ({"replicas": 3}, False)]
)
def test_pods_are_replaced_exactly_when_what_they_read_at_their_start_changes(
    changes: dict[str, Any], differs: bool
) -> None:
    before, after = (objects(facts)[-1]["spec"]["template"] for facts in (routers(), routers(**changes)))
    assert (before != after) is differs


@pytest.mark.parametrize(("drain", "limit"), [(0, 30), (250, 1), (45_500, 46)])
def test_the_grace_of_a_pod_covers_its_longest_request(drain: int, limit: int) -> None:
    pod = objects(routers(drain=drain))[-1]["spec"]["template"]["spec"]
    grace = next(entry["value"] for entry in pod["containers"][1]["env"] if entry["name"] == "GRACE_SECONDS")
    assert limit < int(grace) < pod["terminationGracePeriodSeconds"]


def test_the_longest_name_a_rollout_may_have_fits_into_the_labels_of_its_router_pods() -> None:
    name = router_name(Owner("desk-a", "m" * NAME_LIMIT, "uid-1"))
    assert len(f"{name}-0123456789") <= 63


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"salt": "a b"}, "salt"),
        ({"salt": "x),lower"}, "salt"),
        ({"header": "X Unit"}, "spec.traffic.unit.header"),
        ({"header": "X-Unit\n"}, "spec.traffic.unit.header"),
        ({"header": "x) }"}, "spec.traffic.unit.header"),
    ],
)
def test_what_would_change_the_meaning_of_the_configuration_is_refused(wrong: dict[str, str], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        objects(routers(**wrong))


@pytest.mark.parametrize("drain", [0, 1, 250, 60_000])
@pytest.mark.parametrize(("header", "salt"), [("X-Account-Id", "1b4e28ba-2fa1"), ("a", ""), ("x" * 63, "s" * 64)])
def test_haproxy_takes_the_configuration_without_a_warning(tmp_path: Path, drain: int, header: str, salt: str) -> None:
    (tmp_path / "table.map").touch()
    config = tmp_path / "haproxy.cfg"
    config.write_text(haproxy_config(header=header, salt=salt, drain=drain))
    environment = {"RUN_DIR": str(tmp_path), "POD_IP": "127.0.0.1", "PORT": "8080", "HEALTH_PORT": "8081"}
    checked = subprocess.run(
        [haproxy_binary(), "-c", "-dW", "-f", config], env=environment, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
