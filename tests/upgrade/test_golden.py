"""Whatever a newer operator would make, it goes by what an older one has kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from strategyrollout.api.assignment import AssignmentSpec, Cause
from strategyrollout.core import build
from strategyrollout.core.build import children
from strategyrollout.core.revision import Content, content_from, revision_from
from strategyrollout.traffic import haproxy, providers
from tests.upgrade import golden

VERSIONS = sorted(folder.name for folder in golden.FOLDER.iterdir())
TABLE = AssignmentSpec(
    epoch=1, rollout_uid="u", salt="u", header="X", drain=9_000, lease=10_000, cause=Cause(kind="Initial", at=1)
)


def _read(version: str, name: str) -> Any:
    text = (golden.FOLDER / version / name).read_text()
    return yaml.safe_load(text) if name.endswith(".yaml") else text


@pytest.mark.parametrize("name", golden.rendered())
def test_what_new_rollouts_get_has_not_changed_unnoticed(name: str) -> None:
    stored = (golden.FOLDER / golden.version() / name).read_text()
    assert golden.as_text(golden.rendered()[name]) == stored, (
        f"{name} is rendered differently. Rollouts that exist keep what they have (the other tests here), new revisions"
        " and new attempts get this: say so in CHANGELOG and docs/upgrades.md, then run"
        " `python -m tests.upgrade.golden` (after a release: with the next version in pyproject.toml)"
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_pods_of_a_revision_stay_as_that_version_made_them(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _differ(monkeypatch)
    stored = _read(version, "revision.yaml")
    record = stored[0]
    content, revision = content_from(record), revision_from(record)
    assert content is not None
    assert revision is not None
    built = children(golden.OWNER, revision, content, port="another", replicas=2)
    again = [built.record, *built.copies, built.service, built.deployment]
    assert [body["kind"] for body in again] == [body["kind"] for body in stored]
    assert [_decides(body) for body in again] == [_decides(body) for body in stored]


@pytest.mark.parametrize("version", VERSIONS)
def test_routers_stay_as_that_version_made_them(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _differ(monkeypatch)
    kept = _read(version, "routers.yaml")["data"]["objects"]
    bodies = providers.objects(golden.OWNER, golden.TRAFFIC, TABLE, kept=kept)
    assert isinstance(bodies, list)
    mine = [body for body in bodies if body["kind"] in {"ConfigMap", "Service", "StatefulSet"}]
    assert mine[:-1] == kept[:-1]
    assert mine[-1] == {**kept[-1], "spec": {**kept[-1]["spec"], "replicas": 2}}


@pytest.mark.parametrize("version", VERSIONS)
def test_routers_of_that_version_may_still_do_all_they_were_allowed_to(version: str) -> None:
    assert _allowed(_read(version, "permissions.yaml")) <= _allowed(haproxy.identity(golden.OWNER))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stateful_set_of_that_version_can_become_one_of_today(version: str) -> None:
    before = _read(version, "routers.yaml")["data"]["objects"][-1]
    after = golden.rendered()["routers.yaml"]["data"]["objects"][-1]
    for unchangeable in ("selector", "serviceName", "podManagementPolicy"):
        assert after["spec"][unchangeable] == before["spec"][unchangeable]
    assert after["metadata"]["name"] == before["metadata"]["name"]


def test_a_revision_that_nothing_is_kept_of_is_made_as_new() -> None:
    """Its ControllerRevision was written before anything but the content was kept, and its data cannot change."""
    data = {"version": "1.0.0", "template": golden.CONTENT.template, "configMaps": {}, "digests": []}
    content = Content("1.0.0", golden.CONTENT.template, kept=data)
    made = children(golden.OWNER, _revision(), content, port="orders")
    assert made.record["data"] == data
    new = children(golden.OWNER, _revision(), Content("1.0.0", golden.CONTENT.template), port="orders")
    assert made.deployment == new.deployment
    assert made.service == new.service


def _revision() -> Any:
    return revision_from(golden.rendered()["revision.yaml"][0])


def _differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Today's operator would make everything otherwise."""

    def otherwise(*_: Any, **__: Any) -> dict[str, Any]:
        return {"template": {"metadata": {}, "spec": {"hostNetwork": True}}}

    monkeypatch.setattr(build, "_deployment_spec", otherwise)
    monkeypatch.setattr(build, "ROUTED_PORT", "otherwise")
    monkeypatch.setattr(haproxy, "haproxy_config", lambda **_: "otherwise")
    monkeypatch.setattr(haproxy, "_stateful_set", otherwise)


def _decides(body: dict[str, Any]) -> Any:
    """What of an object decides how pods run and who reaches them."""
    return {key: value for key, value in body.items() if key != "metadata"} | {"name": body["metadata"]["name"]}


def _allowed(identity: list[dict[str, Any]]) -> set[tuple[str, str, str, str]]:
    (role,) = (body for body in identity if body["kind"] == "Role")
    return {
        (group, resource, name, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }


def test_every_version_has_all_files() -> None:
    for version in VERSIONS:
        assert {path.name for path in Path(golden.FOLDER / version).iterdir()} == set(golden.rendered())
