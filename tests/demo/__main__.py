"""`make demo`: starts everything, tells the story, checks it, ends everything. `--keep` keeps it until Control-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import aiohttp
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.live import Live

from tests.cluster.enter import inside, outer
from tests.cluster.processes import ClusterError
from tests.demo import acts, manifests, places
from tests.demo.places import Place
from tests.demo.story import Story
from tests.demo.view import View
from tests.demo.world import NotAsTold, following
from tests.e2e.prepare import prepare
from tests.orders.routers import router_pods
from tests.orders.sender import OrderSender, Slow

_ACCOUNTS = 1_000
_SLOW = Slow(share=0.05, milliseconds=80)
_RUNS_KEPT = 3
_ACTS = (acts.first_version, acts.good_version, acts.bad_version, acts.on_call, acts.settle_accounts)


async def _play(story: Story, folder: Path, where: str, *, live: bool, keep: bool) -> None:
    """The whole run. Raises what went wrong, after everything has been ended."""
    story.act(places.NODE if where == "node" else places.PROCESS)
    async with contextlib.AsyncExitStack() as stack:
        place = await stack.enter_async_context(places.node(folder) if where == "node" else places.process(folder))
        cluster = place.cluster
        story.figure("started", "cluster and operator ready", time.time() - story.began)
        platform = manifests.platform()
        manifests.write(folder / "manifests", "platform", *platform)
        await cluster.apply(*platform)
        await cluster.service_account_exists(manifests.NAMESPACE, "default")
        story.say("the operator is ready; the platform team's gate templates are applied")
        world = await stack.enter_async_context(following(cluster, manifests.NAMESPACE, manifests.ROLLOUT))
        find = router_pods(cluster, manifests.NAMESPACE, manifests.ROLLOUT)
        accounts = [f"ACC-{number:08}" for number in range(1, _ACCOUNTS + 1)]
        sender = await stack.enter_async_context(OrderSender(accounts, find=find, slow=_SLOW))
        stage = acts.Stage(place, world, sender, story)
        try:
            view = View(world, sender)
            story.picture = None if live else view
            with Live(view, console=story.console, transient=True) if live else contextlib.nullcontext():
                for act in _ACTS:
                    await act(stage)
        finally:
            story.sum_up()
            _tell_where(story, place)
        if keep:
            await _keep(story, place, sender)


def _tell_where(story: Story, place: Place) -> None:
    here = Path.cwd()
    folder = place.cluster.folder
    shown = folder.relative_to(here) if folder.is_relative_to(here) else folder
    story.console.print(f"\nevidence in {shown}", highlight=False, soft_wrap=True)
    for name, what in place.evidence.items():
        story.console.print(f"  {name:20} {what}", highlight=False)


async def _keep(story: Story, place: Place, sender: OrderSender) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    sender.start(rate=20)
    folder = place.cluster.folder
    words = (
        "\nkept until Control-C, with 20 orders a second. In another terminal, in this folder:\n"
        f"{place.enter}"
        f"\n  then, say:  kubectl get sro -A; kubectl -n {manifests.NAMESPACE} describe sro {manifests.ROLLOUT}"
        f"\n              kubectl -n {manifests.NAMESPACE} apply -f {folder}/manifests/momentum-1.0.0.yaml"
    )
    story.console.print(words, highlight=False, markup=False, soft_wrap=True)
    await stop.wait()


async def _until_interrupted(story: Story, folder: Path, where: str, *, live: bool, keep: bool) -> None:
    playing = asyncio.current_task()
    assert playing is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    await _play(story, folder, where, live=live, keep=keep)


def _folder(given: Path | None) -> Path:
    """A new folder for this run; of earlier ones only the latest stay."""
    if given is not None:
        return given.resolve()
    runs = Path(".demo")
    for old in sorted(runs.glob("run-*"))[: -_RUNS_KEPT + 1]:
        shutil.rmtree(old, ignore_errors=True)
    folder = runs / time.strftime("run-%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    return folder.resolve()


def main() -> int:
    """Exit code 0 when everything was as told, 1 when not, 130 after Control-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo")
    parser.add_argument("--cluster", choices=places.NAMES, default="process", help="where it is played")
    parser.add_argument("--keep", action="store_true", help="keep the cluster until Control-C")
    parser.add_argument("--dir", type=Path, help="where to keep the evidence (default: a new folder in .demo)")
    parser.add_argument("--svg", type=Path, help="also save what was told as a picture")
    options = parser.parse_args()
    if not inside():
        folder = _folder(options.dir)
        if options.cluster == "node":
            prepare("node", folder)
        command = [sys.executable, "-m", "tests.demo", *sys.argv[1:], "--dir", str(folder)]
        return outer(command, node=options.cluster == "node")
    width = 120 if options.svg or not sys.stdout.isatty() else None
    console = Console(
        record=options.svg is not None, width=width, highlight=False, force_terminal=bool(options.svg) or None
    )
    live = console.is_terminal and options.svg is None and os.environ.get("TERM") != "dumb"
    story = Story(console)
    try:
        asyncio.run(_until_interrupted(story, _folder(options.dir), options.cluster, live=live, keep=options.keep))
    except asyncio.CancelledError:
        console.print("ended by Control-C; nothing is left running")
        return 130
    except (NotAsTold, ClusterError, aiohttp.ClientError, OSError, TimeoutError, ExceptionGroup) as error:
        console.print(f"the story broke off: {_words(error)}", style="bold red", markup=False, soft_wrap=True)
        return 1
    if options.svg is not None:
        # Without the web font the format asks for: a picture must not fetch anything.
        code = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
        console.save_svg(str(options.svg), title="make demo", code_format=code)
    return 0 if story.ended_well else 1


def _words(error: BaseException) -> str:
    if isinstance(error, ExceptionGroup):
        return "; ".join(map(_words, error.exceptions))
    return f"{error}" or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
