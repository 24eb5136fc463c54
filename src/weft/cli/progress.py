"""What a run is doing, live, on stderr."""

from __future__ import annotations

import sys
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Any

from weft.core.record import AnyRecord, Attempt, Outcome

if TYPE_CHECKING:
    from rich.table import Table

    from weft.runtime.runtime import Runtime

QUIET = frozenset({"timer", "child", "now", "random", "uuid"})


class Progress:
    """A context manager: a table that is redrawn on a terminal, plain lines elsewhere."""

    def __init__(self, runtime: Runtime, run: str, workflow: str) -> None:
        self.runtime = runtime
        self.run = run
        self.workflow = workflow
        self.began = monotonic()
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.retried: Counter[str] = Counter()
        self.live: Any = None
        runtime.observe(self._saw)

    def _saw(self, process: str, record: AnyRecord) -> None:
        if isinstance(record, Outcome) and record.kind not in QUIET:
            name = record.name if record.kind == "step" else f"{record.kind} {record.name}"
            (self.done if record.ok else self.failed)[name] += 1
        elif isinstance(record, Attempt):
            self.retried[record.name] += 1

    def __enter__(self) -> Progress:
        print(f"run {self.run}  ({self.workflow}; look at it with: weft show {self.run})", file=sys.stderr, flush=True)
        self.show()
        return self

    def show(self) -> None:
        """Draw the table, if there is a terminal to draw it on."""
        if self.live is None and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(
                get_renderable=self.table, console=Console(stderr=True), refresh_per_second=8, transient=True
            )
            self.live.start()

    def hide(self) -> None:
        """Leave the terminal to somebody else."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.hide()
        seconds = monotonic() - self.began
        effects = sum(self.done.values()) + sum(self.failed.values())
        if kind is None:
            print(f"run {self.run} done in {seconds:.1f} s, {effects:,} effects", file=sys.stderr)

    def table(self) -> Table:
        from rich.table import Table

        running = Counter(e.step.name for e in self.runtime.steps.running.values())
        seconds = monotonic() - self.began
        table = Table(title=f"{self.workflow}  {self.run}  {seconds:.0f} s", title_justify="left", box=None)
        for heading in ("effect", "running", "done", "failed", "retried", "per second"):
            table.add_column(heading, justify="left" if heading == "effect" else "right")
        for name in sorted({*running, *self.done, *self.failed}):
            done = self.done[name] + self.failed[name]
            numbers = (running[name], self.done[name], self.failed[name], self.retried[name])
            table.add_row(name, *(f"{n:,}" if n else "" for n in numbers), f"{done / max(seconds, 0.1):.1f}")
        return table
