"""The tables that questions are asked about: their columns, and the types of these.

Times are with time zone, in UTC; durations are seconds; money is US dollars. JSON columns are asked into by `->`.
"""

from __future__ import annotations

RUNS = {
    "run": "varchar", "workflow": "varchar", "state": "varchar", "parent": "varchar", "root": "varchar",
    "forked": "varchar", "queue": "varchar", "tenant": "varchar", "priority": "integer", "version": "varchar",
    "source": "varchar", "created": "timestamptz", "started": "timestamptz", "updated": "timestamptz",
    "seconds": "double", "records": "integer", "error": "varchar", "input": "json", "result": "json",
}  # fmt: skip
"""Processes, those that others started (`parent` is set) too. `root`: the run that it is a part of; `seconds`: from its
start to its last change."""

EFFECTS = {
    "run": "varchar", "effect": "integer", "seq": "integer", "kind": "varchar", "exact": "varchar", "name": "varchar",
    "place": "varchar", "status": "varchar", "error": "varchar", "issued": "timestamptz", "started": "timestamptz",
    "ended": "timestamptz", "seconds": "double", "waited": "double", "attempts": "integer", "money": "double",
    "tokens": "double", "cpu_seconds": "double", "memory_peak": "bigint", "child": "varchar",
}  # fmt: skip
"""As in `weft.trace.reading.Node`."""

BODIES = {"run": "varchar", "effect": "integer", "arguments": "json", "value": "json"}
"""What went into an effect and came out, as JSON."""

GENERATIONS = {
    "run": "varchar", "effect": "integer", "spec": "varchar", "model": "varchar", "status": "varchar",
    "error": "varchar", "started": "timestamptz", "seconds": "double", "input_tokens": "bigint",
    "output_tokens": "bigint", "cache_read": "bigint", "cache_write": "bigint", "reasoning": "bigint",
    "money": "double", "finish": "varchar", "cached": "boolean", "temperature": "double", "messages": "integer",
    "tools": "integer", "answer": "varchar",
}  # fmt: skip
"""`spec`: as the program named the model; `model`: as it named itself. `messages`, `tools`: how many it was given."""

TOOL_CALLS = {
    "run": "varchar", "effect": "integer", "tool": "varchar", "call": "varchar", "status": "varchar",
    "error": "varchar", "started": "timestamptz", "seconds": "double", "attempts": "integer", "arguments": "json",
    "result": "varchar",
}  # fmt: skip
"""`call`: the id that the model gave it. `status` failed, or a result that is marked as an error."""

MESSAGES = {
    "run": "varchar", "effect": "integer", "place": "integer", "role": "varchar", "kind": "varchar",
    "content": "varchar", "tool": "varchar", "call": "varchar",
}  # fmt: skip
"""The parts of messages, each once: of what a generation was given only what came after the last answer, then its own
answer."""

TABLES: dict[str, dict[str, str]] = {
    "runs": RUNS, "effects": EFFECTS, "bodies": BODIES, "generations": GENERATIONS, "tool_calls": TOOL_CALLS,
    "messages": MESSAGES,
}  # fmt: skip
