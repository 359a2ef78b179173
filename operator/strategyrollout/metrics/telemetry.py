"""Figures of the query plane for the operator's own `/metrics`: what the gates cost, and whether it can see."""

from prometheus_client import Counter, Gauge, Histogram

QUERIES = Counter("strategyrollout_queries", "Queries sent to a Prometheus, by what became of them.", ["outcome"])
QUERY_SECONDS = Histogram(
    "strategyrollout_query_seconds",
    "From asking a query until its answer is readable by all gates that share it.",
    buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
DISTINCT = Gauge("strategyrollout_distinct_queries", "Queries that are asked again and again, each for all its gates.")
