"""What a model is told when a call of a tool fails, and which failures are no affair of the model's."""

from __future__ import annotations

from weft.core.boundary import boundary
from weft.core.errors import (
    Denied,
    RemoteError,
    StepTimeout,
    UnknownOutcome,
)
from weft.core.failure import text_of
from weft.core.secret import Redactor
from weft.tool.parameters import Misfit

LONGEST = 4_000
"""Characters of an error that a model is told."""


class ToolRetry(Exception):
    """Raised by a tool or a hook: this call came to nothing, and the message tells the model what to do instead."""


def told(error: Exception) -> str:
    """The failure in words for a model: what went wrong, and what it can do; no traceback, no secrets."""
    text = _words(error)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]}\n[... {len(text) - LONGEST} characters left out ...]\n{text[-LONGEST // 2 :]}"
    # In a process, what an effect raises has none left; but a hook's words do not pass the journal.
    process = boundary()
    redactor: Redactor = Redactor() if process is None else process.runtime.journal.redactor
    return redactor.redact_text(text)


def _words(error: Exception) -> str:
    match error:
        case ToolRetry():
            return text_of(error) or "this did not work: try something else"
        case Misfit():
            return str(error)
        case Denied():
            # Rules name the run that they are for: no affair of the model's, and otherwise in each run.
            process = boundary()
            why = "" if process is not None and process.id in error.why else f" ({error.why})"
            return f"not allowed: {error.action} of {error.resource!r} is denied{why}; do it another way"
        case StepTimeout():
            return f"it did not finish in time: {text_of(error)}"
        case UnknownOutcome():
            return (
                "it was under way when the machine failed, so it may or may not have been done: find out which before "
                "you try again"
            )
        case RemoteError():
            return text_of(error)
    name, message = type(error).__name__, text_of(error)
    notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
    return (f"{name}: {message}" if message else name) + notes
