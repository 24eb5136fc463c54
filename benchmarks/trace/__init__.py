"""Benchmarks of what explains runs: each name is a module with `figures(report, directory, quick)`."""
