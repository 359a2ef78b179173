"""Proves that the images are what docs/images.md says: the same each time, confined, complete, and listed."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.images import Image, relabelled
from tests.images.build import TARGETS, build
from tests.images.container import Container
from tests.images.router import ImageRouter
from tests.router.fake_api import FakeApi
from tests.router.router import STABLE, Strategy, address, assignment, span

Images = dict[str, Image]
Roots = dict[str, Path]
_SHELLS = ("sh", "bash", "dash", "busybox", "ash")


def test_the_same_inputs_give_the_same_digests(built: Images, source: Path, tmp_path: Path) -> None:
    # Another checkout: at another time, and by somebody with another umask.
    shutil.copytree(source, tmp_path / "source")
    for path in (tmp_path / "source").rglob("*"):
        path.chmod(0o660 if path.is_file() else 0o700)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    again = build(tmp_path, tmp_path / "source")
    assert {name: image.digest for name, image in again.items()} == {name: i.digest for name, i in built.items()}


@pytest.mark.parametrize("name", TARGETS)
def test_an_image_names_a_user_and_needs_no_shell(name: str, built: Images, roots: Roots) -> None:
    settings = built[name].config()["config"]
    assert settings["User"] == "65532:65532"
    assert settings["Entrypoint"][0] == "python3"
    there = {path.name for folder in ("usr/bin", "usr/sbin") for path in (roots[name] / folder).iterdir()}
    assert not there.intersection(_SHELLS)


@pytest.mark.parametrize("name", TARGETS)
def test_everybody_may_read_and_nobody_may_write_what_is_in_an_image(name: str, roots: Roots) -> None:
    for path in (roots[name] / "app").rglob("*"):
        allowed = (0o755,) if path.is_dir() else (0o644, 0o755)
        assert path.stat().st_mode & 0o7777 in allowed, path
        assert path.stat().st_uid == 0, path


@pytest.mark.parametrize("name", TARGETS)
def test_the_list_of_contents_names_every_package(name: str, roots: Roots) -> None:
    root = roots[name]
    listed = {part["purl"] for part in json.loads((root / "app/sbom.cdx.json").read_text())["components"]}
    python = [path.name.removesuffix(".dist-info").split("-") for path in (root / "app").glob("*.dist-info")]
    debian = re.findall(r"^Package: (\S+)", (root / "var/lib/dpkg/status").read_text(), re.MULTILINE)
    assert {f"pkg:pypi/{name.replace('_', '-').lower()}@{version}" for name, version in python} <= listed
    assert {url.split("@")[0] for url in listed if url.startswith("pkg:deb/")} == {
        f"pkg:deb/debian/{n}" for n in debian
    }
    assert len(debian) > 20


def test_the_list_of_contents_names_what_came_inside_a_wheel(roots: Roots) -> None:
    parts = json.loads((roots["router"] / "app/sbom.cdx.json").read_text())["components"]
    assert {"haproxy", "openssl", "pcre", "lua"} <= {part["name"] for part in parts}


def test_a_router_carries_nothing_of_the_operator(roots: Roots) -> None:
    there = {path.name for path in (roots["router"] / "app").iterdir()}
    assert "aiohttp" in there
    assert not there.intersection({"kopf", "kubernetes", "pydantic", "prometheus_client"})


def test_the_operator_starts_confined_and_says_what_it_lacks(built: Images, roots: Roots, tmp_path: Path) -> None:
    code, said = Container(built["operator"], roots["operator"], tmp_path).run()
    assert code == 2
    assert "KUBERNETES_SERVICE_HOST" in said.splitlines()[-1]


async def test_a_confined_router_serves_orders(built: Images, roots: Roots, tmp_path: Path) -> None:
    api = FakeApi()
    await api.start(address())
    async with Strategy(STABLE).running() as stable:
        api.put_pods(STABLE, {stable.host: True}, stable.port)
        router = ImageRouter(tmp_path, api, built["router"], roots["router"])
        await router.start()
        try:
            api.put_assignment(assignment(7, span(0, 9_999, STABLE)))
            await router.acked(7, within=20)
            assert (await router.send()).by == STABLE
        finally:
            await router.stop()
            await api.stop()


def test_a_label_more_is_another_version_of_the_same_content(built: Images) -> None:
    image = built["example-strategy"]
    versions = [relabelled(image, {"version": version}) for version in ("2.3.1", "2.4.0")]
    assert len({image.digest, *(version.digest for version in versions)}) == 3
    assert all(version.layers() == image.layers() for version in versions)
    assert relabelled(image, {"version": "2.3.1"}) == versions[0]
