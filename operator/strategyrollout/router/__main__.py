"""`python -m strategyrollout.router agent|proxy`: one image, two containers, each importing only its own half."""

import sys


def main() -> int:
    """Exit code of the container named on the command line."""
    match sys.argv[1:]:
        case ["agent"]:
            from strategyrollout.router.agent import main as run  # noqa: PLC0415
        case ["proxy"]:
            from strategyrollout.router.proxy import main as run  # noqa: PLC0415
        case _:
            sys.exit("usage: python -m strategyrollout.router agent|proxy")
    return run()


if __name__ == "__main__":
    sys.exit(main())
