"""The identity of what runs together."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategyrollout.api.rollout import RolloutSpec
from strategyrollout.core.observed import Revision
from strategyrollout.core.revision import (
    MAX_BYTES,
    PIN_PREFIX,
    Content,
    canonical_json,
    config_hash,
    configmap_references,
    content_from,
    content_hash,
    content_of,
    identified,
    revision_of,
    rewrite_references,
    stored_data,
)

Body = dict[str, Any]
IMAGE = "registry.example/momentum@sha256:" + "4b" * 32
SIDECAR = "registry.example/sidecar@sha256:" + "0a" * 32


def template(*volumes: Body, annotations: dict[str, str] | None = None, **container: Any) -> Body:
    main = {"name": "strategy", "image": IMAGE, **container}
    pod: Body = {"containers": [main]}
    if volumes:
        pod["volumes"] = list(volumes)
    metadata: Body = {"labels": {"app.kubernetes.io/name": "momentum"}}
    if annotations:
        metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": pod}


def spec(pods: Body, version: str = "2.4.0") -> RolloutSpec:
    return RolloutSpec.model_validate(
        {
            "version": version,
            "workload": "RequestDriven",
            "template": pods,
            "method": {"type": "BlueGreen"},
            "traffic": {"service": {"name": "momentum"}},
        }
    )


def configmap(name: str = "params", **data: str) -> Body:
    return {"metadata": {"name": name, "resourceVersion": "7"}, "data": data}


def named(pods: Body, version: str = "2.4.0", **configmaps: Body) -> str:
    revision = revision_of(spec(pods, version), configmaps)
    assert isinstance(revision, Revision), revision
    return revision.hash


FROM_ENV: Any = {"envFrom": [{"configMapRef": {"name": "params"}}]}

GOLDEN = [
    ("a template alone", template(), "2.4.0", {}, "9e06932004"),
    ("with a ConfigMap", template(**FROM_ENV), "2.4.0", {"params": {"data": {"SIZE": "10"}}}, "3c0fdfecc1"),
    ("with binary data", template(**FROM_ENV), "2.4.0", {"params": {"binaryData": {"m": "AAE="}}}, "bde1a607e1"),
    ("with letters of the world", template(args=["größe", "大"]), "2.4.0+b.1", {}, "0576529755"),
]


@pytest.mark.parametrize(("case", "pods", "version", "data", "expected"), GOLDEN, ids=[g[0] for g in GOLDEN])
def test_an_upgrade_of_the_operator_never_changes_a_hash(
    case: str, pods: Body, version: str, data: dict[str, Body], expected: str
) -> None:
    assert identified(Content(version, pods, data)).hash == expected, case


REFERENCES = [
    ("env", template(env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "params", "key": "a"}}}])),
    ("envFrom", template(**FROM_ENV)),
    ("volume", template({"name": "v", "configMap": {"name": "params"}})),
    ("projected", template({"name": "v", "projected": {"sources": [{"configMap": {"name": "params"}}]}})),
]


@pytest.mark.parametrize(("case", "pods"), REFERENCES, ids=[r[0] for r in REFERENCES])
@pytest.mark.parametrize("kind", ["containers", "initContainers"])
def test_every_way_to_use_a_configmap_is_found_and_rewritten(case: str, pods: Body, kind: str) -> None:
    pods = copy.deepcopy(pods)
    pods["spec"][kind] = pods["spec"].pop("containers")
    (reference,) = configmap_references(pods)
    assert (reference.name, reference.optional, reference.sha256) == ("params", False, None)
    assert reference.path.startswith("spec.template.spec.")
    assert reference.path.endswith(".name")
    before = copy.deepcopy(pods)
    (rewritten,) = configmap_references(rewrite_references(pods, {"params": "momentum-1-params"}))
    assert rewritten.name == "momentum-1-params"
    assert pods == before, "the user's template must stay as it was"


def test_a_path_leads_to_the_field_a_person_has_to_mend() -> None:
    pods = template(env=[{"name": "A", "value": "1"}], envFrom=[{"secretRef": {"name": "s"}}, *FROM_ENV["envFrom"]])
    assert configmap_references(pods)[0].path == "spec.template.spec.containers[0].envFrom[1].configMapRef.name"


ILL_FORMED: list[Any] = [
    {},
    {"spec": None},
    {"spec": {"containers": "x", "volumes": 5}},
    {"spec": {"containers": [None, {"env": {}, "envFrom": [{"configMapRef": "x"}, 3]}]}},
    {"spec": {"containers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": 5}}}]}], "volumes": [[]]}},
    {"metadata": {"annotations": []}, "spec": {"volumes": [{"projected": {"sources": {"configMap": 1}}}]}},
]


@pytest.mark.parametrize("pods", ILL_FORMED)
def test_an_ill_formed_template_is_no_crash(pods: Body) -> None:
    assert configmap_references(pods) == ()
    assert rewrite_references(pods, {"a": "b"}) == pods
    assert identified(Content("1.0.0", pods)).hash


def test_a_configmap_is_optional_only_if_every_reference_says_so() -> None:
    weak = {"name": "v", "configMap": {"name": "params", "optional": True}}
    assert configmap_references(template(weak))[0].optional
    both = configmap_references(template(weak, **FROM_ENV))
    assert [(r.optional, r.path) for r in both] == [
        (False, "spec.template.spec.containers[0].envFrom[0].configMapRef.name")
    ]


def test_a_missing_configmap_is_named_with_field_and_remedy() -> None:
    problems = revision_of(spec(template(**FROM_ENV)), {})
    assert isinstance(problems, tuple)
    (problem,) = problems
    assert problem.reason == "MissingInput"
    assert problem.path == "spec.template.spec.containers[0].envFrom[0].configMapRef.name"
    assert "ConfigMap params does not exist; create it" in problem.message


def test_an_optional_configmap_may_be_missing_and_its_coming_is_a_new_revision() -> None:
    pods = template({"name": "v", "configMap": {"name": "params", "optional": True}})
    assert named(pods) != named(pods, params=configmap(a="1"))


def test_every_missing_configmap_is_reported_at_once() -> None:
    pods = template(envFrom=[{"configMapRef": {"name": "a"}}, {"configMapRef": {"name": "b"}}])
    problems = revision_of(spec(pods), {})
    assert isinstance(problems, tuple)
    assert len(problems) == 2


def test_a_pin_waits_for_the_content() -> None:
    wanted = configmap(SIZE="10")
    pods = template(annotations={PIN_PREFIX + "params": content_hash(wanted)}, **FROM_ENV)
    waiting = revision_of(spec(pods), {"params": configmap(SIZE="9")})
    assert isinstance(waiting, tuple)
    assert waiting[0].reason == "MissingInput"
    assert waiting[0].path == f"spec.template.metadata.annotations[{PIN_PREFIX}params]"
    assert content_hash(wanted) in waiting[0].message
    assert isinstance(revision_of(spec(pods), {"params": wanted}), Revision)


def test_a_pin_that_can_never_hold_is_refused() -> None:
    for pins, words in [({"parms": "a" * 64}, "does not refer to"), ({"params": "sha256:1"}, "64 lower-case hex")]:
        pods = template(annotations={PIN_PREFIX + name: value for name, value in pins.items()}, **FROM_ENV)
        problems = revision_of(spec(pods), {"params": configmap()})
        assert isinstance(problems, tuple)
        assert problems[0].reason == "InvalidTemplate"
        assert words in problems[0].message


def test_the_documented_content_hash_is_the_one_of_jq_and_sha256sum() -> None:
    # printf '{"binaryData":{},"data":{"SIZE":"10"}}' | sha256sum
    assert content_hash(configmap(SIZE="10")) == "6b23be62dab3f4565cd3f0a09b13789a932954e4af554a519219f61ebbb4e0c1"


def test_configmaps_too_large_to_keep_are_refused() -> None:
    problems = revision_of(spec(template(**FROM_ENV)), {"params": configmap(big="x" * (MAX_BYTES + 1))})
    assert isinstance(problems, tuple)
    assert "900000 are allowed" in problems[0].message


CHANGES: list[tuple[str, Body, str, Body]] = [
    ("the image", template(image=SIDECAR, **FROM_ENV), "2.4.0", configmap(a="1")),
    ("an argument", template(args=["x"], **FROM_ENV), "2.4.0", configmap(a="1")),
    ("the version", template(**FROM_ENV), "2.4.1", configmap(a="1")),
    ("a value in a ConfigMap", template(**FROM_ENV), "2.4.0", configmap(a="2")),
]


@pytest.mark.parametrize(("what", "pods", "version", "data"), CHANGES, ids=[c[0] for c in CHANGES])
def test_a_change_of_what_runs_is_a_new_revision(what: str, pods: Body, version: str, data: Body) -> None:
    assert named(pods, version, params=data) != named(template(**FROM_ENV), params=configmap(a="1")), what


def test_what_the_api_server_adds_to_a_configmap_is_no_new_revision() -> None:
    pods = template(**FROM_ENV)
    other = {**configmap(a="1"), "binaryData": {}, "immutable": False}
    other["metadata"] = {"name": "params", "resourceVersion": "99", "labels": {"x": "y"}}
    assert named(pods, params=other) == named(pods, params=configmap(a="1"))


def test_a_stored_revision_is_read_back_as_itself() -> None:
    content = content_of(spec(template(**FROM_ENV)), {"params": configmap(a="1")})
    assert isinstance(content, Content)
    revision = identified(content)
    assert revision.digests == {"sha256:" + "4b" * 32}
    assert revision.images == (IMAGE,)
    back = content_from({"data": stored_data(content, revision)})
    assert back == content
    assert identified(back) == revision
    assert len(config_hash(content)) == 10
    assert config_hash(Content("1.0.0", {})) == ""
    assert content_from({"data": {"ClusterGateTemplate/x": {}}}) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=15,
)


def _reversed(value: Any) -> Any:
    """The same meaning in another spelling: keys the other way round, whole numbers as floats, nulls added."""
    if isinstance(value, dict):
        return {**{k: _reversed(v) for k, v in reversed(value.items())}, "\x00added": None}
    if isinstance(value, list):
        return [_reversed(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


@given(JSON)
def test_spelling_never_matters(value: Any) -> None:
    assert canonical_json(value) == canonical_json(_reversed(value))


@given(JSON, JSON)
def test_different_meaning_is_different_json(one: Any, other: Any) -> None:
    if canonical_json(one) == canonical_json(other):
        assert one == other or _has_null(one) or _has_null(other)


def _has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(item is None or _has_null(item) for item in value.values())
    return isinstance(value, list) and any(_has_null(item) for item in value)
