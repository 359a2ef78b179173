"""What the strategies themselves wrote down about every order they took: the judge of who was served by whom."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from strategyrollout.api.assignment import AssignmentSpec
from strategyrollout.core.routing import bucket_of
from tests.demo.world import Seen
from tests.history import History, Violation


@dataclass(frozen=True, slots=True)
class Taken:
    """One order at a strategy; seconds since 1970 by the machine's only clock."""

    account: str
    revision: str
    started: float
    ended: float
    outcome: str


def taken(log: Path) -> list[Taken]:
    """Every order that reached a strategy."""
    if not log.exists():
        return []
    lines = (json.loads(line) for line in log.read_text().splitlines())
    return [Taken(*(line[name] for name in ("account", "revision", "started", "ended", "outcome"))) for line in lines]


def violations(versions: Iterable[Seen], orders: Iterable[Taken], shares: Iterable[int]) -> list[Violation]:
    """Every broken rule, over all versions of the assignment and all orders; `shares` are the steps in basis points."""
    history = History(tolerance=1)
    history.declare(shares)
    salt = ""
    for seen in versions:
        spec = AssignmentSpec.model_validate(seen.body["spec"])
        salt = spec.salt
        history.record_table(seen.at, spec)
    for order in orders:
        bucket = bucket_of(salt, order.account)
        started, ended = int(order.started * 1000), int(order.ended * 1000)
        history.record_order(order.account, bucket, order.revision, started, ended, where="strategy")
    return history.violations()
