"""Tables for the parts of the hands that need no API server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from strategyrollout.api.meta import (
    ANNOTATION_ACKED,
    ANNOTATION_CONSUMER,
    ANNOTATION_RESUME,
    ANNOTATION_ROLLBACK,
    LABEL_MANAGED_BY,
    LABEL_ROLE,
    LABEL_ROLLOUT,
    LABEL_ROLLOUT_UID,
    MANAGED_BY,
    ROLE_ROUTER,
)
from strategyrollout.cluster.background import Background
from strategyrollout.cluster.cache import Cache, Reference, data_of
from strategyrollout.cluster.consumers import has_ended, is_open
from strategyrollout.cluster.inputs import parse_spec, references
from strategyrollout.cluster.kinds import (
    ASSIGNMENTS,
    CLUSTER_TEMPLATES,
    CONFIGMAPS,
    DEPLOYMENTS,
    LEASES,
    REVISIONS,
    ROLLBACKS,
    ROLLOUTS,
    TEMPLATES,
    Kind,
)
from strategyrollout.cluster.pods import trouble
from strategyrollout.cluster.requests import requests_of
from strategyrollout.cluster.wakes import concerned
from strategyrollout.ports import Key
from strategyrollout.settings import BadSetting, from_environment

Body = dict[str, Any]


def thing(name: str, version: int, uid: str = "", namespace: str = "desk", **rest: Any) -> Body:
    meta = {"name": name, "namespace": namespace, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": {**meta, **rest.pop("metadata", {})}, **rest}


class Watched:
    """A cache whose changes are written down."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.cache = Cache(references, self._changed)

    def _changed(self, kind: Kind, old: Body | None, new: Body | None) -> None:
        verb = "+" if old is None else "-" if new is None else "~"
        self.log.append(f"{verb}{(new or old or {})['metadata']['name']}")


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_an_object_only_moves_forward_in_time(watched: Watched) -> None:
    for version in (5, 5, 3, 7, 6):
        watched.cache.put(DEPLOYMENTS, thing("a", version))
    assert watched.log == ["+a", "~a"]
    found = watched.cache.get(DEPLOYMENTS, "desk", "a")
    assert found is not None
    assert found["metadata"]["resourceVersion"] == "7"


def test_what_was_deleted_does_not_come_back_by_a_late_word(watched: Watched) -> None:
    watched.cache.put(DEPLOYMENTS, thing("a", 5))
    watched.cache.remove(DEPLOYMENTS, thing("a", 9))
    watched.cache.put(DEPLOYMENTS, thing("a", 8))
    assert watched.cache.get(DEPLOYMENTS, "desk", "a") is None
    watched.cache.put(DEPLOYMENTS, thing("a", 12, uid="another"))
    watched.cache.remove(DEPLOYMENTS, thing("a", 10))
    assert watched.cache.get(DEPLOYMENTS, "desk", "a") is not None
    assert watched.log == ["+a", "-a", "+a"]


def test_a_list_prunes_what_is_gone_and_nothing_that_is_newer_than_the_list(watched: Watched) -> None:
    for name, version in (("kept", 3), ("gone", 4), ("newer", 11)):
        watched.cache.put(DEPLOYMENTS, thing(name, version))
    watched.cache.put(DEPLOYMENTS, thing("elsewhere", 2, namespace="other"))
    assert watched.cache.keep_only(DEPLOYMENTS, "desk", {"uid-kept"}, 10) == 1
    assert [body["metadata"]["name"] for body in watched.cache.all(DEPLOYMENTS)] == ["kept", "newer", "elsewhere"]


def test_the_answer_to_a_write_of_ours_is_no_news(watched: Watched) -> None:
    watched.cache.put(DEPLOYMENTS, thing("a", 5), own=True)
    watched.cache.put(DEPLOYMENTS, thing("a", 5))
    watched.cache.put(DEPLOYMENTS, thing("a", 6), own=True)
    assert watched.log == []


def test_news_in_the_answer_to_a_write_of_ours_is_not_lost(watched: Watched) -> None:
    watched.cache.put(DEPLOYMENTS, thing("a", 5, status={"readyReplicas": 0}))
    watched.cache.put(DEPLOYMENTS, thing("a", 7, status={"readyReplicas": 1}), own=True)
    watched.cache.put(DEPLOYMENTS, thing("a", 6, status={"readyReplicas": 1}))
    assert watched.log == ["+a", "~a"]


