"""Children of a rollout on the real API server: made, left alone, mended, removed, refused."""

import json
from dataclasses import replace
from typing import Any

import pytest

from strategyrollout.cluster.apply import Applier
from strategyrollout.cluster.kinds import CONFIGMAPS, DEPLOYMENTS, REVISIONS, SERVICES
from strategyrollout.core.build import Owner, child_name, copy_name, gate_snapshot, gate_snapshot_name
from strategyrollout.core.revision import Content, content_from, identified
from strategyrollout.ports import Unavailable
from tests.cluster.cluster import Cluster
from tests.cluster.processes import until
from tests.hands.conftest import World, pod_template

pytestmark = pytest.mark.cluster

FROM_ENV: Any = {"envFrom": [{"configMapRef": {"name": "params"}}]}
PARAMS = {"params": {"data": {"SIZE": "10"}}}


def content(version: str = "2.4.0", configmaps: dict[str, Any] | None = None, **container: Any) -> Content:
    return Content(version, pod_template(**container), configmaps or {})


class Applied:
    """One revision of one rollout, applied."""

    def __init__(self, world: World, owner: Owner, what: Content) -> None:
        self.world = world
        self.owner = owner
        self.content = what
        self.revision = identified(what).hash
        self.name = child_name(owner, self.revision)

    async def apply(self, replicas: int = 2) -> None:
        problems = await self.world.applier.revisions(
            self.owner, {self.revision: replicas}, {self.revision: self.content}, port="orders"
        )
        assert problems == ()

    async def deployment(self) -> Any:
        return await self.world.get(DEPLOYMENTS, self.name)

    async def seen(self) -> None:
        """The watches have brought everything."""
        for kind in (DEPLOYMENTS, SERVICES, REVISIONS):
            await self.world.see(kind, self.name)
        for source in self.content.configmaps:
            await self.world.see(CONFIGMAPS, copy_name(self.owner, self.revision, source))


async def applied(world: World, what: Content | None = None, replicas: int = 2) -> Applied:
    one = Applied(world, await world.make(), what or content(configmaps=PARAMS, **FROM_ENV))
    await one.apply(replicas)
    return one


async def test_a_revision_gets_its_record_copies_service_and_pods(world: World) -> None:
    one = await applied(world)
    record = await world.get(REVISIONS, one.name)
    assert content_from(record) == one.content
    copy = copy_name(one.owner, one.revision, "params")
    kept = await world.get(CONFIGMAPS, copy)
    assert (kept["data"], kept["immutable"]) == ({"SIZE": "10"}, True)
    deployment = await one.deployment()
    assert deployment["spec"]["replicas"] == 2
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"configMapRef": {"name": copy}}]
    service = await world.get(SERVICES, one.name)
    assert service["spec"]["ports"][0]["targetPort"] == "orders"
    for body in (record, kept, deployment, service):
        assert body["metadata"]["ownerReferences"][0]["uid"] == one.owner.uid
    managers = {entry["manager"] for entry in service["metadata"]["managedFields"]}
    assert managers == {"strategyrollout-traffic"}


async def test_nothing_is_asked_of_the_server_when_everything_is_in_place(world: World) -> None:
    one = await applied(world)
    before = world.requests()
    await one.apply()
    assert world.requests() == before


async def test_what_the_deployment_controller_reports_is_no_reason_to_write(world: World) -> None:
    one = await applied(world)

    async def settled() -> bool:
        """Its first report adds an annotation, which counts as a change of the object."""
        deployment = await one.deployment()
        return bool(deployment["metadata"].get("annotations", {}).get("deployment.kubernetes.io/revision"))

    await until("the Deployment's controller has reported", settled, 10)
    await one.seen()
    await one.apply()
    before = world.requests()
    await world.api.merge(
        DEPLOYMENTS.path(world.namespace, one.name, "status"), {"status": {"replicas": 2, "observedGeneration": 1}}
    )
    await one.seen()
    before += 5  # the merge above, and four reads of what the watch would bring
    await one.apply()
    assert world.requests() == before


async def test_a_new_process_finds_everything_in_place_and_writes_nothing(world: World) -> None:
    one = await applied(world)
    await one.seen()
    world.applier = Applier(world.api, world.cache)
    before = world.requests()
    await one.apply()
    assert world.requests() == before


async def test_the_number_of_pods_is_the_only_thing_that_changes(world: World) -> None:
    one = await applied(world)
    before = await one.deployment()
    writes = world.writes()
    await one.apply(replicas=5)
    after = await one.deployment()
    assert after["spec"] == {**before["spec"], "replicas": 5}
    assert world.writes() == writes + 1


def strategy(**changes: Any) -> dict[str, Any]:
    return {"template": {"spec": {"containers": [{"name": "strategy", **changes}]}}}


