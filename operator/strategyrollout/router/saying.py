"""Log lines on change only: a router that cannot reach the API server must not fill its log with saying so."""

import logging

log = logging.getLogger("router")


class Saying:
    """The last thing said about one subject."""

    def __init__(self) -> None:
        self._last = ""

    def well(self, sentence: str) -> None:
        """As wanted."""
        self._say(logging.INFO, sentence)

    def badly(self, sentence: str) -> None:
        """Something is wrong and is tried again."""
        self._say(logging.WARNING, sentence)

    def _say(self, level: int, sentence: str) -> None:
        if sentence != self._last:
            self._last = sentence
            log.log(level, "%s", sentence)
