"""A strategy that answers every order with its version, and whose metrics say what a test has told it to say.

The content of a container image, so the standard library alone. Port 8080 takes orders and, by GET, commands:
`/set?name=value` (`absent` takes it away), `/ready?0`, `/stamp` (samples keep today's time stamp), `/crash` (for good).
"""

import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

CRASHING = Path("/scratch/crashing")
signals = dict(pair.split("=") for pair in os.environ.get("SIGNALS", "rejects=0").split(","))
state = {"ready": os.environ.get("READY", "1") == "1", "stamp": ""}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/metrics":
            lines = (f'strategy_signal{{name="{k}"}} {v}{state["stamp"]}\n' for k, v in signals.items())
            return self.answer(200, "".join(lines))
        if url.path == "/readyz":
            return self.answer(200 if state["ready"] else 503, "")
        if url.path == "/ready":
            state["ready"] = url.query == "1"
        elif url.path == "/stamp":
            state["stamp"] = f" {int(time.time() * 1000)}"
        elif url.path == "/crash":
            CRASHING.touch()
            os._exit(3)
        for name, value in parse_qsl(url.query) if url.path == "/set" else ():
            signals.pop(name, None)
            if value != "absent":
                signals[name] = value
        return self.answer(200, "")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer(200, os.environ.get("VERSION", ""))

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


if CRASHING.exists():
    os._exit(3)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
metrics = ThreadingHTTPServer(("0.0.0.0", 9100), Handler)
threading.Thread(target=metrics.serve_forever, daemon=True).start()
ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
