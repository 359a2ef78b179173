"""The history checker: what routers served and what the API held, judged by the rules that may not be broken."""

from tests.history.history import History
from tests.history.records import Order, Replicas, Version, Violation

__all__ = ["History", "Order", "Replicas", "Version", "Violation"]
