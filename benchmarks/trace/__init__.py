"""What is read out of traces, beside its peers: `python -m benchmarks.trace NAME DIR`."""
