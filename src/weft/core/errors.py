"""Every error that Weft raises on purpose: each says what happened, where, and what to do."""

from __future__ import annotations


class WeftError(Exception):
    """Base of all errors raised by Weft itself (never of those raised by a user's step)."""


# --- programs -------------------------------------------------------------------------------------


class NotStorable(WeftError, TypeError):
    """A value has no journal form. `path` names the offending part, e.g. ``result.items[3].callback``."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(path, reason)

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class NoProcess(WeftError, RuntimeError):
    """An effect was used outside a workflow's body."""


class Nondeterminism(WeftError, RuntimeError):
    """A body touched the clock, global randomness or the outside world other than through an effect."""


class Divergence(WeftError):
    """The code no longer matches its journal: names the effect recorded, the one found, and both places."""


class Deadlock(WeftError):
    """Every task of a body waits for something that nothing will ever deliver."""


class StepTimeout(WeftError, TimeoutError):
    """A step did not finish within its `timeout`."""


class UnknownOutcome(WeftError):
    """An at-most-once step was in flight when the process died: it may or may not have happened."""


class Cancelled(WeftError):
    """The run was cancelled."""


class Restored(Cancelled):
    """The run was ended because a checkpoint was restored. `goes_on`: it is in the checkpoint, and another run goes on
    from there in its place."""

    def __init__(self, run: str, checkpoint: str, goes_on: bool) -> None:
        self.run = run
        self.checkpoint = checkpoint
        self.goes_on = goes_on
        super().__init__(run, checkpoint, goes_on)

    def __str__(self) -> str:
        what = "another run goes on from there in its place" if self.goes_on else "it did not exist then"
        return f"run {self.run} was killed, for checkpoint {self.checkpoint} was restored: {what}"


class ExecutorError(WeftError):
    """The executor that a step is declared for (a Ray cluster) cannot be reached or cannot run it."""


class ExecutorLost(ExecutorError):
    """The worker or the machine that ran a step died, too many times."""


class CrashLoop(WeftError):
    """The operating-system process died repeatedly at the same place of a run."""


class RemoteError(WeftError):
    """Stands for a recorded exception whose class no longer exists or cannot be rebuilt."""

    def __init__(self, type_name: str, message: str) -> None:
        self.type_name = type_name
        self.message = message
        super().__init__(type_name, message)

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}"


class SecretUnset(WeftError, LookupError):
    """A declared secret has no value in the environment."""


class BadInput(WeftError, ValueError):
    """Arguments do not fit the workflow, message or command."""


# --- rights and budgets ---------------------------------------------------------------------------------


class Denied(WeftError, PermissionError):
    """An effect was refused. `action` and `resource` say what was asked; `why` who refused; `fix` what to add."""

    def __init__(self, action: str, resource: str, why: str, fix: str = "") -> None:
        self.action = action
        self.resource = resource
        self.why = why
        self.fix = fix
        super().__init__(action)  # an OSError would take more for an error number and a file
        self.args = (action, resource, why, fix)

    def __str__(self) -> str:
        return f"{self.action} of {self.resource!r} is denied: {self.why}" + (f"; {self.fix}" if self.fix else "")


class BudgetExceeded(WeftError):
    """An effect would cost more than its process, or one of its ancestors, may still spend. `kind` is turns, tokens,
    money, seconds, effects or children; `process` whose budget it is; `left` what is left of it."""

    def __init__(self, kind: str, process: str, limit: float, left: float, asked: float) -> None:
        self.kind = kind
        self.process = process
        self.limit = limit
        self.left = left
        self.asked = asked
        super().__init__(kind, process, limit, left, asked)

    def __str__(self) -> str:
        return (
            f"the budget of run {self.process} allows {self.limit:g} {self.kind}, of which {self.left:g} are left; "
            f"this would take {self.asked:g}: do with less, hand in what there is, or start it with a larger budget"
        )


class QuestionExpired(WeftError, TimeoutError):
    """Nobody answered a question in time, and it has no default."""


class UnknownQuestion(WeftError, LookupError):
    """No open question has this id."""


