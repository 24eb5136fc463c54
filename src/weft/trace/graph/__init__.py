"""Graphs of a workflow: its template before a run, what one run really made, and how runs differ."""