def mentioning(name: str, configmap: str, version: int = 1) -> Body:
    container = {"name": "c", "image": "i", "envFrom": [{"configMapRef": {"name": configmap}}]}
    gates = [{"name": "g", "template": {"kind": "ClusterGateTemplate", "name": "drawdown"}}]
    return thing(name, version, spec={"template": {"spec": {"containers": [container]}}, "gates": gates})


def test_only_configmaps_that_matter_are_kept(watched: Watched) -> None:
    cache = watched.cache
    cache.put(ROLLOUTS, mentioning("momentum", "params"))
    cache.put(CONFIGMAPS, thing("kube-root-ca.crt", 5))
    cache.put(CONFIGMAPS, thing("params", 6))
    cache.put(CONFIGMAPS, thing("copy", 7, metadata={"labels": {LABEL_MANAGED_BY: MANAGED_BY}}))
    assert [body["metadata"]["name"] for body in cache.all(CONFIGMAPS)] == ["params", "copy"]
    assert cache.users(CONFIGMAPS, "desk", "params") == {Key("desk", "momentum")}
    cache.put(ROLLOUTS, mentioning("momentum", "others", 8))
    assert cache.users(CONFIGMAPS, "desk", "params") == set()
    assert cache.users(CLUSTER_TEMPLATES, "", "drawdown") == {Key("desk", "momentum")}


@pytest.mark.parametrize("role", [ROLE_ROUTER, "strategy"])
def test_what_a_revision_keeps_comes_back_as_it_was(watched: Watched, role: str) -> None:
    data = {"objects": [{"kind": "ConfigMap", "data": {"haproxy.cfg": "maxconn 4096\n", "empty": ""}}], "n": [1, 1.0]}
    watched.cache.put(REVISIONS, thing("kept", 1, metadata={"labels": {LABEL_ROLE: role}}, data=data))
    assert repr(data_of(watched.cache.get(REVISIONS, "desk", "kept") or {})) == repr(data)


@pytest.mark.parametrize(
    "spec", [{}, {"template": 1}, {"gates": [1]}, {"gates": 7}, {"template": {"spec": {"containers": 3}}}]
)
def test_references_of_a_spec_nobody_can_read_are_none(spec: Body) -> None:
    found: list[Reference] = references(thing("a", 1, spec=spec))
    assert found == []


def owned(name: str, version: int, **rest: Any) -> Body:
    labels = {LABEL_ROLLOUT: "momentum", LABEL_ROLLOUT_UID: "uid-momentum"}
    return thing(name, version, **{**rest, "metadata": {"labels": labels, **rest.get("metadata", {})}})


ME = Key("desk", "momentum")
ACKED = {"annotations": {ANNOTATION_ACKED: "7"}}
WAKES: dict[str, tuple[Kind, Body | None, Body | None, list[tuple[Key, bool]]]] = {
    "a new spec": (
        ROLLOUTS,
        thing("momentum", 1, metadata={"generation": 1}),
        thing("momentum", 2, metadata={"generation": 2}),
        [(ME, False)],
    ),
    "our own report": (ROLLOUTS, thing("momentum", 1, status={}), thing("momentum", 2, status={"state": "x"}), []),
    "a rollback by annotation": (
        ROLLOUTS,
        thing("momentum", 1),
        thing("momentum", 2, metadata={"annotations": {ANNOTATION_ROLLBACK: "now"}}),
        [(ME, True)],
    ),
    "a Rollback": (ROLLBACKS, None, thing("r", 1, spec={"rollout": "momentum"}), [(ME, True)]),
    "somebody else's assignment": (
        ASSIGNMENTS,
        thing("momentum", 1, spec={"epoch": 1}),
        thing("momentum", 2, spec={"epoch": 2}),
        [(ME, False)],
    ),
    "a Lease renewed": (LEASES, owned("l", 1, spec={"renewTime": 1}), owned("l", 2, spec={"renewTime": 2}), []),
    "an acknowledgement": (LEASES, owned("l", 1), owned("l", 2, metadata=ACKED), [(ME, True)]),
    "pods that became ready": (
        DEPLOYMENTS,
        owned("d", 1, status={}),
        owned("d", 2, status={"readyReplicas": 1}),
        [(ME, False)],
    ),
    "a child of a namesake that is gone": (
        DEPLOYMENTS,
        None,
        owned("d", 2, metadata={"labels": {LABEL_ROLLOUT: "momentum", LABEL_ROLLOUT_UID: "older"}}),
        [],
    ),
    "a template nobody uses": (TEMPLATES, None, thing("t", 1), []),
    "a template in use": (CLUSTER_TEMPLATES, None, thing("drawdown", 1, namespace=""), [(ME, False)]),
    "a ConfigMap that appears": (CONFIGMAPS, None, thing("params", 1), [(ME, False)]),
}