class ReleaseNeeded(Denied):
    """A labelled value would reach a sink that is not cleared for it. `label`: what it carries; `sink` and `value`:
    what a release of it names (`Runtime.release`)."""

    def __init__(self, action: str, resource: str, why: str, fix: str = "", label: str = "", value: str = "") -> None:
        super().__init__(action, resource, why, fix)
        self.label = label
        self.value = value
        self.args = (action, resource, why, fix, label, value)

    @property
    def sink(self) -> str:
        """Where it would have gone, as one text."""
        return f"{self.action}:{self.resource}"


# --- resources --------------------------------------------------------------------------------------------


def size_text(size: float) -> str:
    """ "1.5 GB" (units are powers of 1024)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.3g} {unit}"


class OverLimit(WeftError):
    """A call took more of the machine than it may: it was ended, with all that it had started."""


class OverMemory(OverLimit, MemoryError):
    """A call was ended for its memory. `peak` and `limit` in bytes; `advice`: what to do differently."""

    def __init__(self, peak: int, limit: int, advice: str = "") -> None:
        self.peak = peak
        self.limit = limit
        self.advice = advice or (
            f"work on less at once (fewer tests, a part of the file, smaller batches), or ask for more: "
            f"memory={max(limit, peak) * 2 // 2**20}M"
        )
        super().__init__(peak, limit, self.advice)

    def __str__(self) -> str:
        return (
            f"ended for memory: it reached {size_text(self.peak)} and may take {size_text(self.limit)}; {self.advice}"
        )


class OverPids(OverLimit):
    """A call was ended because it started more processes or threads than `limit`."""

    def __init__(self, limit: int, advice: str = "") -> None:
        self.limit = limit
        self.advice = advice or (
            f"run fewer in parallel (such as -j{max(1, limit // 4)}), look for a process that starts itself again, or "
            f"ask for more: pids={limit * 2}"
        )
        super().__init__(limit, self.advice)

    def __str__(self) -> str:
        return f"ended for processes: it may have {self.limit} at once and wanted more; {self.advice}"


class OverDisk(OverLimit):
    """A call was ended for what it wrote. `written` and `limit` in bytes."""

    def __init__(self, written: int, limit: int, advice: str = "") -> None:
        self.written = written
        self.limit = limit
        self.advice = advice or (
            f"write less (a filter before the file, no build artefacts), or ask for more: disk={limit * 2 // 2**20}M"
        )
        super().__init__(written, limit, self.advice)

    def __str__(self) -> str:
        return (
            f"ended for disk: it wrote {size_text(self.written)} and may write {size_text(self.limit)}; {self.advice}"
        )


class OverTime(OverLimit, StepTimeout):
    """A call was ended because it took longer than `limit` seconds, not counting those in which it was paused."""

    def __init__(self, seconds: float, limit: float, advice: str = "") -> None:
        self.seconds = seconds
        self.limit = limit
        self.advice = advice or f"do a part of it, or ask for more: seconds={limit * 2:g}"
        super().__init__(seconds)  # an OSError would take more for an error number and a file
        self.args = (seconds, limit, self.advice)

    def __str__(self) -> str:
        return f"ended for time: {self.seconds:.3g} s of {self.limit:g} s; {self.advice}"


class SandboxMissing(WeftError):
    """What a sandbox needs is not on this machine; says what to install, or which weaker wall there is."""


class ChangedMeanwhile(WeftError):
    """A sandboxed job's change was not carried over: somebody else changed `path` since the job began."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(path)

    def __str__(self) -> str:
        return f"{self.path} was changed by somebody else since the job began: nothing was carried over; run it again"


# --- shared memory ---------------------------------------------------------------------------------------