MENDED = [
    ("scaled", {"replicas": 9}),
    ("an image", strategy(image="evil")),
    (
        "a variable",
        strategy(env=[{"name": "X", "value": "1"}]),
    ),
    ("a container", {"template": {"spec": {"containers": [{"name": "sidecar", "image": "evil"}]}}}),
    ("an account", {"template": {"spec": {"serviceAccountName": "root"}}}),
    ("a privilege", strategy(securityContext={"privileged": True})),
    ("a volume", {"template": {"spec": {"volumes": [{"name": "x", "emptyDir": {}}]}}}),
]


@pytest.mark.parametrize(("what", "patch"), MENDED, ids=[m[0] for m in MENDED])
async def test_what_somebody_changed_by_hand_is_mended(
    world: World, cluster: Cluster, what: str, patch: dict[str, Any]
) -> None:
    one = await applied(world, content(args=["--live"]))
    wanted = (await one.deployment())["spec"]
    namespace = ("-n", world.namespace)
    await cluster.kubectl(
        "patch", "deployment", one.name, *namespace, "--type=strategic", "-p", json.dumps({"spec": patch})
    )
    changed = await world.see(DEPLOYMENTS, one.name)
    assert changed is not None
    assert changed["spec"] != wanted, what
    await one.apply()
    mended = (await one.deployment())["spec"]
    assert mended["replicas"] == wanted["replicas"]
    assert mended["template"]["spec"]["containers"][0]["image"] == wanted["template"]["spec"]["containers"][0]["image"]
    assert mended == wanted
    before = world.requests()
    await one.apply()
    assert world.requests() == before, "mended once, not for ever"


async def test_restarting_the_pods_of_a_revision_is_left_to_people(world: World, cluster: Cluster) -> None:
    one = await applied(world)
    await cluster.kubectl("rollout", "restart", f"deployment/{one.name}", "-n", world.namespace)
    await one.seen()
    await one.apply()
    annotations = (await one.deployment())["spec"]["template"]["metadata"]["annotations"]
    assert "kubectl.kubernetes.io/restartedAt" in annotations


@pytest.mark.parametrize("kind", [DEPLOYMENTS, SERVICES, REVISIONS, CONFIGMAPS], ids=str)
async def test_what_somebody_deleted_is_made_again(world: World, kind: Any) -> None:
    one = await applied(world)
    await one.seen()
    name = copy_name(one.owner, one.revision, "params") if kind is CONFIGMAPS else one.name
    await world.api.delete(kind.path(world.namespace, name))
    await world.see(kind, name)
    await one.apply()
    assert await world.exists(kind, name)


async def test_the_record_of_a_revision_that_is_not_scaled_comes_back_too(world: World) -> None:
    one = await applied(world)
    await one.seen()
    await world.api.delete(REVISIONS.path(world.namespace, one.name))
    await world.see(REVISIONS, one.name)
    assert await world.applier.revisions(one.owner, {}, {}, port="orders") == ()
    assert await world.exists(REVISIONS, one.name)


async def test_a_label_that_somebody_took_away_comes_back(world: World) -> None:
    one = await applied(world)
    await world.api.merge(
        SERVICES.path(world.namespace, one.name), {"metadata": {"labels": {"strategyrollout.io/revision": None}}}
    )
    await one.seen()
    await one.apply()
    labels = (await world.get(SERVICES, one.name))["metadata"]["labels"]
    assert labels["strategyrollout.io/revision"] == one.revision


async def test_an_object_of_somebody_else_is_never_taken_over(world: World) -> None:
    owner = await world.make()
    one = Applied(world, owner, content())
    foreign = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": one.name, "namespace": world.namespace},
        "spec": {"ports": [{"port": 1}]},
    }
    await world.api.create(SERVICES.path(world.namespace), foreign)
    (problem,) = await world.applier.revisions(owner, {one.revision: 1}, {one.revision: one.content}, port="orders")
    assert problem.reason == "NotOwned"
    assert f"Service {one.name} exists and belongs to no StrategyRollout" in problem.message
    assert (await world.get(SERVICES, one.name))["spec"]["ports"][0]["port"] == 1
    assert not await world.exists(DEPLOYMENTS, one.name), "pods nobody can reach by the Service are of no use"


async def test_an_object_of_another_rollout_is_named(world: World) -> None:
    one = await applied(world)
    other = Owner(world.namespace, "other", "11111111-1111-1111-1111-111111111111")
    body = {**await world.get(SERVICES, one.name)}
    body["metadata"] = {"name": one.name, "namespace": world.namespace, "labels": {}, "ownerReferences": []}
    (problem,) = await world.applier.objects(other, [body])
    assert "belongs to StrategyRollout momentum" in problem.message


