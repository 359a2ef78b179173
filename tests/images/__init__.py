"""The product's images without Docker and without a registry: `python -m tests.images build` (see docs/images.md).

`ensure()` is what tests use: it builds what is missing and returns OCI archives with references pinned by digest.
"""

from tests.images.archive import Image, ImageError, relabelled
from tests.images.build import ensure, prepare

__all__ = ["Image", "ImageError", "ensure", "prepare", "relabelled"]
