"""The example strategy: a small trading simulation that runs as a pod of tests, benchmarks and the demo."""
