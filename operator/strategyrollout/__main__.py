"""`python -m strategyrollout`: the operator."""

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime

from strategyrollout.cluster.access import find_access
from strategyrollout.process import Process
from strategyrollout.settings import BadSetting, Settings, from_environment


class JsonLines(logging.Formatter):
    """One object a line, for machines to read."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(settings: Settings) -> None:
    """To standard error. Kopf's chatter about single objects is left out."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if settings.log_format == "json" else text)
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def main() -> int:
    """Runs the operator; returns the exit status."""
    try:
        settings = from_environment()
    except BadSetting as error:
        print(error, file=sys.stderr)
        return 2
    set_up_logging(settings)

    try:
        access = find_access()
    except OSError as error:
        print(f"cannot tell which API server to use: {error}", file=sys.stderr)
        return 2

    async def run() -> int:
        return await Process(settings, access).run()

    return asyncio.run(run())


if __name__ == "__main__":
    sys.exit(main())
