"""`python -m tests.images build`: the product's images as OCI archives, for machines without Docker.

Prints name, pinned reference and file of each. Needs root, apt and Go; everything is kept in the user's cache.
"""

import argparse
import sys

from tests.images.build import ImageError, ensure
from tests.images.debian import BaseError


def main() -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.images", description=__doc__)
    parser.add_argument("command", choices=["build"])
    parser.parse_args()
    try:
        images = ensure()
    except (ImageError, BaseError) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    for name, image in images.items():
        print(f"{name}\t{image.reference}\t{image.archive}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
