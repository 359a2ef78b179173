"""Every knob of the operator process, read once from its environment; docs/settings.md explains each."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from strategyrollout.api.scalars import format_duration, parse_duration
from strategyrollout.core.leadership import Timing

PREFIX = "STRATEGYROLLOUT_"
# Kubernetes puts variables of this shape into pods for a Service that happens to be called strategyrollout-...
_SERVICE_LINK = re.compile(r"(^|.*_)(SERVICE_(HOST|PORT.*)|PORT(_[0-9]+_(TCP|UDP|SCTP).*)?)$")

_DNS = r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?"
_LEASE = re.compile(rf"{_DNS}/{_DNS}")
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_LABEL = rf"(?:{_DNS}/)?{_WORD}"
_REQUIREMENT = (
    rf"!?{_LABEL}|{_LABEL}\s*(?:==?|!=)\s*(?:{_WORD})?|{_LABEL}\s+(?:not)?in\s*\(\s*{_WORD}(?:\s*,\s*{_WORD})*\s*\)"
)
_SELECTOR = re.compile(rf"\s*(?:{_REQUIREMENT})(?:\s*,\s*(?:{_REQUIREMENT}))*\s*")


class BadSetting(Exception):
    """A variable that cannot be understood; the message names it and says what it should be."""


@dataclass(frozen=True)
class Settings:
    """Times are in seconds."""

    namespaces: tuple[str, ...] = ()
    selector: str = ""
    leader_lease: tuple[str, str] | None = None
    """Namespace and name; None: there is nobody to elect."""
    election: Timing = field(default_factory=Timing)
    pod_name: str = ""
    prometheus: str | None = None
    router_image: str | None = None
    http_address: str = "0.0.0.0"
    http_port: int = 8080
    evidence: Path | None = None
    workers: int = 64
    resync: float = 120.0
    check: float = 5.0
    pass_timeout: float = 30.0
    live_numbers: float = 30.0
    log_level: str = "INFO"
    log_format: str = "json"


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from `STRATEGYROLLOUT_*`. Raises `BadSetting`, also for a variable that nobody would read."""
    given = os.environ if environment is None else environment
    names = {name.removeprefix(PREFIX): value for name, value in given.items() if name.startswith(PREFIX)}
    read = _Reader(names)
    made = Settings(
        namespaces=tuple(n.strip() for n in read.text("NAMESPACES", "").split(",") if n.strip()),
        selector=read.fits("SELECTOR", _SELECTOR, "a label selector such as team=alpha,tier in (gold, silver)"),
        leader_lease=_lease(read.fits("LEADER_LEASE", _LEASE, "NAMESPACE/NAME of a Lease")),
        election=_timing(read),
        pod_name=read.text("POD_NAME", ""),
        prometheus=read.text("PROMETHEUS", "") or None,
        router_image=read.text("ROUTER_IMAGE", "") or None,
        http_address=read.text("HTTP_ADDRESS", Settings.http_address),
        http_port=read.number("HTTP_PORT", Settings.http_port),
        evidence=Path(where) if (where := read.text("EVIDENCE", "")) else None,
        workers=read.number("WORKERS", Settings.workers, least=1),
        resync=read.seconds("RESYNC", Settings.resync),
        check=read.seconds("CHECK", Settings.check),
        pass_timeout=read.seconds("PASS_TIMEOUT", Settings.pass_timeout),
        live_numbers=read.seconds("LIVE_NUMBERS", Settings.live_numbers),
        log_level=read.one_of("LOG_LEVEL", Settings.log_level, ("DEBUG", "INFO", "WARNING", "ERROR")),
        log_format=read.one_of("LOG_FORMAT", Settings.log_format, ("json", "text")),
    )
    unknown = sorted(name for name in read.unread if not _SERVICE_LINK.match(name))
    if unknown:
        raise BadSetting(f"{PREFIX}{unknown[0]} is not a setting; see docs/settings.md")
    return made


def _lease(text: str) -> tuple[str, str] | None:
    namespace, _, name = text.partition("/")
    return (namespace, name) if text else None


def _timing(read: "_Reader") -> Timing:
    made = Timing(
        duration=read.seconds("LEASE_DURATION", Timing.duration),
        renew_deadline=read.seconds("RENEW_DEADLINE", Timing.renew_deadline),
        retry=read.seconds("RETRY_PERIOD", Timing.retry),
    )
    if made.duration % 1:
        raise BadSetting(f"{PREFIX}LEASE_DURATION must be whole seconds, because a Lease knows no parts of them")
    if not made.duration > made.renew_deadline > made.retry:
        names = f"{PREFIX}LEASE_DURATION > {PREFIX}RENEW_DEADLINE > {PREFIX}RETRY_PERIOD"
        have = f"{made.duration:g} s, {made.renew_deadline:g} s and {made.retry:g} s"
        raise BadSetting(f"{names} must hold, so that a leader stops before another begins; they are {have}")
    return made


class _Reader:
    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.unread = set(values)

    def text(self, name: str, default: str) -> str:
        self.unread.discard(name)
        return self._values.get(name, default)

    def number(self, name: str, default: int, *, least: int = 0) -> int:
        text = self.text(name, str(default))
        if not (text.isascii() and text.isdigit() and int(text) >= least):
            raise BadSetting(f"{PREFIX}{name}={text!r} must be a whole number of at least {least}")
        return int(text)

    def seconds(self, name: str, default: float) -> float:
        text = self.text(name, format_duration(round(default * 1000)))
        try:
            milliseconds = parse_duration(text)
        except ValueError as error:
            raise BadSetting(f"{PREFIX}{name}={text!r} {error}") from error
        if milliseconds < 10:
            raise BadSetting(f"{PREFIX}{name}={text!r} must be 10ms or more")
        return milliseconds / 1000

    def fits(self, name: str, pattern: re.Pattern[str], words: str) -> str:
        text = self.text(name, "").strip()
        if text and not pattern.fullmatch(text):
            raise BadSetting(f"{PREFIX}{name}={text!r} must be {words}")
        return text

    def one_of(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        text = self.text(name, default)
        if text not in allowed:
            raise BadSetting(f"{PREFIX}{name}={text!r} must be one of {', '.join(allowed)}")
        return text
