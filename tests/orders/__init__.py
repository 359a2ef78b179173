"""A sender of orders for tests, benchmarks and the demo: many accounts, kept connections, nothing lost unnoticed."""
