"""The product's images as OCI archives, for machines without Docker. Needs root, apt and Go; all is kept in a cache.

python -m tests.images build     build what changed; prints name, pinned reference and file of each
python -m tests.images prepare   only get what a build needs from elsewhere: tests run without a network
"""

import os
import sys

from tests.images import ImageError, ensure, prepare


def main(arguments: list[str]) -> int:
    """Exit code."""
    try:
        match arguments:
            case ["build"]:
                for name, image in ensure().items():
                    print(f"{name}\t{image.reference}\t{image.archive}")
            case ["prepare"] if os.geteuid() != 0:
                print("[images] NOT ROOT: images cannot be built, their tests will be skipped", file=sys.stderr)
            case ["prepare"]:
                prepare()
            case _:
                sys.exit(__doc__)
    except ImageError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