@pytest.mark.parametrize("name", WAKES)
def test_a_change_wakes_those_it_concerns(name: str, watched: Watched) -> None:
    kind, old, new, expected = WAKES[name]
    watched.cache.put(ROLLOUTS, mentioning("momentum", "params"))
    assert list(concerned(watched.cache, kind, old, new)) == expected


def test_requests_are_read_from_annotations_the_pin_and_open_objects() -> None:
    rollout = thing(
        "momentum",
        1,
        metadata={"annotations": {ANNOTATION_ROLLBACK: " fills look wrong ", ANNOTATION_RESUME: "1", "other": "x"}},
        spec={"rollback": {"to": "2.3.1", "reason": "pinned"}},
    )
    objects = [
        thing("b", 1, spec={"rollout": "momentum", "reason": "later"}, metadata={"creationTimestamp": "2"}),
        thing("a", 1, spec={"rollout": "momentum", "to": "2.3.0"}, metadata={"creationTimestamp": "1"}),
        thing("c", 1, spec={"rollout": "momentum"}, status={"outcome": "Succeeded"}),
        thing("d", 1, spec={"rollout": "another"}),
        thing("e", 1, spec={"rollout": "momentum"}, status={"outcome": "Running"}),
    ]
    found = requests_of(rollout, objects)
    assert [(r.source, r.verb, r.key, r.to, r.reason) for r in found] == [
        ("Annotation", "Rollback", ANNOTATION_ROLLBACK, "Previous", "fills look wrong"),
        ("Annotation", "Resume", ANNOTATION_RESUME, "Previous", "1"),
        ("Pin", "Rollback", "spec.rollback", "2.3.1", "pinned"),
        ("Object", "Rollback", "uid-e", "Previous", ""),
        ("Object", "Rollback", "uid-a", "2.3.0", ""),
        ("Object", "Rollback", "uid-b", "Previous", "later"),
    ]


def test_a_value_too_long_to_remember_is_still_told_from_others() -> None:
    def value(text: str) -> str:
        return requests_of(thing("m", 1, metadata={"annotations": {ANNOTATION_ROLLBACK: text}}), [])[0].value

    long = "x" * 5_000
    assert len(value(long)) <= 512
    assert value(long) != value(long + "y")


