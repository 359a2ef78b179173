"""What may be typed. Common options are accepted before and after the command, as kubectl's own are."""

import argparse
from typing import Any

from strategyrollout.cli.failure import DONE, FAILED, TIMED_OUT, WRONG_USE

_EPILOG = (
    f"""exit codes: {DONE} done, {FAILED} failed or refused, {WRONG_USE} wrong use, {TIMED_OUT} timed out waiting"""
)
_LEASE = "strategy-rollouts/strategy-rollouts"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The arguments; ends the process with status 2 and a sentence when they make no sense."""
    parser = argparse.ArgumentParser(
        prog="kubectl strategyrollout", description="Look at rollouts and take traffic back.", epilog=_EPILOG
    )
    _common(parser, first=True)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _status(commands)
    _rollback(commands)
    for verb, words in {
        "retry": "try the version again that was taken back",
        "resume": "end the hold that has no duration",
        "promote": "go to 100 % without the remaining steps; once more: out of the bake",
    }.items():
        _asking(commands, verb, words)
    _override(commands)
    parsed, rest = parser.parse_known_args(arguments)
    if parsed.command == "retry" and parsed.revision is None and len(rest) == 1 and not rest[0].startswith("-"):
        parsed.revision = rest.pop()  # argparse does not look for it behind an option
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return parsed


def _common(parser: argparse.ArgumentParser, *, first: bool = False) -> None:
    def option(*names: str, default: str | None = None, **words: Any) -> None:
        parser.add_argument(*names, default=default if first else argparse.SUPPRESS, **words)

    option("-n", "--namespace", metavar="NAMESPACE", help="default: the kubeconfig's current namespace")
    option("--context", metavar="CONTEXT", help="of the kubeconfig")
    option("--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, else ~/.kube/config, else the pod's own account")
    option("-o", "--output", choices=("text", "json"), default="text", help="sentences, or one JSON object (stdout)")


def _command(commands: Any, name: str, words: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=words, description=words, epilog=_EPILOG)
    _common(parser)
    parser.add_argument("name", metavar="NAME", help="the StrategyRollout")
    return parser


def _status(commands: Any) -> None:
    parser = _command(commands, "status", "where a rollout is, who serves what, and what is waited for")
    parser.add_argument("-w", "--watch", action="store_true", help="again whenever something changes, until Ctrl-C")


def _rollback(commands: Any) -> None:
    parser = _command(commands, "rollback", "take traffic back, by a Rollback object")
    parser.add_argument("--to", metavar="REVISION|VERSION", default="Previous", help="default: away from what is left")
    parser.add_argument("--reason", required=True, type=_reason, help="kept with the rollback, for people")
    _waiting(parser, "60s")


def _asking(commands: Any, verb: str, words: str) -> None:
    parser = _command(commands, verb, words)
    if verb == "retry":
        parser.add_argument("revision", metavar="REVISION", nargs="?", help="must be what the spec asks for")
    parser.add_argument("--reason", type=_reason, help="kept with the request, for people")
    _waiting(parser, "15s")


def _override(commands: Any) -> None:
    parser = _command(commands, "override", "move ALL traffic to a revision by hand, while no operator runs")
    parser.add_argument("--to", metavar="REVISION|VERSION", help="who serves everything from then on")
    parser.add_argument("--reason", required=True, type=_reason, help="kept in the table, with who you are")
    parser.add_argument(
        *("--close-router",),
        metavar="POD",
        action="append",
        default=[],
        help="your word that this router's process has ended: it is not waited for any more (name or UID; repeatable)",
    )
    parser.add_argument("--untrusted", action="store_true", help="also to a revision that never held everything")
    parser.add_argument("--even-if-operator-alive", action="store_true", help="do not look whether an operator runs")
    parser.add_argument(
        *("--operator-lease",), metavar="NAMESPACE/NAME", default=_LEASE, help=f"its leader's Lease; default {_LEASE}"
    )
    parser.add_argument("--timeout", metavar="TIME", type=_seconds, default=600.0, help="default 10m")


def _waiting(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--wait", action=argparse.BooleanOptionalAction, default=True, help="until it is done (default)"
    )
    parser.add_argument(
        "--timeout", metavar="TIME", type=_seconds, default=_seconds(default), help=f"for --wait; default {default}"
    )


def _reason(text: str) -> str:
    if not text.strip() or len(text) > 400:
        raise argparse.ArgumentTypeError("say why in 1 to 400 characters")
    return text.strip()


def _seconds(text: str) -> float:
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    for unit, size in units.items():
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdigit():
            return float(number) * size
    raise argparse.ArgumentTypeError(f"{text!r} is no time; say 30s, 5m or 1h")