async def test_a_namesake_that_was_deleted_is_waited_for(world: World) -> None:
    one = await applied(world)
    again = Applied(world, replace(one.owner, uid="22222222-2222-2222-2222-222222222222"), one.content)
    with pytest.raises(Unavailable, match="deleted namesake"):
        await again.apply()


async def test_what_fails_for_one_revision_does_not_keep_another_from_its_pods(world: World) -> None:
    owner = await world.make()
    good, bad = Applied(world, owner, content("1.0.0")), Applied(world, owner, content("2.0.0", dnsPolicyy="x"))
    wanted = {bad.revision: 1, good.revision: 3}
    contents = {bad.revision: bad.content, good.revision: good.content}
    (problem,) = await world.applier.revisions(owner, wanted, contents, port="orders")
    assert problem.reason == "InvalidTemplate"
    assert "dnsPolicyy" in problem.message
    assert (await good.deployment())["spec"]["replicas"] == 3


async def test_pods_of_a_revision_whose_record_is_lost_can_still_be_scaled(world: World) -> None:
    one = await applied(world)
    await one.seen()
    world.applier = Applier(world.api, world.cache)
    (problem,) = await world.applier.revisions(one.owner, {one.revision: 4}, {}, port="orders")
    assert problem.reason == "MissingInput"
    assert (await one.deployment())["spec"]["replicas"] == 4


async def test_a_revision_is_removed_with_everything_it_has_and_nothing_else(world: World) -> None:
    one = await applied(world)
    other = Applied(world, one.owner, content("2.5.0", PARAMS, **FROM_ENV))
    await other.apply()
    await world.applier.remove(one.owner, {one.revision})
    for kind in (DEPLOYMENTS, SERVICES, REVISIONS):
        assert not await world.exists(kind, one.name)
        assert await world.exists(kind, other.name)
    assert not await world.exists(CONFIGMAPS, copy_name(one.owner, one.revision, "params"))
    assert await world.exists(CONFIGMAPS, copy_name(one.owner, other.revision, "params"))
    before = world.requests()
    await world.applier.remove(one.owner, {one.revision})
    await other.apply()
    assert world.requests() == before
    await one.apply()
    assert await world.exists(DEPLOYMENTS, one.name), "wanted again, it is made again at once"


async def test_removing_spares_a_new_object_of_the_same_name(world: World) -> None:
    one = await applied(world)
    await one.seen()
    path = SERVICES.path(world.namespace, one.name)
    await world.api.delete(path)
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": one.name}, "spec": {"ports": [{"port": 1}]}}
    await world.api.create(SERVICES.path(world.namespace), body)
    await world.applier.remove(one.owner, {one.revision})
    assert await world.exists(SERVICES, one.name)


async def test_a_gate_snapshot_is_stored(world: World) -> None:
    owner = await world.make()
    templates = {"ClusterGateTemplate/reject-rate": {"limit": {"above": "0.05"}}}
    assert await world.applier.objects(owner, [gate_snapshot(owner, templates)]) == ()
    assert (await world.get(REVISIONS, gate_snapshot_name(owner, templates)))["data"] == templates


REFUSED = [
    ("an unknown field", content(imagePullPolicyy="Always"), "imagePullPolicyy", "containers[0].imagePullPolicyy"),
    ("a wrong value", content(imagePullPolicy="Never ever"), "imagePullPolicy", "containers[0].imagePullPolicy"),
    ("a wrong type", content(args="--live"), "args", ""),
    ("a variable twice", content(env=[{"name": "A"}, {"name": "A"}]), "env", ""),
    ("a mount of nothing", content(volumeMounts=[{"name": "x", "mountPath": "/x"}]), "x", "volumeMounts[0].name"),
    ("a quantity", content(resources={"limits": {"cpu": "lots"}}), "quantities", ""),
]


@pytest.mark.parametrize(("what", "bad", "word", "path"), REFUSED, ids=[r[0] for r in REFUSED])
async def test_a_template_the_server_would_refuse_is_found_before_anything_starts(
    world: World, what: str, bad: Content, word: str, path: str
) -> None:
    owner = await world.make()
    problem = await world.applier.dry_run(owner, identified(bad).hash, bad, port="orders")
    assert problem is not None, what
    assert problem.reason == "InvalidTemplate"
    assert word in problem.message
    assert problem.path.startswith("spec.template")
    assert path in problem.path
    assert not await world.exists(DEPLOYMENTS, child_name(owner, identified(bad).hash))


async def test_a_good_template_is_tried_once_and_remembered(world: World) -> None:
    owner, good = await world.make(), content(configmaps=PARAMS, **FROM_ENV)
    revision = identified(good).hash
    assert await world.applier.dry_run(owner, revision, good, port="orders") is None
    before = world.requests()
    assert await world.applier.dry_run(owner, revision, good, port="orders") is None
    assert world.requests() == before
    assert not await world.exists(DEPLOYMENTS, child_name(owner, revision))
