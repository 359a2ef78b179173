"""What is remembered of one gate about one revision, and when a new sample is worth waking the loop.

Thousands of these exist and most hear "still fine" for hours, so a track keeps just what judging can tell apart: the
latest `of` usable samples, the latest failed query, the latest sample. A test proves that this changes no verdict.
"""

from collections import deque

from strategyrollout.core.gates import Gate, Sample, Verdict, judge, weigh

_REPEAT_AFTER = 250  # ms; a standing breach is said again, for what it counts for may have begun in the meantime


class Track:
    """Samples of one gate about one revision."""

    __slots__ = ("_blind", "_latest", "_said_at", "_usable", "gate", "verdict")

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.verdict: Verdict | None = None
        """From all samples; None before the first."""
        self._usable: deque[Sample] = deque(maxlen=gate.of)
        self._blind: Sample | None = None
        self._latest: Sample | None = None
        self._said_at = 0

    def recent(self) -> tuple[Sample, ...]:
        """What is remembered, oldest first."""
        samples = list(self._usable)
        newest = samples[-1] if samples else None
        for sample in (self._blind, self._latest):
            if sample is not None and sample is not newest:
                samples.append(sample)
                newest = sample
        return tuple(samples)

    def add(self, sample: Sample) -> bool | None:
        """Remember it. None: nobody needs to know. Otherwise whether it is urgent."""
        self._latest = sample
        verdict = weigh(self.gate, sample)[0]
        if verdict != "NoData":
            self._usable.append(sample)
            self._blind = None
        elif sample.blind:
            self._blind = sample
        if verdict == "Breach" or (verdict == "NoData" and self._usable):
            verdict = judge(self.gate, self.recent(), sample.at).verdict
        changed = verdict != self.verdict
        standing = verdict == "Breach" and self.gate.severity == "Stop"
        if not changed and not (standing and sample.at - self._said_at >= _REPEAT_AFTER):
            return None
        self.verdict = verdict
        self._said_at = sample.at
        return changed and standing
