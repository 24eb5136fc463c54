"""Seeing what happened: `python -m benchmarks.observe`."""
