"""What tells a request that was not recorded from the nearest one that was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from difflib import SequenceMatcher, unified_diff

from weft.model.cassette.tape import Question

_LINES = 40
_WIDTH = 160


def difference(asked: Question, recorded: Sequence[Question]) -> str:
    """The nearest one, and the lines in which they differ. Empty if none was recorded."""
    if not recorded:
        return ""
    number, near = max(enumerate(recorded, 1), key=lambda each: _nearness(asked, each[1]))
    lines = unified_diff(_lines(near), _lines(asked), f"recorded, request {number}", "made", lineterm="", n=1)
    shown = [line if len(line) <= _WIDTH else f"{line[:_WIDTH]}…" for line in lines]
    if len(shown) > _LINES:
        shown = [*shown[:_LINES], f"… and {len(shown) - _LINES} more lines"]
    return "\n".join(["\nThe nearest one there:", *shown])


def _nearness(one: Question, other: Question) -> tuple[bool, bool, float]:
    """Address first, then the method, then the share of the body's words that are the same."""
    mine, others = (" ".join(_lines(each)).split() for each in (one, other))
    same = SequenceMatcher(None, mine, others, autojunk=False).quick_ratio()
    return one.url == other.url, one.method == other.method, same


def _lines(question: Question) -> list[str]:
    try:
        body = json.dumps(json.loads(question.body), indent=1, sort_keys=True, ensure_ascii=False)
    except ValueError:
        body = question.body.decode("utf-8", "backslashreplace")
    return [str(question), *body.splitlines()]
