"""Every decision about traffic with everything it was made from, one JSON line each, so that it can be made again.

Written by a task of its own in batches: a full or slow disk must never hold up a revert. What could not be kept is
counted, never waited for. `replay` puts a line through the same code that decided then.
"""

import asyncio
import json
import logging
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from strategyrollout.core.decide import decide
from strategyrollout.core.decision import Decision
from strategyrollout.core.observed import Observed

_log = logging.getLogger(__name__)

FORMAT = 1
_QUEUE = 1_000
_BATCH = 100
# The types are tuples because a dataclass at the top would not take the configuration: NaN is a value we must keep.
_EXACT = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="strings")
_Entry = tuple[Observed, Decision, Mapping[str, Any]]
_OBSERVED: TypeAdapter[tuple[Observed]] = TypeAdapter(tuple[Observed], config=_EXACT)
_DECISION: TypeAdapter[tuple[Decision]] = TypeAdapter(tuple[Decision], config=_EXACT)


class EvidenceFile:
    """`ports.Evidence` as a file that is cut at `max_bytes`; `keep` older ones stay beside it as `.1`, `.2`, ..."""

    def __init__(self, path: Path, *, max_bytes: int = 64 * 1024 * 1024, keep: int = 9) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._queue: asyncio.Queue[_Entry] = asyncio.Queue(_QUEUE)
        self.counted: Counter[str] = Counter()
        """Lines by what became of them: `kept`, `full` (came too fast), `failed` (could not be written)."""

    def decided(self, observed: Observed, decision: Decision, written: Mapping[str, Any]) -> None:
        """Returns at once and never raises. The arguments are shared and must not be changed afterwards."""
        self._put((observed, decision, {"written": written}))

    def adopted(self, observed: Observed, decision: Decision, found: Mapping[str, Any]) -> None:
        """The same for what somebody else wrote."""
        self._put((observed, decision, {"adopted": found}))

    def _put(self, entry: _Entry) -> None:
        try:
            self._queue.put_nowait(entry)
        except asyncio.QueueFull:
            self.counted["full"] += 1

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            batch = [await self._queue.get()]
            while len(batch) < _BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            kept = 0
            try:
                kept = await asyncio.to_thread(self._append, batch)
            except Exception as error:  # nothing about evidence may end the task that keeps it
                _log.exception("evidence of %d decisions is lost: %s", len(batch), error)
            finally:
                self.counted["kept"] += kept
                self.counted["failed"] += len(batch) - kept
                for _ in batch:
                    self._queue.task_done()

    async def flush(self) -> None:
        """Returns when everything decided so far is on disk or counted as failed; needs `run` to be running."""
        await self._queue.join()

    def _append(self, batch: list[_Entry]) -> int:
        """Returns how many lines are safely on disk."""
        lines = []
        for entry in batch:
            try:
                lines.append(line(*entry))
            except (TypeError, ValueError):
                continue
        data = "".join(lines).encode()
        try:
            self._rotate(len(data))
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            return 0
        return len(lines)

    def _rotate(self, coming: int) -> None:
        if not self._path.exists() or self._path.stat().st_size + coming <= self._max_bytes:
            return
        for number in range(self._keep - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def line(observed: Observed, decision: Decision, table: Mapping[str, Any]) -> str:
    """One decision as JSON, newline included. `table`: what was `written` by it, or was found and `adopted`."""
    whole = {
        "format": FORMAT,
        "at": observed.now,
        "rollout": f"{observed.namespace}/{observed.name}",
        "uid": observed.uid,
        "observed": _OBSERVED.dump_python((observed,), mode="json", by_alias=True)[0],
        "decision": _DECISION.dump_python((decision,), mode="json", by_alias=True)[0],
        **table,
    }
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"


def recorded(text: str) -> tuple[Observed, Decision]:
    """What was seen and what was decided. Raises ValueError when the line is not one of ours."""
    whole = json.loads(text)
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise ValueError(f"not a line of evidence in format {FORMAT}")
    (observed,) = _OBSERVED.validate_python([whole["observed"]])
    (decision,) = _DECISION.validate_python([whole["decision"]])
    return observed, decision


def replay(text: str) -> Decision:
    """Decides again, with today's code, from what was seen then."""
    observed, _ = recorded(text)
    return decide(observed)
