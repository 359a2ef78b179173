"""The story: a good version, a better one, a bad one, and one that on call takes back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tests.cluster.processes import until
from tests.demo import evidence, manifests, probe
from tests.demo.places import Place
from tests.demo.story import Story
from tests.demo.world import Object, World
from tests.orders.sender import OrderSender

_MOMENT = 0.15
_SOME_ORDERS = 0.6
ORDERS_A_SECOND = 400


@dataclass
class Stage:
    """Everything the acts play with."""

    place: Place
    world: World
    sender: OrderSender
    story: Story

    async def release(self, version: str, *, bake: str = "2s") -> float:
        """Apply a version; returns when."""
        image = await self.place.image_of(version)
        item = manifests.rollout(version, self.place.template(image), bake=bake)
        manifests.write(self.place.cluster.folder / "manifests", f"momentum-{version}", item)
        at = time.time()
        await self.place.cluster.apply(item)
        self.story.say(f"applied version {version}, {image.partition('@')[2][:19]}…")
        return at

    async def show_columns(self) -> None:
        """What `kubectl get` says now."""
        command = ("get", "sro", "-n", self.world.namespace)
        self.story.show(f"kubectl {' '.join(command)}", await self.place.cluster.kubectl(*command))

    async def everyone_on(self, version: str) -> None:
        """Prove it by one order for every account."""
        revision = self.world.revision_of(version)
        asked = time.time()
        answers = await self.sender.ask_everyone()
        found = Counter(self.world.version_of(r) if r else "nobody" for r in answers.values())
        unserved = [order for order in self.sender.report(since=asked).orders if order.revision is None]
        why = ", ".join(sorted({f"{order.status} {order.problem}".strip() for order in unserved}))
        elsewhere = ", ".join(f"{count} by {name}" for name, count in found.items() if name != version)
        text = f"one order for each of {len(answers):,} accounts: all are served by {version}"
        self.story.claim(text, set(answers.values()) == {revision}, f"{elsewhere}: {why}" if why else elsewhere)


async def first_version(stage: Stage) -> None:
    """1.0.0 is new and there is nothing to compare it with: it gets everything as soon as it is ready."""
    stage.story.act("1.0.0 is the first version: it serves as soon as it is ready")
    applied = await stage.release("1.0.0")
    world = stage.world
    await world.until("1.0.0 serves all accounts", lambda: world.serves_all(world.revision_of("1.0.0")), 60)

    async def routed() -> bool:
        return await stage.sender.look() > 0

    await until("a router is ready", routed, 30)
    stage.story.figure("1.0.0 applied", "serving through the routers", time.time() - applied)
    stage.sender.start(rate=ORDERS_A_SECOND)
    stage.story.say(f"{ORDERS_A_SECOND} orders a second from {len(stage.sender.accounts):,} accounts from now on")
    await stage.everyone_on("1.0.0")


async def good_version(stage: Stage) -> None:
    """1.1.0 passes its gates at every step."""
    stage.story.act("1.1.0 is good: 1 %, 10 %, 50 %, 100 %, and a bake")
    applied = await stage.release("1.1.0")
    world = stage.world
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_tell_steps(stage, "1.1.0"))
        tasks.create_task(world.until("1.1.0 is promoted", lambda: _is(world, "1.1.0", "Promoted"), 90))
    steps = world.steps(world.revision_of("1.1.0") or "")
    shown = ", ".join(f"{share:g} %" for share in steps)
    stage.story.claim("every step was taken, in order, none twice", steps == [1.0, 10.0, 50.0, 100.0], shown)
    stage.story.figure("1.1.0 applied", "1.1.0 promoted", time.time() - applied)
    await stage.everyone_on("1.1.0")


async def bad_version(stage: Stage) -> None:
    """1.2.0 begins to reject orders at 10 %; a gate takes it back."""
    story, world = stage.story, stage.world
    story.act("1.2.0 is bad: at 10 % it begins to reject orders")
    await stage.release("1.2.0")
    await world.until("1.2.0 has 10 %", lambda: world.steps(world.revision_of("1.2.0") or "")[-1:] == [10.0], 60)
    revision = world.revision_of("1.2.0") or ""
    story.say("1.2.0 has 10 % of the accounts")
    await asyncio.sleep(_SOME_ORDERS)
    story.look()
    fault = time.time() + 0.05
    await asyncio.gather(*(probe.misbehave(address, "rejects", fault) for address in world.addresses(revision)))
    story.say("fault injected: its risk check now rejects 6 of 10 orders", style="red")
    readable = await asyncio.wait_for(probe.first_readable(stage.place.prometheus, revision), 15)
    await world.until("the revert is done", lambda: _is(world, "1.2.0", "Reverted"), 30)
    revert = world.status["lastRevert"]
    story.say(f"{world.status['message']}", style="yellow")
    took = await _taken_by(stage, revision)
    last = max(order.started for order in took)
    story.figure("fault injected", "last order the candidate accepted", last - fault)
    story.figure("fault injected", "sample readable in Prometheus", readable - fault)
    sampled = {"sample readable in Prometheus": readable, "sample read by the operator": _at(revert["sampledAt"])}
    _revert_figures(story, revert, sampled)
    rejected = sum(order.outcome == "rejected" for order in took)
    exposed = len({order.account for order in took})
    story.say(f"1.2.0 took {len(took)} orders of {exposed} accounts, {rejected} of them were rejected")
    story.look()
    story.claim("it was the reject rate, at 10 %", revert["weight"] == "10%" and "reject-rate" in revert["message"])
    story.claim("no order reached 1.2.0 after it was reported as stopped", last <= _at(revert["stoppedAt"]) + 0.001)
    await stage.everyone_on("1.1.0")
    await stage.show_columns()


async def on_call(stage: Stage) -> None:
    """1.3.0 passes all gates; a person sees what no gate sees, and goes back from the bake."""
    story, world = stage.story, stage.world
    story.act("1.3.0 passes its gates and gets 100 %; in the bake, on call takes it back")
    await stage.release("1.3.0", bake="10m")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_tell_steps(stage, "1.3.0"))
        tasks.create_task(world.until("1.3.0 bakes at 100 %", lambda: _is(world, "1.3.0", "Baking"), 90))
    await stage.everyone_on("1.3.0")
    item = manifests.rollback("fills diverge from the broker's since 14:02")
    manifests.write(stage.place.cluster.folder / "manifests", "rollback", item)
    asked = time.time()
    await stage.place.cluster.apply(item)
    name = item["metadata"]["name"]
    story.say(f'on call: Rollback {name}, "{item["spec"]["reason"]}"', style="yellow")
    await world.until("the rollback succeeded", lambda: world.outcome(name) == "Succeeded", 30)
    outcome = world.rollbacks[name]["status"]
    await world.until("the rollout says so", lambda: _is(world, "1.3.0", "RolledBack"), 10)
    story.say(str(world.status["message"]), style="yellow")
    took = await _taken_by(stage, world.revision_of("1.3.0") or "")
    last = max(order.started for order in took)
    story.figure("kubectl started, to create the Rollback", "last order the candidate accepted", last - asked)
    _revert_figures(story, outcome, {"kubectl started, to create the Rollback": asked})
    story.claim("no order reached 1.3.0 after it was reported as stopped", last <= _at(outcome["stoppedAt"]) + 0.001)
    await stage.everyone_on("1.1.0")
    await stage.show_columns()


async def settle_accounts(stage: Stage) -> None:
    """The last orders are answered; what was promised about all of them is checked."""
    story = stage.story
    story.act("Every order is accounted for")
    report = await stage.sender.stop()
    moving, nobody = report.refusals[423], report.refusals[503]
    median, p99 = report.seconds(0.5) * 1000, report.seconds(0.99) * 1000
    story.say(f"answered at the first try in {median:.1f} ms (median), {p99:.1f} ms (p99); 1 in 20 takes 80 ms")
    story.say(f"{moving} times an order met a move and was sent again (423), {nobody} times nobody was there (503)")
    lost = [f"{o.account} {o.status} {o.problem}" for o in report.lost[:3]]
    story.claim(f"0 of {len(report.orders):,} orders were lost", not report.lost, "; ".join(lost))
    story.claim("no order was refused for good", not report.gave_up)
    took = await asyncio.to_thread(evidence.taken, stage.place.order_log)
    broken = await asyncio.to_thread(evidence.violations, stage.world.history, took, (100, 1_000, 5_000, 10_000))
    judged = f"{len(stage.world.history)} versions of the assignment and {len(took):,} orders at the strategies"
    story.claim("no account was served by two versions at once, and no other rule was broken", not broken, judged)
    for violation in broken[:5]:
        story.say(str(violation), style="red")


async def _taken_by(stage: Stage, revision: str) -> list[evidence.Taken]:
    """Orders of one revision, after waiting long enough for a late one to show."""
    await asyncio.sleep(2 * _MOMENT)
    return [
        order for order in await asyncio.to_thread(evidence.taken, stage.place.order_log) if order.revision == revision
    ]


def _is(world: World, version: str, state: str) -> bool:
    return world.observed(version) and world.status.get("state") == state


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _revert_figures(story: Story, revert: Object, starts: Mapping[str, float]) -> None:
    """`revert` is the report of a revert: of the rollout, or of the Rollback that asked for it."""
    stopped, served = _at(revert["stoppedAt"]), _at(revert["servedAt"])
    for name, start in starts.items():
        story.figure(name, "candidate stopped at every router", stopped - start)
    story.figure("decided", "candidate stopped at every router", stopped - _at(revert["decidedAt"]))
    story.figure("candidate stopped at every router", "target serving all accounts", served - stopped)


async def _tell_steps(stage: Stage, version: str) -> None:
    """Say each share the version gets, until it has all."""
    world, told = stage.world, 0
    while True:
        steps = world.steps(world.revision_of(version) or "")
        for share in steps[told:]:
            stage.story.say(f"{version} has {share:g} % of the accounts")
        told = len(steps)
        if steps[-1:] == [100.0]:
            return
        await asyncio.sleep(_MOMENT)