class MemoryConflict(WeftError):
    """An operation's commit was refused, and nothing of it was written. `stale`: cells that others wrote since it read
    them; `dead`: operations that it builds on and that were retracted."""

    def __init__(self, operation: str, level: str, stale: list[str], dead: list[str]) -> None:
        self.operation = operation
        self.level = level
        self.stale = stale
        self.dead = dead
        super().__init__(operation, level, stale, dead)

    def __str__(self) -> str:
        parts = []
        if self.stale:
            parts.append(f"others have written {', '.join(self.stale)} since it was read")
        if self.dead:
            parts.append(f"it builds on {', '.join(self.dead)}, which was retracted or builds on what was")
        return (
            f"operation {self.operation} ({self.level}) was refused: {' and '.join(parts)}; do it again, as a function "
            f"under @memory.operation() does by itself, give it a merge function, or choose a lower level"
        )


class NoObject(WeftError, LookupError):
    """Nothing is in this cell of shared memory."""


class PhantomTool(WeftError, LookupError):
    """A tool that was planned with is not there any more, or is another by now."""


# --- stores and runs --------------------------------------------------------------------------------


class StoreError(WeftError):
    """The journal could not be read or written."""


class StoreFull(StoreError):
    """The disk that holds the journal is full."""


class StoreReadOnly(StoreError):
    """The journal may not be written."""


class StoreCorrupt(StoreError):
    """The journal's file is damaged or is not a journal."""


class StoreTooNew(StoreError):
    """The journal was written by a newer Weft."""


class StoreUnreachable(StoreError):
    """The server that holds the journal does not answer."""


class LeaseLost(StoreError):
    """This runtime was silent for too long: others took its processes over, and it may write nothing more."""


class UnknownRun(WeftError, LookupError):
    """No run has this id (or more than one fits the abbreviation)."""


class RunMoved(UnknownRun):
    """The run goes on in another store; the message names it."""


class UnknownCheckpoint(UnknownRun):
    """No checkpoint has this id or name (or more than one fits the abbreviation), or part of it was deleted."""


class UnknownWorkflow(WeftError, LookupError):
    """The workflow that a run belongs to is not in the code at hand."""


class UnknownType(WeftError, LookupError):
    """A recorded value's class is not in the code at hand, or has changed so that the value no longer fits."""


class RunBusy(WeftError):
    """Another operating-system process is executing this run."""


class KeyConflict(WeftError):
    """The idempotency key was used before with another workflow or another input."""


class MissingExtra(WeftError, ImportError):
    """An optional part is not installed; the message names the extra."""


# --- models and tools ---------------------------------------------------------------------------------


class ModelError(WeftError):
    """A model could not answer: the server refused the request, or its answer does not fit the schema."""


class ModelUnavailable(ModelError):
    """A model's file could not be fetched, or its server cannot be reached or started."""


class ModelBusy(ModelUnavailable):
    """The provider limits how much it answers, or is overloaded. `retry_after`: seconds, if it said so."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message, retry_after)

    def __str__(self) -> str:
        return str(self.args[0])


class KeyRefused(ModelError):
    """The provider does not take the key, or the key may not use this model."""


class UnknownModel(ModelError, LookupError):
    """The provider has no model of this name."""


class AnswerMisfit(ModelError, ValueError):
    """What the model answered does not fit the schema that was asked for, or is no answer at all."""


class ModelCrashed(ModelError):
    """The local engine's process died; the next call starts it anew."""


class EngineUnfit(ModelError):
    """The local engine's library is not the release that it was made for; generations go through its server."""


class OutOfCells(ModelError):
    """An engine has no room for more tokens or sequences: trim or close some, or open it with more cells."""


class ModelTimeout(ModelError, TimeoutError):
    """A generation did not finish in time."""


class PromptTooLong(ModelError, ValueError):
    """A prompt does not fit in the model's context."""


class InputNeeded(WeftError):
    """A tool can go on only with answers that it has not: `asking` says to what."""

    def __init__(self, message: str, asking: object) -> None:
        self.asking = asking
        super().__init__(message, asking)

    def __str__(self) -> str:
        return str(self.args[0])


class GitError(WeftError):
    """A git repository could not be read."""


OURS = (
    *(BudgetExceeded, Cancelled, CrashLoop, Deadlock, Divergence, Nondeterminism, NoProcess, NotStorable, StoreError),
    *(UnknownType, InputNeeded),
)
"""What ends the program, or is for it to handle: never told to a model in place of being raised."""
