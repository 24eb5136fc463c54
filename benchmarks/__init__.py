"""Measurements of Weft beside its peers: `python -m benchmarks.durable`. See docs/benchmarks.md."""
