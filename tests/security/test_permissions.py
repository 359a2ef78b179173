"""Every verb of the shipped rules: readiness names it when it is missing, and some write fails without it."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from strategyrollout.api.assignment import AssignmentSpec
from strategyrollout.cluster.access import Access
from strategyrollout.cluster.apply import Applier
from strategyrollout.cluster.assignments import Assignments
from strategyrollout.cluster.cache import Cache
from strategyrollout.cluster.client import Api
from strategyrollout.core.build import Owner
from strategyrollout.permissions import PERMISSIONS, chart_rules, questions
from strategyrollout.ports import Key, Lost, Refused, Unavailable
from strategyrollout.readiness import Readiness
from strategyrollout.traffic.haproxy import Routers, objects
from tests.cluster.processes import until
from tests.operator_process import Operator
from tests.security.conftest import WORKER, Guarded
from tests.security.needed import ALL, BEHIND, Verb
from tests.security.shipped import HOME, Account, rules, without

pytestmark = pytest.mark.cluster

_numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def account(guarded: Guarded) -> Account:
    """An operator's account whose rules are changed here."""
    made = Account(guarded.cluster, f"changed-{WORKER}", [guarded.namespace])
    await made.install()
    return made


@pytest_asyncio.fixture
async def api(account: Account) -> AsyncIterator[Api]:
    """The operator's client with that account."""
    cluster = account.cluster
    async with Api(Access(cluster.server, ca=cluster.ca_file, token=await account.token())) as opened:
        yield opened


async def _says(readiness: Readiness, wanted: tuple[str, ...]) -> None:
    """The API server takes a moment to hear of changed rules."""

    async def there() -> bool:
        await readiness.look_for_verbs()
        return readiness.verbs == wanted

    try:
        await until("readiness is as wanted", there, 10)
    except Exception as error:
        raise AssertionError(f"{readiness.verbs} instead of {wanted}") from error


@pytest.mark.parametrize("missing", ALL, ids=str)
async def test_readiness_names_exactly_the_verb_that_is_missing(account: Account, api: Api, missing: Verb) -> None:
    await account.change(without(*missing))
    place = {"cluster": "", "namespaced": account.namespaces[0], "leaderLease": HOME}[missing.scope]
    (question,) = (
        q
        for q in questions(account.namespaces, HOME)
        if (q.group, q.resource, q.verb, q.namespace) == (missing.group, missing.resource, missing.verb, place)
    )
    await _says(Readiness(api, account.namespaces, HOME), (question.missing(),))


async def test_readiness_is_content_with_exactly_the_shipped_rules(account: Account, api: Api) -> None:
    await account.change(rules())
    await _says(Readiness(api, account.namespaces, HOME), ())


@pytest.mark.parametrize("missing", BEHIND, ids=str)
async def test_a_verb_behind_a_request_is_needed_for_it(
    guarded: Guarded, account: Account, api: Api, missing: Verb
) -> None:
    await account.change(without(*missing))
    owner, said = Owner(guarded.namespace, f"first-{next(_numbers)}", str(uuid.uuid4())), ""

    async def refused() -> bool:
        nonlocal said
        said = await _first_writes(guarded, api, owner)
        return BEHIND[missing] in said

    try:
        await until("the write is refused", refused, 10)
    except Exception as error:
        raise AssertionError(f"without {missing}: {said}") from error
    await account.change(rules())

    async def accepted() -> bool:
        return not await _first_writes(guarded, api, owner)

    await until("the write is accepted", accepted, 10)


async def _first_writes(guarded: Guarded, api: Api, owner: Owner) -> str:
    """What a new rollout with routers makes the operator write; returns what was refused."""
    routers = Routers(owner, "registry.example/router@sha256:" + "0" * 64, 0, "orders", "X-Id", "salt", 250)
    cache = Cache(lambda _: (), lambda *_: None)
    said: list[str] = []
    try:
        said += [problem.message for problem in await Applier(api, cache).objects(owner, objects(routers))]
    except Unavailable as error:
        return f"tried again: {error}"  # the server has not heard yet of the Role that is to be bound
    try:
        table = AssignmentSpec.model_validate(guarded.table(owner.name)["spec"])
        await Assignments(api, cache, lambda: 0).write(Key(owner.namespace, owner.name), owner.uid, None, table)
    except Refused as error:
        said.append(str(error))
    except Lost:
        pass  # written by the try before
    return "\n".join(said)


async def test_an_operator_that_lacks_a_verb_says_so_and_is_ready_once_it_is_given(
    account: Account, tmp_path: Path
) -> None:
    await account.change(without("namespaced", "", "configmaps", "watch"))
    operator = Operator(account.cluster, tmp_path, await account.kubeconfig(), namespaces=account.namespaces[0])
    await operator.start(ready=False)
    try:

        async def explained() -> bool:
            status, text = await operator.page("/readyz")
            return (
                status == 503
                and (
                    f"RBAC does not allow to watch configmaps in namespace {account.namespaces[0]}, needed to notice"
                    ' changed inputs and pin copies; add to a Role there: {apiGroups: [""], resources: ["configmaps"],'
                    ' verbs: ["watch"]}\n'
                )
                in text
            )

        await until("the missing verb is named", explained, 15)
        await account.change(rules())

        async def ready() -> bool:
            return (await operator.page("/readyz"))[0] == 200

        await until("it is ready", ready, 30)
    finally:
        await operator.stop()


async def test_the_operator_may_not_read_secrets_or_write_what_belongs_to_people(
    guarded: Guarded, account: Account
) -> None:
    await account.change(rules())
    nothing = {
        "secrets": ("get", "list", "watch", "create", "update", "patch", "delete"),
        "strategyrollouts.strategyrollout.io": ("create", "update", "patch", "delete"),
        "rollbacks.strategyrollout.io": ("create", "update", "patch", "delete"),
        "gatetemplates.strategyrollout.io": ("create", "update", "patch", "delete"),
        "trafficassignments.strategyrollout.io": ("delete", "override"),
        "pods": ("create", "update", "patch", "delete"),
        "pods/exec": ("create",),
        "serviceaccounts/token": ("create",),
        "roles.rbac.authorization.k8s.io": ("escalate", "bind", "update", "delete"),
        "rolebindings.rbac.authorization.k8s.io": ("update", "delete"),
        "namespaces": ("get", "list"),
    }
    asked = [(verb, resource) for resource, verbs in nothing.items() for verb in verbs]
    limit = asyncio.Semaphore(8)

    async def may(verb: str, resource: str) -> bool:
        async with limit:
            return await account.can(verb, resource, guarded.namespace)

    answers = await asyncio.gather(*(may(*one) for one in asked))
    assert [one for one, yes in zip(asked, answers, strict=True) if yes] == []
    assert await may("list", "configmaps")
    assert not await account.can("list", "configmaps", "kube-system")


def test_no_rule_names_everything() -> None:
    words = [word for p in PERMISSIONS for word in (p.group, p.resource, *p.verbs)]
    assert "*" not in words
    assert not {"escalate", "bind", "impersonate"} & set(words)
    assert "secrets" not in words
    assert len(ALL) == len(set(ALL))


def test_the_rules_of_the_chart_say_the_same() -> None:
    assert rules() == yaml.safe_load(chart_rules())
    found = {
        Verb(scope, group, resource, verb)
        for scope, given in rules().items()
        for rule in given
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert found == set(ALL)
