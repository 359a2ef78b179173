"""The operator is upgraded with a candidate at its first step, under orders through real routers."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from strategyrollout.api.meta import LABEL_ROLLOUT
from tests.cluster.cluster import Cluster
from tests.cluster.example import is_ready
from tests.cluster.processes import until
from tests.router.image import add_router_image
from tests.traffic.desk import ACCOUNTS, Desk, Times, desk_of
from tests.traffic.load import Load, Shape, running

pytestmark = pytest.mark.cluster

Object = dict[str, Any]
DRAIN = 400
SHAPE = Shape(connections=4, pause=0.01, slow_share=0.1, slow_most=DRAIN // 4)
_OPERATOR = Path(__file__).parents[2] / "operator"
# What a later version may well change: labels of pods, how the routers' proxy is set up, how their pods look.
_CHANGES = {
    "core/build.py": (
        "LABEL_ROLLOUT_UID: owner.uid,\n                },\n",
        'LABEL_ROLLOUT_UID: owner.uid, "n": "1",}, ',
    ),
    "traffic/haproxy_config.py": ("maxconn 4096", "maxconn 4095"),
    "traffic/haproxy.py": ('{"name": "RUN_DIR", "value": _RUN_DIR}', '{"name": "RUN_DIR", "value": _RUN_DIR}, _NEW'),
}


def newer(folder: Path) -> Path:
    """A copy of the sources that makes everything a little differently."""
    copy = folder / "newer"
    shutil.copytree(_OPERATOR, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, (before, after) in _CHANGES.items():
        path = copy / "strategyrollout" / name
        text = path.read_text()
        assert text.count(before) == 1, f"{name} no longer has {before!r} once"
        path.write_text(text.replace(before, after))
    with (copy / "strategyrollout/traffic/haproxy.py").open("a") as module:
        module.write('\n_NEW = {"name": "NEW", "value": "yes"}\n')
    return copy


@contextlib.asynccontextmanager
async def upgraded(cluster: Cluster, namespace: str, folder: Path) -> AsyncIterator[tuple[Desk, Load, Object]]:
    """A candidate at 30 % and a newer operator that has looked at everything; with how it was before the upgrade."""
    times = Times(routers=2, lease="10s", drain=f"{DRAIN}ms", ack_timeout="30s")
    async with desk_of(cluster, namespace, folder, times, tolerance=DRAIN) as desk:
        await desk.stable()
        async with running(folder, await desk.routers_ready(), ACCOUNTS, SHAPE) as load:
            await desk.candidate()
            before = await world(desk)
            await desk.operator.stop()
            desk.operator.sources = newer(folder)
            desk.operator.configure("router_image", add_router_image(cluster.images, "2"))
            await desk.operator.start()
            await passed(desk)
            yield desk, load, before


async def passed(desk: Desk) -> None:
    """Everything was looked at once more, and whatever that may have changed has begun to change."""
    started = await desk.operator.metric("strategyrollout_passes_total", result="done")

    async def again() -> bool:
        return await desk.operator.metric("strategyrollout_passes_total", result="done") >= started + 2

    await until("two more passes", again, 30)
    await asyncio.sleep(2)


async def world(desk: Desk) -> Object:
    """Pods by UID with their starts, what they are made from, and who has which share."""
    found: Object = {"epoch": desk.record.table.epoch}
    for pod in await listed(desk, "/api/v1", "pods"):
        starts = [(c["name"], c["restartCount"]) for c in pod["status"].get("containerStatuses", [])]
        found[f"pod {pod['metadata']['uid']}"] = (pod["metadata"]["name"], starts, pod["metadata"].get("labels"))
    for plural in ("deployments", "statefulsets"):
        for body in await listed(desk, "/apis/apps/v1", plural):
            found[f"{plural} {body['metadata']['name']}"] = body["spec"]
    for plural in ("services", "configmaps"):
        for body in await listed(desk, "/api/v1", plural):
            found[f"{plural} {body['metadata']['name']}"] = (body.get("spec"), body.get("data"))
    return found


async def listed(desk: Desk, api: str, plural: str) -> list[Object]:
    """What belongs to the rollout."""
    path = f"{api}/namespaces/{desk.record.namespace}/{plural}?labelSelector={LABEL_ROLLOUT}=momentum"
    status, found = await desk.cluster.request("GET", path)
    assert status == 200, found
    return list(found["items"])


async def test_nothing_restarts_and_no_share_moves_until_the_next_rollout_replaces_routers_in_order(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with upgraded(cluster, namespace, tmp_path) as (desk, load, before):
        assert await world(desk) == before
        await desk.ask("resume")
        await desk.record.until("it holds at the next step", lambda: desk.holds_at("60%"), 30)
        await desk.promoted("2.0.0")
        routers = [str(pod["metadata"]["uid"]) for pod in await desk.routers()]
        assert {f"pod {uid}" for uid in routers} <= before.keys()
        await desk.apply("3.0.0")
        seen = await _replaced(desk, routers)
        await desk.record.until("3.0.0 holds", lambda: desk.holds_at("30%"), 60)
        answers = await load.stop()
        desk.judge()
        assert min(seen) >= 1, "never without a router"
        assert not [answer for answer in answers if answer.lost]
        (spec,) = [body["spec"]["template"]["spec"] for body in await listed(desk, "/apis/apps/v1", "statefulsets")]
        assert {"name": "NEW", "value": "yes"} in spec["containers"][0]["env"]

        async def tidied() -> bool:
            return len(await _configurations(desk)) == 1

        await until("the configuration of the routers before is gone", tidied, 30)
        (text,) = [body["data"]["haproxy.cfg"] for body in await _configurations(desk)]
        assert "maxconn 4095" in text
        trial = desk.on_trial
        made = {
            body["metadata"]["name"]: body["spec"]["template"]["metadata"]["labels"].get("n")
            for body in await listed(desk, "/apis/apps/v1", "deployments")
        }
        assert {name: label for name, label in made.items() if label} == {f"momentum-{trial}": "1"}


async def _replaced(desk: Desk, old: list[str]) -> list[int]:
    """Waits until every router is another one; returns how many were ready at each look."""
    seen: list[int] = []

    async def done() -> bool:
        pods = await desk.routers()
        ready = [pod for pod in pods if is_ready(pod)]
        seen.append(len(ready))
        return len(ready) == len(pods) == 2 and not any(p["metadata"]["uid"] in old for p in pods)

    await until("all routers are replaced", done, 90)
    return seen


async def _configurations(desk: Desk) -> list[Object]:
    return [body for body in await listed(desk, "/api/v1", "configmaps") if "haproxy.cfg" in body.get("data", {})]


async def test_what_somebody_changes_or_deletes_comes_back_as_it_was_before_the_upgrade(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with upgraded(cluster, namespace, tmp_path) as (desk, load, before):
        await load.stop()
        name, at = "statefulset/momentum-router", ("-n", namespace)
        image = '[{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "evil"}]'
        await cluster.kubectl("patch", name, *at, "--type=json", "-p", image)
        await _again(desk, before, "statefulsets")
        (config,) = await _configurations(desk)
        await cluster.kubectl("delete", "configmap", config["metadata"]["name"], *at)
        await _again(desk, before, "configmaps")
        await cluster.kubectl("delete", name, *at)
        await _again(desk, before, "statefulsets")
        deployment = next(key for key in before if key.startswith("deployments")).partition(" ")[2]
        await cluster.kubectl("delete", f"deployment/{deployment}", *at)
        await _again(desk, before, "deployments")
        await desk.routers_ready()
        assert desk.record.share(desk.on_trial) == 3_000


async def _again(desk: Desk, before: Object, plural: str) -> None:
    wanted = {key: value for key, value in before.items() if key.startswith(plural)}

    async def there() -> bool:
        found = await world(desk)
        return {key: value for key, value in found.items() if key.startswith(plural)} == wanted

    await until(f"{plural} are as they were", there, 30)


async def test_routers_that_nothing_is_kept_of_are_left_alone(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    """Their ControllerRevision was deleted while no operator ran to see it."""
    times = Times(routers=2, drain=f"{DRAIN}ms")
    async with desk_of(cluster, namespace, tmp_path, times, tolerance=DRAIN) as desk:
        await desk.stable()
        kept = desk.record.table.record.routers
        await desk.operator.stop()
        await cluster.kubectl("delete", "controllerrevision", str(kept), "-n", namespace)
        before = await world(desk)
        desk.operator.sources = newer(tmp_path)
        await desk.operator.start()
        await passed(desk)
        assert await world(desk) == before
        traffic = {**desk.record.rollout["spec"]["traffic"], "haproxy": {"replicas": 3}}
        await desk.apply("1.0.0", traffic=traffic)
        await desk.routers_ready(3)
        await desk.candidate()
        assert desk.record.table.record.routers not in (None, kept)
