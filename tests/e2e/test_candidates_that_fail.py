"""Candidates whose pods a real kubelet cannot start, or ends: nobody is sent to them, and the rollout says why."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.desk import Desk

pytestmark = pytest.mark.cluster

NOWHERE = "registry.invalid/momentum@sha256:" + "0123456789abcdef" * 4
HUNGRY = {
    "command": ["python3", "-c", "hoard = b'x' * (256 << 20)"],
    "resources": {"limits": {"memory": "64Mi"}},
}
CASES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "its image cannot be pulled": (NOWHERE, {}, ("ImagePull", "registry.invalid")),
    "its digest does not exist": ("", {}, ("ImagePull", "NotFound")),
    "it ends at once": ("own", {"command": ["python3", "-c", "raise SystemExit(3)"]}, ("exit code 3",)),
    "it takes more memory than it may": ("own", HUNGRY, ("OOMKilled",)),
}


@pytest.mark.parametrize(("image", "container", "words"), CASES.values(), ids=CASES.keys())
async def test_a_candidate_that_cannot_start_gets_no_order_and_the_rollout_says_why(
    image: str, container: dict[str, Any], words: tuple[str, ...], desk: Desk
) -> None:
    stable = await desk.stable()
    good = await desk.site.image_of("2.0.0")
    unknown = good.partition("@")[0] + "@sha256:" + "0" * 64
    bad = {"": unknown, "own": good}.get(image, image)
    await desk.apply("2.0.0", template=desk.template_of(bad, **container))
    await desk.says(*words)
    await desk.everyone_is_served_by(stable)
    assert {r.owner for table in desk.record.tables for r in table.ranges} == {stable}

    await desk.candidate("2.0.1")
    await desk.promoted("2.0.1")


async def test_a_candidate_that_is_killed_for_its_memory_while_it_serves_can_be_taken_back(desk: Desk) -> None:
    desk.may_lose_orders = True  # those it was working on
    stable = await desk.stable()
    limit = {"limits": {"memory": "64Mi"}}
    template = desk.template_of(await desk.site.image_of("2.0.0"), resources=limit)
    candidate = await desk.candidate("2.0.0", template=template)
    await desk.misbehave(candidate, "memory")

    async def killed() -> bool:
        states = [s for pod in await desk.pods(candidate) for s in pod["status"].get("containerStatuses") or []]
        ends = [(s["lastState"].get("terminated") or s["state"].get("terminated") or {}) for s in states]
        return any(end.get("reason") == "OOMKilled" for end in ends)

    await desk.eventually_so("the kernel has killed it", killed, 30)
    await desk.roll_back()
    await desk.record.until("it is taken back", desk.taken_back, 60)
    await desk.everyone_is_served_by(stable)
