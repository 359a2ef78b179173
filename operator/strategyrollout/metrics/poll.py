"""Asks one query again and again, for everybody who shares it.

Each query has a task of its own: that one hangs, fails or answers nonsense is noticed by nobody else.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping

from strategyrollout.core.gates import Query, Sample
from strategyrollout.metrics.answer import Answer, Subject
from strategyrollout.metrics.prometheus import Prometheus
from strategyrollout.metrics.telemetry import QUERIES, QUERY_SECONDS
from strategyrollout.metrics.track import Track
from strategyrollout.ports import Key

_log = logging.getLogger(__name__)

Wake = Callable[[Key, bool], None]

_LONGEST_PAUSE = 5_000  # ms between tries of a failing query, unless its interval is longer


class Poll:
    """One query, its listeners and its task."""

    def __init__(self, query: Query, prometheus: Prometheus, wake: Wake, now: Callable[[], int]) -> None:
        self.query = query
        self.blind_since: int | None = None
        """When the first of the questions that failed in a row was asked; None while it is answered."""
        self.invalid = ""
        """What a person has to change, from the latest answer."""
        self._prometheus = prometheus
        self._wake = wake
        self._now = now
        self._listeners: dict[Subject, list[tuple[Key, Track]]] = {}
        self.task = asyncio.get_running_loop().create_task(self._run(), name=f"query {query.text[:40]!r}")

    @property
    def listeners(self) -> Mapping[Subject, list[tuple[Key, Track]]]:
        """Who is told, by revision."""
        return self._listeners

    def add(self, key: Key, revision: str, track: Track) -> None:
        """Tell this track from the next answer on."""
        self._listeners.setdefault((key.namespace, key.name, revision), []).append((key, track))

    def remove(self, key: Key, revision: str, track: Track) -> None:
        """Tell it no more."""
        subject = (key.namespace, key.name, revision)
        left = [(k, t) for k, t in self._listeners[subject] if t is not track]
        if left:
            self._listeners[subject] = left
        else:
            del self._listeners[subject]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        tick = loop.time()
        failures = 0
        while True:
            asked_at = self._now()
            answer = await self._ask(failed_before=failures > 0)
            try:
                self._deliver(answer, asked_at)
            except Exception:
                _log.exception("the answer to a query could not be handed on: %s", self.query.text)
            failed = answer.blind or answer.invalid
            failures = failures + 1 if failed else 0
            pause = pause_after(self.query.interval, failures) / 1_000
            # The next tick of the same clock: a late answer shifts nothing, and ticks missed meanwhile are not made up.
            tick += pause * max(1, math.ceil((loop.time() - tick) / pause))
            await asyncio.sleep(tick - loop.time())

    async def _ask(self, *, failed_before: bool) -> Answer:
        try:
            with QUERY_SECONDS.time():
                answer = await self._prometheus.ask(self.query, self._listeners, failed_before=failed_before)
        except Exception as error:
            _log.exception("a query could not be asked: %s", self.query.text)
            answer = Answer(self._now(), problem=f"the query could not be asked: {error!r}", blind=True)
        QUERIES.labels("blind" if answer.blind else "invalid" if answer.invalid else "answered").inc()
        return answer

    def _deliver(self, answer: Answer, asked_at: int) -> None:
        if not answer.blind:
            self.blind_since = None
        elif self.blind_since is None:
            self.blind_since = asked_at
        self.invalid = answer.problem if answer.invalid else ""
        nothing = Sample(answer.at, problem=answer.problem, blind=answer.blind)
        awake: dict[Key, bool] = {}
        for subject, listeners in self._listeners.items():
            values = answer.values.get(subject)
            sample = Sample(answer.at, values) if values else nothing
            for key, track in listeners:
                urgent = track.add(sample)
                if urgent is not None:
                    awake[key] = urgent or awake.get(key, False)
        for key, urgent in sorted(awake.items(), key=lambda item: not item[1]):
            self._wake(key, urgent)


def pause_after(interval: int, failures: int) -> int:
    """Milliseconds from one question to the next: doubled with each failure in a row, and soon again in any case."""
    return min(interval << min(failures, 16), max(interval, _LONGEST_PAUSE))
