"""One cluster with the product for the whole run, one namespace for each test.

A test asks for `desk`: a rollout's namespace with orders, record and judgement (desk.py); for `site`: the cluster and
the product; for `faults`: hands that break things, where the cluster lets itself be broken.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.cluster.providers import Faults
from tests.e2e import setting
from tests.e2e.desk import Desk, desk_in
from tests.e2e.site import Site, is_kept, kept, made

# `make test` runs what needs no root; this folder is `make e2e`.
collect_ignore_glob = [] if setting.CLUSTER in os.environ else ["test_*.py"]
_numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """The cluster, with the product installed as a user would; the one that is kept, where one is."""
    folder = setting.folder() or tmp_path_factory.mktemp("e2e")
    if is_kept(folder):
        yield kept(folder)
        return
    async with made(os.environ[setting.CLUSTER], folder) as site:
        yield site


@pytest_asyncio.fixture
async def desk(site: Site, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Desk]:
    """A namespace for one test; at its end the record is judged, whatever the test was about."""
    await site.product.ready()
    word = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:40].strip("-")
    async with desk_in(site, f"{word}-{next(_numbers)}", tmp_path) as desk:
        try:
            yield desk
            assert await desk.settle() > 0, "no order was ever served"
        finally:
            sys.stdout.write(f"--- what was held and said\n{desk.story()}\n")  # shown when the test has failed


@pytest.fixture
def faults(site: Site) -> Faults:
    """Hands that break things."""
    if site.cluster.faults is None:
        pytest.skip(f"CLUSTER={site.cluster.name} cannot be broken on purpose")
    return site.cluster.faults
