"""Every knob of the operator process, read once from its environment; docs/settings.md explains each."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from strategyrollout.api.scalars import format_duration, parse_duration

PREFIX = "STRATEGYROLLOUT_"
# Kubernetes puts variables of this shape into pods for a Service that happens to be called strategyrollout-...
_SERVICE_LINK = re.compile(r"(^|.*_)(SERVICE_(HOST|PORT.*)|PORT(_[0-9]+_(TCP|UDP|SCTP).*)?)$")


class BadSetting(Exception):
    """A variable that cannot be understood; the message names it and says what it should be."""


@dataclass(frozen=True)
class Settings:
    """Times are in seconds."""

    namespaces: tuple[str, ...] = ()
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

    def one_of(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        text = self.text(name, default)
        if text not in allowed:
            raise BadSetting(f"{PREFIX}{name}={text!r} must be one of {', '.join(allowed)}")
        return text
