"""What is still in flight where a frozen range was served: when it is surely nothing, and what lasted too long.

"Nothing" is a proof or it is not said: a request that was cut short counts as going on at the strategy for as long
as a request may last, because the strategy may not have noticed.
"""

from dataclasses import dataclass

_BACKEND = "  backend="


@dataclass(frozen=True)
class Sample:
    """One backend at an instant. `broken` counts requests that ended without their answer, ever."""

    current: int
    broken: int


def samples_in(stat: str) -> dict[str, Sample]:
    """Backend -> sample, from the proxy's answer to `show stat` for backends."""
    lines = [line.split(",") for line in stat.splitlines() if line]
    if not lines:
        return {}
    columns = {name.lstrip("# "): i for i, name in enumerate(lines[0])}
    broken = [columns[name] for name in ("cli_abrt", "srv_abrt", "eresp")]
    return {
        line[columns["pxname"]]: Sample(
            current=int(line[columns["scur"]] or 0) + int(line[columns["qcur"]] or 0),
            broken=sum(int(line[i] or 0) for i in broken),
        )
        for line in lines[1:]
    }


def requests_so_far(info: str) -> int:
    """Number that the proxy's next request will get, from `show info`; requests are numbered as they begin."""
    return int(next(line.split(":")[1] for line in info.splitlines() if line.startswith("CumReq:")))


def begun_before(sessions: str, backends: frozenset[str], number: int) -> list[str]:
    """Streams to these backends whose request has a lower number, from `show sess all`.

    By number and not by the date shown there: on a kept connection that is when the request before it ended.
    """
    found: list[str] = []
    stream, own = "", 0
    for line in sessions.splitlines():
        if line.startswith("0x") and ": [" in line:
            stream = line.partition(":")[0]
            own = int(line.partition(" id=")[2].split(" ", 1)[0])
        elif line.startswith(_BACKEND) and own < number:
            found += [stream] if line.removeprefix(_BACKEND).split(" ", 1)[0] in backends else []
    return found


class Flight:
    """Watches the backends that ranges were taken from. Times in seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._left: dict[str, float] = {}
        self._since: float | None = None
        self._last: dict[str, Sample] = {}
        self._broken_at: dict[str, float] = {}

    @property
    def over(self) -> bool:
        """Whether nothing is in flight of what was served before the table in force."""
        return not self._left

    def forget(self) -> None:
        """The proxy was restarted; what it had in flight goes on at the strategies, unseen."""
        self._since = None
        self._last = {}

    def leave(self, backends: frozenset[str], now: float) -> None:
        """A table came into force that lets nothing of some ranges to these backends any more."""
        self._left |= dict.fromkeys(backends, now)

    def observe(self, samples: dict[str, Sample], now: float, limit: float) -> None:
        """Take in a sample that was taken after the table came into force."""
        if self._since is None:
            self._since = now
        for name, sample in samples.items():
            last = self._last.get(name)
            if last and sample.broken != last.broken:
                self._broken_at[name] = now
        self._last = samples
        self._left = {name: at for name, at in self._left.items() if not self._ended(name, at, now, limit)}

    def _ended(self, name: str, left_at: float, now: float, limit: float) -> bool:
        if now - left_at >= limit:  # by then it was cut
            return True
        sample = self._last.get(name)
        unbroken_since = max(now if self._since is None else self._since, self._broken_at.get(name, float("-inf")))
        return sample is not None and sample.current == 0 and now - unbroken_since >= limit
