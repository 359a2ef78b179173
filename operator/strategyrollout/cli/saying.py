"""What a command says: sentences as they become true for people, one JSON object at the end for programs."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from strategyrollout.cli.failure import Failed


class Saying:
    """`as_json`: the result alone goes to standard output, everything else to standard error."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._last = ""

    def step(self, words: str) -> None:
        """Something happened; said once, with the time."""
        if words and words != self._last:
            self._last = words
            print(f"{datetime.now(UTC):%H:%M:%S} {words}", file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def note(self, words: str) -> None:
        """Something to know beside the result."""
        print(words, file=sys.stderr, flush=True)

    def result(self, sentence: str, facts: dict[str, Any]) -> None:
        """What came of it."""
        print(json.dumps(facts, indent=2, ensure_ascii=False) if self.as_json else sentence, flush=True)

    def failed(self, error: Failed) -> None:
        """Why nothing came of it. Programs get the same as one JSON object."""
        if self.as_json:
            print(json.dumps(error.to_json(), indent=2, ensure_ascii=False), flush=True)
            return
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with columns as wide as they must be; none without rows."""
    lines = [tuple(row) for row in rows]
    if not lines:
        return []
    widths = [max(len(line[column]) for line in (tuple(head), *lines)) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (tuple(head), *lines)
    ]
