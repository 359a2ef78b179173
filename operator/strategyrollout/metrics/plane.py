"""The query plane: gates of all rollouts in, as few queries as possible out.

Why not a query a rollout: a thousand rollouts with two gates would ask Prometheus 400 times a second what two queries
answer for all of them. Gates with the same text, interval, age and source share one query; its answer is a vector,
handed out by the labels of its rows.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from strategyrollout.api.conditions import Reason
from strategyrollout.core.gates import Gate, Sample
from strategyrollout.core.observed import Problem
from strategyrollout.metrics.poll import Poll, Wake
from strategyrollout.metrics.prometheus import Prometheus
from strategyrollout.metrics.telemetry import DISTINCT
from strategyrollout.metrics.track import Track
from strategyrollout.ports import Key

_Name = tuple[str, str]  # revision, gate


@dataclass(slots=True)
class _Watched:
    revisions: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()
    tracks: dict[_Name, Track] = field(default_factory=dict)


class QueryPlane:
    """Implements `ports.Samples`. All methods belong to the event loop in which it was started."""

    def __init__(self, default_address: str | None, wake: Wake, now: Callable[[], int]) -> None:
        """`wake(key, urgent)` is called on every change of a verdict, urgently for the breach of a Stop gate, and must
        return at once. `now` is the time in milliseconds since 1970. Without a default address every gate needs one."""
        self._default_address = default_address
        self._wake = wake
        self._now = now
        self._prometheus: Prometheus | None = None
        self._polls: dict[str, Poll] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._watched: dict[Key, _Watched] = {}

    async def start(self) -> None:
        """Open for watching."""
        self._prometheus = Prometheus(self._default_address, self._now)

    async def close(self) -> None:
        """End all queries and connections."""
        for key in list(self._watched):
            self.watch(key, (), ())
        await asyncio.gather(*self._ending, return_exceptions=True)
        if self._prometheus is not None:
            await self._prometheus.close()
            self._prometheus = None

    def watch(self, key: Key, revisions: Sequence[str], gates: Sequence[Gate]) -> None:
        """See `ports.Samples`. A gate that changed in any way begins without samples."""
        wanted = _Watched(tuple(dict.fromkeys(revisions)), tuple(gates))
        known = self._watched.get(key) or _Watched()
        if (known.revisions, known.gates) == (wanted.revisions, wanted.gates):
            return
        before = known.tracks
        for revision in wanted.revisions:
            for gate in wanted.gates:
                track = before.get((revision, gate.name))
                kept = track is not None and track.gate == gate
                wanted.tracks[revision, gate.name] = track if track is not None and kept else Track(gate)
        # New ones first, so that a query that goes on being needed is not ended in between.
        for (revision, name), track in wanted.tracks.items():
            if before.get((revision, name)) is not track:
                self._poll(track).add(key, revision, track)
        for (revision, name), track in before.items():
            if wanted.tracks.get((revision, name)) is not track:
                self._leave(key, revision, track)
        if wanted.tracks:
            self._watched[key] = wanted
        else:
            self._watched.pop(key, None)

    def recent(self, key: Key, revision: str, gate: Gate) -> tuple[Sample, ...]:
        """See `ports.Samples`."""
        watched = self._watched.get(key)
        track = watched.tracks.get((revision, gate.name)) if watched else None
        return track.recent() if track is not None and track.gate == gate else ()

    def blind_since(self, gates: Sequence[Gate]) -> int | None:
        """See `ports.Samples`. A query not asked to the end yet is not blind."""
        polls = [self._polls.get(gate.query.key) for gate in gates]
        since = [None if poll is None else poll.blind_since for poll in polls]
        known = [at for at in since if at is not None]
        return max(known) if known and len(known) == len(since) else None

    def problems(self, gates: Sequence[Gate]) -> tuple[Problem, ...]:
        """Gates that cannot work until a person changes them, by their latest answer: PromQL, labels, address."""
        found = []
        for gate in gates:
            poll = self._polls.get(gate.query.key)
            if poll is not None and poll.invalid:
                path = f"spec.gates[{gate.name}]"
                found.append(Problem(Reason.INVALID_GATE, f"{path}: {poll.invalid}", path, lasting=False))
        return tuple(found)

    def _poll(self, track: Track) -> Poll:
        query = track.gate.query
        poll = self._polls.get(query.key)
        if poll is None:
            if self._prometheus is None:
                raise RuntimeError("start the query plane before watching gates")
            poll = self._polls[query.key] = Poll(query, self._prometheus, self._wake, self._now)
            DISTINCT.set(len(self._polls))
        return poll

    def _leave(self, key: Key, revision: str, track: Track) -> None:
        poll = self._polls[track.gate.query.key]
        poll.remove(key, revision, track)
        if not poll.listeners:
            del self._polls[track.gate.query.key]
            DISTINCT.set(len(self._polls))
            self._ending.add(poll.task)
            poll.task.add_done_callback(self._ending.discard)
            poll.task.cancel()
