"""Errors at the command line: one sentence on stderr, and an exit code.

0 done · 1 the run failed · 2 bad usage or input · 3 unknown run, question or cell, or another process has it ·
4 the store · 130 interrupted
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import typer

P = ParamSpec("P")
R = TypeVar("R")

FAILED, USAGE, UNKNOWN, STORE, INTERRUPTED = 1, 2, 3, 4, 130


class RunFailed(Exception):
    """The workflow itself raised; `error` is what it raised, `refused` lines about what it was not allowed."""

    def __init__(self, run: str, error: BaseException, refused: Sequence[str] = ()) -> None:
        super().__init__(run)
        self.run = run
        self.error = error
        self.refused = refused


class Interrupted(Exception):
    """ctrl-C or SIGTERM; `run` can be resumed."""

    def __init__(self, run: str | None) -> None:
        super().__init__(run)
        self.run = run


def complain(text: str) -> None:
    """One message on stderr, without secrets."""
    from weft.core.secret import Redactor

    print(f"weft: {Redactor().redact_text(text)}", file=sys.stderr)


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """Turn whatever a command raises into a sentence and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            complain("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except Exception as error:
            if os.environ.get("WEFT_DEBUG"):
                traceback.print_exc()
            code = explain(error)
            if code == INTERRUPTED:  # a step that sits in a thread must not keep an interrupted command alive
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
            raise typer.Exit(code) from None

    return run


def explain(error: Exception) -> int:
    """Print what happened; the exit code."""
    from weft.core import errors

    if isinstance(error, RunFailed):
        cause = error.error
        name = "" if isinstance(cause, errors.WeftError) else f"{type(cause).__name__}: "
        said = str(cause)
        if error.refused and type(cause) is errors.Denied:
            said = said.removesuffix(f"; {cause.fix}")  # it stands below, with the others
        advice = f"see: weft show {error.run}"
        if not any("weft fork" in line for line in error.refused):
            advice += f"; once mended, go on with: weft fork {error.run} --at N"
        complain("\n".join([f"run {error.run} failed: {name}{said}; {advice}", *_refused(error)]))
        return FAILED
    if isinstance(error, Interrupted):
        where = f"; nothing is lost, continue with: weft resume {error.run}" if error.run else ""
        complain(f"interrupted{where}")
        return INTERRUPTED
    codes: tuple[tuple[Any, int], ...] = (
        ((errors.UnknownRun, errors.RunBusy, errors.UnknownQuestion, errors.NoObject), UNKNOWN),
        (errors.StoreError, STORE),
        ((errors.BadInput, errors.UnknownWorkflow, errors.NotStorable), USAGE),
        (errors.WeftError, FAILED),
    )
    for kinds, code in codes:
        if isinstance(error, kinds):
            complain(str(error))
            return code
    complain(f"{type(error).__name__}: {error} (this is a fault of Weft: WEFT_DEBUG=1 shows where)")
    return FAILED


def _refused(error: RunFailed) -> list[str]:
    return ["it was refused:", *error.refused] if error.refused else []
