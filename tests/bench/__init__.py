"""Benchmarks: how long a revert takes and what holding costs, as distributions. See docs/bench.md."""
