"""Walls around what a model wrote: one interface, several sandboxes, chosen by need and by what the machine offers.

    wall = choose("process")
    done = await run(wall, Job(argv=["pytest", "-q"], copy=[folder], cwd=folder, resources=Resources(seconds=60)))
    print(done.status, done.stdout.text, done.changes)
    done.take()

How a wall holds is shown by `tests/test_escapes.py`; what it costs by `benchmarks/walls.py`.
"""

from __future__ import annotations

from weft.runtime.sandbox.choose import choose, report, walls
from weft.runtime.sandbox.copy import Change
from weft.runtime.sandbox.job import Job, Streams
from weft.runtime.sandbox.pool import Pool
from weft.runtime.sandbox.scratch import reap
from weft.runtime.sandbox.session import Reply, Session
from weft.runtime.sandbox.streams import Output
from weft.runtime.sandbox.wall import Availability, Chunk, Finished, Running, Wall, run

__all__ = [
    "Availability", "Change", "Chunk", "Finished", "Job", "Output", "Pool", "Reply", "Running", "Session",
    "Streams", "Wall", "choose", "reap", "report", "run", "walls",
]  # fmt: skip
