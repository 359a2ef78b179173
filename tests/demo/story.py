"""Tells the story line by line, keeps its claims and its figures, and sums it up."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from tests.demo.world import NotAsTold


@dataclass(frozen=True)
class Claim:
    """Something the story says, and whether it was so."""

    text: str
    holds: bool
    detail: str


@dataclass(frozen=True)
class Figure:
    """A measured time, from a named start to a named end."""

    act: str
    start: str
    end: str
    seconds: float


class Story:
    """One run."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.began = time.time()
        self.act_now = ""
        self.picture: RenderableType | None = None
        """Printed where the story says `look`; none where it is on the screen all the time."""
        self.claims: list[Claim] = []
        self.figures: list[Figure] = []

    def act(self, title: str) -> None:
        """A new act begins."""
        self.act_now = title
        self.console.print()
        self._line(Text(title, style="bold"), mark="■", style="bold")

    def say(self, text: str, style: str = "") -> None:
        """Something happened."""
        self._line(Text(text, style=style), mark="·", style="dim")

    def claim(self, text: str, holds: bool, detail: str = "") -> None:
        """Something the story says. A claim that does not hold is kept; the story goes on and ends badly."""
        self.claims.append(Claim(text, holds, detail))
        words = Text(text, style="green" if holds else "bold red")
        if detail:
            words.append(f"  ({detail})", style="dim")
        self._line(words, mark="✓" if holds else "✗", style="green" if holds else "bold red")

    def insist(self, text: str, holds: bool, detail: str = "") -> None:
        """A claim without which the story cannot go on. Raises NotAsTold."""
        self.claim(text, holds, detail)
        if not holds:
            raise NotAsTold(f"not so: {text} ({detail})")

    def figure(self, start: str, end: str, seconds: float) -> None:
        """A measured time."""
        self.figures.append(Figure(self.act_now, start, end, seconds))
        self.say(f"{start} -> {end}: {milliseconds(seconds)}", style="cyan")

    def look(self) -> None:
        """A moment worth a picture."""
        if self.picture is not None:
            self.console.print(self.picture)

    def show(self, command: str, output: str) -> None:
        """What a person would have typed, and read."""
        self._line(Text(f"$ {command}", style="bold"), mark=" ", style="")
        for line in output.rstrip().splitlines():
            self.console.print(Text(f"           {line}"), soft_wrap=True)

    def _line(self, text: Text, mark: str, style: str) -> None:
        line = Text(f"{time.time() - self.began:6.1f} s ", style="dim")
        line.append(f"{mark} ", style=style)
        self.console.print(line.append_text(text), soft_wrap=True)

    @property
    def ended_well(self) -> bool:
        """Whether every claim held."""
        return bool(self.claims) and all(claim.holds for claim in self.claims)

    def sum_up(self) -> None:
        """The figures in a table, and the claims that did not hold."""
        table = Table(title="Figures", title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
        table.add_column("from", overflow="fold")
        table.add_column("to", overflow="fold")
        table.add_column("took", justify="right", no_wrap=True)
        act = ""
        for figure in self.figures:
            if figure.act != act:
                act = figure.act
                table.add_section()
                table.add_row(Text(act, style="dim"), "", "")
            table.add_row(figure.start, figure.end, Text(milliseconds(figure.seconds), style="cyan"))
        self.console.print()
        self.console.print(table)
        broken = [claim for claim in self.claims if not claim.holds]
        self.console.print()
        for claim in broken:
            self.console.print(Text(f"✗ {claim.text}  {claim.detail}", style="bold red"), soft_wrap=True)
        verdict = f"{len(self.claims) - len(broken)} of {len(self.claims)} claims held"
        self.console.print(Text(verdict, style="bold green" if self.ended_well else "bold red"))


def milliseconds(seconds: float) -> str:
    """A time in the unit that reads best."""
    return f"{seconds:.1f} s" if abs(seconds) >= 10 else f"{seconds * 1000:,.0f} ms"
