"""The organs of `weft explain` on real logs, metrics and traces: `python -m benchmarks.trace`."""
