"""What a run needs from outside of its namespaces: programs, Debian packages, images; built or installed if missing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests import images
from tests.cluster import build, packages
from tests.e2e import setting
from tests.images.archive import ImageError

_PROGRAMS = ("kubectl", "helm", "prometheus")


def prepare(cluster: str, folder: Path) -> None:
    """Leaves in the environment what the tests inside need to know. Exits with a sentence when it cannot."""
    if cluster == "node" and os.geteuid() != 0:
        sys.exit(
            "CLUSTER=node needs root, because it mounts file systems and makes control groups; CLUSTER=kind does not"
        )
    try:
        packages.ensure(["skopeo"])
        build.ensure(_PROGRAMS)
        built = images.ensure()
    except (build.BuildError, packages.PackagesMissing, ImageError) as error:
        sys.exit(str(error))
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= setting.told(cluster, built, folder)