TERMINATED = {"state": {"terminated": {"exitCode": 0}}}
KILLED = {"state": {}, "restartCount": 1, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
CRASHED = {"state": {"terminated": {"exitCode": 1}}}
RUNNING: Body = {"state": {"running": {}}}


@pytest.mark.parametrize(
    ("policy", "deleted", "phase", "states", "ended"),
    [
        ("Always", False, "Running", [TERMINATED, TERMINATED], False),
        ("Always", True, "Running", [TERMINATED, TERMINATED], True),
        ("Always", True, "Running", [TERMINATED, RUNNING], False),
        ("Always", True, "Running", [TERMINATED], False),
        ("Always", True, "Running", [], False),
        ("Always", False, "Failed", [], False),
        ("Always", False, "Failed", [TERMINATED, CRASHED], True),
        ("Never", False, "Running", [TERMINATED, CRASHED], True),
        ("OnFailure", False, "Running", [TERMINATED, CRASHED], False),
        ("OnFailure", False, "Running", [TERMINATED, TERMINATED], True),
    ],
)
def test_only_terminated_containers_that_stay_so_prove_an_end(
    policy: str, deleted: bool, phase: str, states: list[Body], ended: bool
) -> None:
    meta = {"deletionTimestamp": "now"} if deleted else {}
    spec = {"restartPolicy": policy, "containers": [{}, {}]}
    pod = thing("r", 1, metadata=meta, spec=spec, status={"phase": phase, "containerStatuses": states})
    assert has_ended(pod) is ended


@pytest.mark.parametrize(("word", "expected"), [("Open", True), ("Closed", False), ("open", False), (None, False)])
def test_only_the_word_itself_opens_a_lease(word: str | None, expected: bool) -> None:
    assert is_open(thing("l", 1, metadata={"annotations": {ANNOTATION_CONSUMER: word} if word else None})) is expected


def waiting(reason: str, message: str = "") -> Body:
    return {"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": message}}}]}


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (waiting("ContainerCreating"), ""),
        (waiting("ImagePullBackOff", "no such image"), "pod p: ImagePullBackOff (no such image)"),
        (
            {
                "containerStatuses": [
                    {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 3}}}
                ]
            },
            "pod p: CrashLoopBackOff, last exit code 3",
        ),
        ({"containerStatuses": [KILLED]}, "pod p: restarted 1 times, last exit code 137 (OOMKilled)"),
        ({"containerStatuses": [CRASHED]}, "pod p: exited with code 1 (no reason given)"),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "full"}]},
            "pod p: Unschedulable (full)",
        ),
        ({"phase": "Failed", "reason": "Evicted"}, "pod p: Evicted"),
        ({"phase": "Running"}, ""),
    ],
)
def test_why_a_pod_is_not_ready_is_said_in_a_sentence(status: Body, sentence: str) -> None:
    assert trouble([thing("p", 1, status=status)]) == sentence


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({}, "spec.version"),
        ({"version": "1.0.0", "workload": "RequestDriven", "replicas": "many"}, "spec.replicas"),
    ],
)
def test_an_unreadable_spec_names_its_field(spec: Body, path: str) -> None:
    parsed, problems = parse_spec(thing("m", 1, spec=spec))
    assert parsed is None
    assert problems[0].path == path


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("RESYNC", "soon", "STRATEGYROLLOUT_RESYNC='soon' must be a duration"),
        ("WORKERS", "0", "at least 1"),
        ("LOG_LEVEL", "LOUD", "must be one of DEBUG"),
        ("PROMETEUS", "x", "STRATEGYROLLOUT_PROMETEUS is not a setting"),
    ],
)
def test_a_setting_that_cannot_be_understood_is_refused_by_name(variable: str, value: str, message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        from_environment({f"STRATEGYROLLOUT_{variable}": value})


def test_settings_are_read_and_links_of_services_are_not_mistaken_for_them() -> None:
    made = from_environment(
        {
            "STRATEGYROLLOUT_NAMESPACES": "a, b",
            "STRATEGYROLLOUT_CHECK": "250ms",
            "STRATEGYROLLOUT_SERVICE_HOST": "10.0.0.1",
            "STRATEGYROLLOUT_PORT_8080_TCP_ADDR": "10.0.0.1",
            "HOME": "/",
        }
    )
    assert (made.namespaces, made.check, made.workers) == (("a", "b"), 0.25, 64)


async def test_background_work_runs_once_at_a_time_and_again_only_after_a_while() -> None:
    background, log = Background(), []

    async def work() -> None:
        log.append("ran")
        await asyncio.sleep(0.01)

    for _ in range(3):
        background.run("a", 0.1, work)
    await asyncio.sleep(0.05)
    assert log == ["ran"]
    background.run("a", 0.1, work)
    await asyncio.sleep(0.02)
    assert log == ["ran"]
    await asyncio.sleep(0.12)
    assert log == ["ran", "ran"]
    await background.close()


async def test_background_work_that_fails_is_reported_to_who_asked() -> None:
    background, told = Background(), asyncio.Event()

    async def work() -> None:
        raise ValueError("broken")

    background.run("a", 0.1, work, told.set)
    await asyncio.wait_for(told.wait(), 1)
    await background.close()
