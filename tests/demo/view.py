"""The live picture: who has which share, which pods run, what the gates say, how the orders fare."""

from __future__ import annotations

import time

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from tests.demo.world import Object, World
from tests.orders.sender import OrderSender

_BAR = 60
_COLOURS = {"Stable": "green", "Candidate": "yellow", "Reverted": "red", "Previous": "blue", "Retired": "dim"}
_VERDICTS = {
    "Pass": ("✓", "green"),
    "Breach": ("✗", "bold red"),
    "NoData": ("?", "yellow"),
    "Inconclusive": ("~", "yellow"),
}


class View:
    """Drawn anew for every frame from what is known at the moment."""

    def __init__(self, world: World, sender: OrderSender) -> None:
        self._world = world
        self._sender = sender

    def __rich__(self) -> RenderableType:
        """The panel."""
        world, status = self._world, self._world.status
        if not status:
            return Text("  starting", style="dim")
        rows = [self._traffic(), self._revisions(), self._gates(), self._orders()]
        title = f"{world.name}  [bold]{status.get('state', '')}[/bold]  {status.get('step', '')}"
        message = Text(str(status.get("message", "")), style="dim", overflow="ellipsis", no_wrap=True)
        return Panel(Group(*rows, message), title=title, title_align="left", border_style="dim")

    def _roles(self) -> list[Object]:
        return [r for r in self._world.status.get("revisions") or [] if r["role"] != "Retired"]

    def _traffic(self) -> Text:
        """The table as it is now: one cell for every share of the accounts, frozen ones grey."""
        line = Text("traffic  ")
        weights = self._world.weights
        for revision in self._roles():
            cells = round(_BAR * weights.get(revision["revision"], 0) / 10_000)
            least = 1 if weights.get(revision["revision"]) else 0
            line.append("█" * max(cells, least), style=_COLOURS[revision["role"]])
        line.append("░" * round(_BAR * self._world.frozen / 10_000), style="dim")
        if self._world.frozen:
            line.append(f"  {self._world.frozen / 100:g} % moving", style="dim")
        return line

    def _revisions(self) -> Text:
        line = Text("serving  ")
        weights = self._world.weights
        for revision in self._roles():
            share = weights.get(revision["revision"], 0) / 100
            words = f"{revision['version']} {revision['role'].lower()} {share:g} %"
            line.append(f"{words}, {revision.get('ready', 0)}/{revision.get('replicas', 0)} pods   ")
            line.stylize(_COLOURS[revision["role"]], len(line) - len(words) - 14)
        return line

    def _gates(self) -> Text:
        line = Text("gates    ")
        for gate in self._world.status.get("gates") or []:
            mark, style = _VERDICTS[gate["verdict"]]
            line.append(f"{mark} {gate['name']} ", style=style)
            line.append(f"{_short(gate.get('value'))} (limit {gate.get('limit', '')})   ", style="dim")
        return line

    def _orders(self) -> Text:
        since = time.time() - 1.0
        orders = self._sender.orders
        latest = []
        for order in reversed(orders):
            if order.answered_at < since:
                break
            latest.append(order)
        lost = sum(order.lost for order in latest)
        moving = sum(1 for order in latest if any(refusal.status == 423 for refusal in order.refusals))
        rejected = sum(order.outcome == "rejected" for order in latest)
        words = f"orders   {len(latest)}/s, {rejected} rejected, {moving} had to wait for a move, {lost} lost"
        return Text(words, style="bold red" if lost else "")


def _short(value: object) -> str:
    try:
        return f"{float(str(value)):.4g}"
    except ValueError:
        return "no sample"
