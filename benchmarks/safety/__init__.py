"""Are agents with narrow rights safe, and what does that cost? `python -m benchmarks.safety --help`."""
