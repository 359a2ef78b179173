"""Entry point of `kubectl-strategyrollout`, which kubectl finds as `kubectl strategyrollout`."""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import TYPE_CHECKING

from strategyrollout.cli.arguments import parse
from strategyrollout.cli.failure import FAILED, Failed
from strategyrollout.cli.saying import Saying

if TYPE_CHECKING:
    import argparse

_WHERE = {"retry": "nudge", "resume": "nudge", "promote": "nudge"}


def main() -> int:
    """Runs one command; returns its exit code."""
    arguments = parse()
    saying = Saying(as_json=arguments.output == "json")
    try:
        return asyncio.run(_run(arguments, saying))
    except Failed as error:
        saying.failed(error)
        return error.code
    except KeyboardInterrupt:
        return FAILED


async def _run(arguments: argparse.Namespace, saying: Saying) -> int:
    from strategyrollout.cli.asking import Asking, explained  # noqa: PLC0415  # a wrong word is told without waiting
    from strategyrollout.cli.kubeconfig import find  # noqa: PLC0415
    from strategyrollout.cluster.client import ApiError  # noqa: PLC0415
    from strategyrollout.ports import Unavailable  # noqa: PLC0415

    command = importlib.import_module(f"strategyrollout.cli.{_WHERE.get(arguments.command, arguments.command)}")
    where = find(arguments.kubeconfig, arguments.context, arguments.namespace)
    async with Asking(where, arguments.name) as asking:
        try:
            return int(await command.run(arguments, asking, saying))
        except (ApiError, Unavailable) as error:
            raise explained(error) from error


if __name__ == "__main__":
    sys.exit(main())
