"""Gets what tests of the chart cannot fetch from within the cluster's network: `python -m tests.install.prepare`.

It takes about two minutes once; afterwards everything is in the cache.
"""

from __future__ import annotations

import sys

from tests.cluster import build
from tests.install import schemas

TOOLS = ("helm", "kubeconform", "promtool")

if __name__ == "__main__":
    try:
        build.ensure(TOOLS)
        schemas.ensure()
    except build.BuildError as error:
        sys.exit(f"[install] {error}")
