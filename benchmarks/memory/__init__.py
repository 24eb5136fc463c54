"""Shared memory: what its levels promise under hostile schedules, what that costs, and kill -9 in commits."""
