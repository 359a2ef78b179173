"""Lists of Leases that many need at once."""

import asyncio
import itertools

import pytest

from strategyrollout.api.meta import LABEL_ROLLOUT_UID
from strategyrollout.cluster.access import Access
from strategyrollout.cluster.client import Api
from strategyrollout.cluster.kinds import LEASES
from strategyrollout.cluster.lease_lists import LeaseLists
from strategyrollout.ports import Unavailable
from tests.hands.conftest import World

_ROLLOUTS, _ROUTERS = 40, 2


async def _open(world: World, rollout: str, router: int) -> None:
    meta = {"name": f"{rollout}-{router}", "namespace": world.namespace, "labels": {LABEL_ROLLOUT_UID: rollout}}
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta}
    await world.api.create(LEASES.path(world.namespace), body)


@pytest.mark.cluster
async def test_many_rollouts_that_ask_at_once_share_lists_sent_after_each_of_them_asked(world: World) -> None:
    rollouts = [f"uid-{number}" for number in range(_ROLLOUTS)]
    await asyncio.gather(*(_open(world, uid, router) for uid in rollouts for router in range(_ROUTERS)))
    moments = itertools.count(1)  # each moment is asked for once, so earlier is smaller
    lists = LeaseLists(world.api, lambda: next(moments))
    before = world.requests()

    async def ask(uid: str, late: float) -> None:
        await asyncio.sleep(late)
        asked = next(moments)
        sent, leases = await lists.of(world.namespace, uid)
        assert sent > asked
        assert {lease["metadata"]["name"] for lease in leases} == {f"{uid}-{n}" for n in range(_ROUTERS)}

    await asyncio.gather(*(ask(uid, number / 20_000) for number, uid in enumerate(rollouts)))
    assert world.requests() - before < _ROLLOUTS / 2


@pytest.mark.cluster
async def test_a_lease_written_before_the_question_is_in_the_answer_however_many_ask(world: World) -> None:
    lists = LeaseLists(world.api, lambda: 0)

    async def write_and_ask(number: int) -> None:
        uid = f"uid-{number}"
        await _open(world, uid, 0)
        _, leases = await lists.of(world.namespace, uid)
        assert len(leases) == 1

    await asyncio.gather(*(write_and_ask(number) for number in range(_ROLLOUTS)))


async def test_everybody_who_waits_for_a_list_that_fails_is_told() -> None:
    nowhere = Api(Access(host="https://127.0.0.1:1", verify=False))
    lists = LeaseLists(nowhere, lambda: 0)
    asking = (lists.of("desk", f"uid-{number}") for number in range(5))
    answers = await asyncio.gather(*asking, return_exceptions=True)
    await nowhere.close()
    assert all(isinstance(answer, Unavailable) for answer in answers), answers
