"""A router pod whose two containers run from the built image, for the tests and benches of routers."""

from __future__ import annotations

from pathlib import Path

from tests.images.archive import Image
from tests.images.container import Container
from tests.router.fake_api import FakeApi
from tests.router.router import Router

_INSIDE = "/run/router"
_OWN = {"RUN_DIR": _INSIDE, "HAPROXY_CONFIG": f"{_INSIDE}/haproxy.cfg", "TOKEN_FILE": f"{_INSIDE}/token"}
_TOLD = (
    "API_SERVER",
    "ROLLOUT",
    "ROLLOUT_UID",
    "NAMESPACE",
    "POD_NAME",
    "POD_UID",
    "POD_IP",
    "PORT",
    "HEALTH_PORT",
    "PORT_NAME",
    "GRACE_SECONDS",
)


class ImageRouter(Router):
    """Like any other router of the tests, but confined as in a pod."""

    def __init__(self, folder: Path, api: FakeApi, image: Image, root: Path) -> None:
        super().__init__(folder, api)
        folder.chmod(0o777)  # an emptyDir with fsGroup
        environment = {name: value for name, value in self.environment.items() if name in _TOLD} | _OWN
        self.containers = [
            Container(
                image,
                root,
                folder.with_name(f"{folder.name}-{part}"),
                arguments=[part],
                environment=environment,
                mounts={_INSIDE: folder},
            )
            for part in ("proxy", "agent")
        ]

    async def start(self) -> None:
        for container in self.containers:
            container.start()

    async def stop(self) -> None:
        for container in self.containers:
            container.stop()
            print(container.log.read_text())
        await super().stop()
