"""The live picture: who has which share, which pods run, what the gates say, how the orders fare."""

from __future__ import annotations

import time

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.panel import Panel
from rich.text import Text

from tests.demo.world import Object, World
from tests.orders.sender import OrderSender

_COLOURS = {"Stable": "green", "Candidate": "yellow", "Reverted": "red", "Previous": "blue"}
_CELLS = {"Stable": "█", "Candidate": "▓"}
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

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The panel."""
        world, status = self._world, self._world.status
        if not status:
            return
        message = Text(str(status.get("message", "")), style="dim")
        rows = [self._traffic(options.max_width - 16), self._revisions(), self._gates(), self._orders(), message]
        for row in rows:
            row.no_wrap, row.overflow = True, "ellipsis"
        title = f"{world.name}  [bold]{status.get('state', '')}[/bold]  step {status.get('step') or '-'}"
        yield Panel(Group(*rows), title=title, title_align="left", border_style="dim")

    def _shown(self) -> list[Object]:
        """Revisions that matter now."""
        weights = self._world.weights
        known = self._world.status.get("revisions") or []
        wanted = ("Stable", "Candidate", "Reverted")
        return [r for r in known if r["role"] in wanted or weights.get(r["revision"])]

    def _traffic(self, width: int) -> Text:
        """The table as it is now: a bar for all accounts, one pattern a revision, the part that is moving faint."""
        line = Text("traffic  ")
        weights = self._world.weights
        for revision in self._shown():
            buckets = weights.get(revision["revision"], 0)
            cells = max(round(width * buckets / 10_000), 1) if buckets else 0
            line.append(_CELLS.get(revision["role"], "▒") * cells, style=_COLOURS.get(revision["role"], ""))
        line.append("░" * round(width * self._world.frozen / 10_000), style="dim")
        return line

    def _revisions(self) -> Text:
        line = Text("serving  ")
        weights = self._world.weights
        for revision in self._shown():
            share = weights.get(revision["revision"], 0) / 100
            words = f"{revision['version']} {revision['role'].lower()} {share:g} %"
            line.append(words, style=_COLOURS.get(revision["role"], ""))
            line.append(f", {revision.get('ready', 0)}/{revision.get('replicas', 0)} pods   ", style="dim")
        if self._world.frozen:
            line.append(f"{self._world.frozen / 100:g} % moving", style="dim")
        return line

    def _gates(self) -> Text:
        line = Text("gates    ")
        gates = self._world.status.get("gates") or []
        for gate in gates:
            mark, style = _VERDICTS[gate["verdict"]]
            line.append(f"{mark} {gate['name']} ", style=style)
            line.append(f"{_short(gate.get('value'))} {gate.get('limit') or ''}   ", style="dim")
        if not gates:
            line.append("none in force", style="dim")
        return line

    def _orders(self) -> Text:
        since = time.time() - 1.0
        latest = []
        for order in reversed(self._sender.orders):
            if order.answered_at < since:
                break
            latest.append(order)
        lost = sum(order.lost for order in latest)
        moving = sum(1 for order in latest if any(refusal.status == 423 for refusal in order.refusals))
        rejected = sum(order.outcome == "rejected" for order in latest)
        words = f"orders   {len(latest)}/s, {rejected} rejected, {moving} met a move and waited, {lost} lost"
        return Text(words, style="bold red" if lost else "")


def _short(value: object) -> str:
    try:
        return f"{float(str(value)):.4g}"
    except ValueError:
        return "no sample"
