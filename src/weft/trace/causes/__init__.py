"""What moved first: metrics of a run or of anybody's system, and which of them made the others move.

    from weft.trace.causes import read_metrics, rank
    found = rank(read_metrics("normal.csv"), read_metrics("bad.csv"))

`files` and `telemetry` read metrics, `journal` makes them of a run, `shift` says how far each moved, `granger` (closed
form) and `neural` (contrastive, with the extra `torch`) who foretells whom, and `ranking` follows the moves back.
"""

from weft.trace.causes.files import read_csv, read_metrics
from weft.trace.causes.granger import Graph, granger
from weft.trace.causes.ranking import Cause, Ranking, rank
from weft.trace.causes.series import Series, entity, make_series
from weft.trace.causes.shift import change_point

__all__ = [
    "Cause",
    "Graph",
    "Ranking",
    "Series",
    "change_point",
    "entity",
    "granger",
    "make_series",
    "rank",
    "read_csv",
    "read_metrics",
]
